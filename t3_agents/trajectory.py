"""What an agent did: a [`Trajectory`] of [`Step`]s, its record and its row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import InputError
from .storage import BlobStore, reject_unknown, require
from .task import File, Task
from .turns import Step, render_messages


FORMAT = "t3-trajectory/1"
END_REASONS = ("answer", "max_steps", "max_errors", "token_budget", "time_budget", "failed")


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
            "task": self.task.to_dict(),
            "system_prompt": self.system_prompt,
            "steps": [step.to_dict() for step in self.steps],
            "images": [image.to_dict() for image in self.images],
            "answer": self.answer,
            "end_reason": self.end_reason,
            "verification": self.verification,
            "provenance": self.provenance,
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
        version = require(record, "format", str, "trajectory")
        if version != FORMAT:
            raise InputError(f"The trajectory has format `{version}`; this version reads `{FORMAT}`.")
        names = {f.name for f in fields(cls)}
        reject_unknown(record, names | {"format"}, "trajectory")
        trajectory = cls(
            task=Task.from_dict(require(record, "task", dict, "trajectory"), blobs),
            system_prompt=require(record, "system_prompt", str, "trajectory"),
            steps=[Step.from_dict(step) for step in require(record, "steps", list, "trajectory")],
            images=[File.from_dict(image, blobs) for image in require(record, "images", list, "trajectory")],
            answer=require(record, "answer", (str, type(None)), "trajectory"),
            end_reason=require(record, "end_reason", str, "trajectory"),
            verification=require(record, "verification", dict, "trajectory", default={}),
            provenance=require(record, "provenance", dict, "trajectory", default={}),
        )
        trajectory.check()
        return trajectory

    def stored_in(self, blobs: BlobStore) -> Trajectory:
        """The same trajectory with the bytes of its files and pictures in `blobs`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        task = {f.name: getattr(self.task, f.name) for f in fields(self.task)}
        task["files"] = tuple(file.stored_in(blobs) for file in self.task.files)
        values["task"] = Task(**task)
        values["images"] = [image.stored_in(blobs) for image in self.images]
        return Trajectory(**values)

    def to_row(self) -> dict[str, Any]:
        """The record as a row of the MM-Traj dataset: bytes included, structured columns for filtering.

        `steps[].output_ids` keeps the produced token ids where the controller was a local model, so that training sees
        the same ids.
        """
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
            "steps": [
                {
                    "thought": step.thought,
                    "code": step.code,
                    "observation": step.observation,
                    "error": step.error,
                    "images": step.images,
                    "tools": step.tools,
                    "output_ids": step.output_ids,
                }
                for step in self.actions
            ],
            "answer": self.answer,
            "ground_truth": self.task.ground_truth,
            "tools": sorted({tool for step in self.actions for tool in step.tools}),
            "domain": self.task.domain,
            "num_steps": len(self.actions),
            "verification": self.verification,
            "provenance": {**self.provenance, "origin": self.task.origin, "end_reason": self.end_reason},
        }
