"""What goes through the stages: a [`Candidate`] with everything that is known of it so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from t3_agents.errors import InputError
from t3_agents.storage import BlobStore, from_record
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory


FORMAT = "t3-candidate/1"
FLAVORS = ("gta", "gaia")
"""Tasks with pictures and perception tools, and tasks with documents and web search."""


@dataclass(frozen=True)
class PlannedFile:
    """A file that a task needs, before it exists.

    Args:
        name (`str`): file name with extension, such as `menu.png`.
        kind (`str`): the extension without its dot, lower case.
        content (`str`): what must be in it, in words.
    """

    name: str
    kind: str
    content: str


@dataclass(frozen=True)
class Verdict:
    """What a verifier said.

    Args:
        stage (`str`): the stage that judged.
        accepted (`bool`): whether the candidate goes on.
        reason (`str`): why, in one sentence.
        checks (`dict[str, bool]`): the single questions and how they were answered.
    """

    stage: str
    accepted: bool
    reason: str
    checks: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A task on its way through the stages. A stage returns a new one.

    Args:
        id (`str`): `<flavor>-<batch>-<number>`.
        flavor (`str`): one of `FLAVORS`.
        query (`str`): the user's words.
        expected_tools (`tuple[str, ...]`): tools that the teacher expects to be needed.
        domain (`str`): one of the paper's domains.
        split (`str`): `train`, `validation` or `test`; the seed queries of one split are shown for no other.
        seed_queries (`tuple[str, ...]`): ids of the seed queries that the teacher was shown.
        from_web (`tuple[str, ...]`): pieces of information that are to be found on the web.
        plan (`tuple[PlannedFile, ...]`): files that hold the rest.
        files (`tuple[File, ...]`): the files once they are made, in the order of `plan`.
        verdicts (`tuple[Verdict, ...]`): what the verifiers said so far.
        trajectory (`Trajectory`, *optional*): how the task was solved.
        provenance (`dict`): by stage a JSON-safe dict: teacher `model` as the server named it, `prompt` version,
            `input_tokens`, `output_tokens`, `cost`, `attempts`, and what else the stage wants to be known.
    """

    id: str
    flavor: str
    query: str
    expected_tools: tuple[str, ...] = ()
    domain: str = "others"
    split: str = "train"
    seed_queries: tuple[str, ...] = ()
    from_web: tuple[str, ...] = ()
    plan: tuple[PlannedFile, ...] = ()
    files: tuple[File, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    trajectory: Trajectory | None = None
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        if self.flavor not in FLAVORS:
            raise InputError(f"There is no flavor `{self.flavor}`; choose one of: {', '.join(FLAVORS)}.")

    def to_task(self) -> Task:
        """The candidate as the task that an agent is given."""
        return Task.create(
            self.query,
            self.files,
            tools=self.expected_tools,
            domain=self.domain,
            origin={"candidate": self.id, "flavor": self.flavor, "seed_queries": list(self.seed_queries)},
        )

    def add(self, stage: str, provenance: dict[str, Any], **changes: Any) -> Candidate:
        """A candidate with `changes` and with the provenance of a stage."""
        return replace(self, provenance={**self.provenance, stage: provenance}, **changes)

    def stored_in(self, blobs: BlobStore) -> Candidate:
        """The same candidate with the bytes of its files and pictures in `blobs`."""
        trajectory = self.trajectory.stored_in(blobs) if self.trajectory else None
        return replace(self, files=tuple(file.stored_in(blobs) for file in self.files), trajectory=trajectory)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe record. Files are named by digest; [`stored_in`] keeps their bytes."""
        return {
            "format": FORMAT,
            "id": self.id,
            "flavor": self.flavor,
            "query": self.query,
            "expected_tools": list(self.expected_tools),
            "domain": self.domain,
            "split": self.split,
            "seed_queries": list(self.seed_queries),
            "from_web": list(self.from_web),
            "plan": [asdict(file) for file in self.plan],
            "files": [file.to_dict() for file in self.files],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "trajectory": self.trajectory.to_dict() if self.trajectory else None,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], blobs: BlobStore | None = None) -> Candidate:
        """Read a record of [`to_dict`].

        Args:
            record (`dict`): read from JSON.
            blobs ([`BlobStore`], *optional*): where the bytes of files and pictures are.

        Raises:
            InputError: naming the field that is missing, unknown or of a wrong type.
        """
        return from_record(
            cls,
            record,
            "candidate",
            FORMAT,
            plan=lambda file: from_record(PlannedFile, file, "planned file"),
            files=lambda file: File.from_dict(file, blobs),
            verdicts=lambda verdict: from_record(Verdict, verdict, "verdict"),
            trajectory=lambda trajectory: Trajectory.from_dict(trajectory, blobs),
        )


class Dropped(Exception):
    """A stage ended the way of a candidate.

    Args:
        stage (`str`): the stage.
        reason (`str`): why, in one sentence.
        candidate ([`Candidate`]): as far as it came, verdicts and provenance included.
    """

    def __init__(self, stage: str, reason: str, candidate: Candidate):
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.candidate = candidate


class Rejected(Dropped):
    """The candidate is not good enough. This is a result, which is kept with its reason."""


class Failed(Dropped):
    """The teacher or a tool could not do its part, so nothing is known of the candidate."""
