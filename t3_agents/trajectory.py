"""What an agent did: a [`Trajectory`] of [`Step`]s, its record and its row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import InputError
from .storage import BlobStore, from_record, require
from .task import File, Task
from .turns import Step, render_messages


FORMAT = "t3-trajectory/1"
END_REASONS = ("answer", "max_steps", "max_errors", "token_budget", "time_limit", "failed")
STEP_COLUMNS = ("thought", "code", "observation", "error", "images", "tools", "output_ids")
"""What a dataset row holds of a step; `output_ids` lets training see the ids of a run of a local model."""


@dataclass
class Trajectory:
    """The versioned, JSON-safe record of one run.

    Args:
        task ([`Task`]): what was asked.
        system_prompt (`str`): the rendered system prompt.
        steps (`list[Step]`): what was done.
        images (`list[File]`): every picture in order of appearance: attachments first, then those that steps brought.
        answer (`str`, *optional*): what the agent answered.
        end_reason (`str`): one of `END_REASONS`.
        verification (`dict`): verdicts by verifier name, each `{"passed": bool, "reasons": list[str]}`.
        provenance (`dict`): controller and revision, toolbox with versions, prompt name, package version, seed.
    """

    task: Task
    system_prompt: str = ""
    steps: list[Step] = field(default_factory=list)
    images: list[File] = field(default_factory=list)
    answer: str | None = None
    end_reason: str = "answer"
    verification: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def actions(self) -> list[Step]:
        return [step for step in self.steps if step.kind == "action"]

    def check(self) -> None:
        """Check the record's own rules.

        Raises:
            InputError: when the end reason is unknown, the pictures are not referred to once and in order, or a value
                cannot be written as JSON.
        """
        if self.end_reason not in END_REASONS:
            raise InputError(
                f"Field `end_reason` of the trajectory must be one of {', '.join(END_REASONS)}, not "
                f"`{self.end_reason}`."
            )
        shown = [index for step in self.steps for index in step.images]
        first = len(self.task.images)
        if list(range(first, len(self.images))) != shown:
            raise InputError(
                f"Field `images` of the trajectory {self.task.id} has {len(self.images)} entries, but the task has "
                f"{first} pictures and the steps refer to {shown}: every picture must come up once, in order."
            )
        try:
            json.dumps([self.verification, self.provenance], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Fields `verification` and `provenance` of the trajectory must be JSON-safe: {error}."
            ) from None

    def to_messages(self) -> list[dict[str, Any]]:
        """The conversation as chat messages with image placeholders; the pictures are `images`, in that order."""
        return render_messages(self.system_prompt, self.task.text(), len(self.task.images), self.steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe record. Pictures and files are named by digest; [`stored_in`] keeps their bytes."""
        self.check()
        return {
            "format": FORMAT,
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "task": self.task.to_dict(),
            "steps": [step.to_dict() for step in self.steps],
            "images": [image.to_dict() for image in self.images],
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], blobs: BlobStore | None = None) -> Trajectory:
        """Read a record.

        Args:
            record (`dict`): what [`to_dict`] gave.
            blobs ([`BlobStore`], *optional*): where the bytes of files and pictures are.

        Raises:
            InputError: naming the field that is missing, unknown, of a wrong type or inconsistent.
        """
        trajectory = from_record(
            cls,
            record,
            "trajectory",
            FORMAT,
            task=lambda task: Task.from_dict(task, blobs),
            steps=Step.from_dict,
            images=lambda image: File.from_dict(image, blobs),
        )
        for name in ("system_prompt", "answer", "end_reason"):
            require(record, name, object, "trajectory")
        trajectory.check()
        return trajectory

    def stored_in(self, blobs: BlobStore) -> Trajectory:
        """The same trajectory with the bytes of its files and pictures in `blobs`."""
        task = replace(self.task, files=tuple(file.stored_in(blobs) for file in self.task.files))
        return replace(self, task=task, images=[image.stored_in(blobs) for image in self.images])

    def to_row(self) -> dict[str, Any]:
        """The record as a row of the MM-Traj dataset: bytes included, structured columns for filtering."""
        self.check()
        return {
            "id": self.task.id,
            "query": self.task.query,
            "files": [
                {"path": f.path, "bytes": f.read_bytes(), "media_type": f.media_type, "sha256": f.sha256}
                for f in self.task.files
                if not f.is_image
            ],
            "images": [{"path": image.path, "bytes": image.read_bytes()} for image in self.images],
            "messages": self.to_messages(),
            "steps": [{name: getattr(step, name) for name in STEP_COLUMNS} for step in self.actions],
            "answer": self.answer,
            "ground_truth": self.task.ground_truth,
            "tools": sorted({tool for step in self.actions for tool in step.tools}),
            "domain": self.task.domain,
            "num_steps": len(self.actions),
            "verification": self.verification,
            "provenance": {**self.provenance, "origin": self.task.origin, "end_reason": self.end_reason},
        }
