"""What a synthesis run leaves on disk, and how a killed run resumes.

- `queries.jsonl`: batches of queries in their order, with the near duplicates that were found.
- `shards/`: kept trajectories, as `dataset_builder.export` reads them; `blobs/`: their files by digest.
- `rejected/`, `failed/`: what was dropped, with its reason.
- `in_flight/<id>.json`: a candidate after its last finished stage. Written without waiting for the disk: a process
  that is killed loses nothing of it, a machine that loses power repeats these stages.
- `events.jsonl`: a line for every stage that ended, with its seconds and usage. Not waited for either.

With several machines the rows and blobs are in the same places, and each worker has its own `queries.jsonl`,
`in_flight/` and `events.jsonl`, its journal, in `workers/<number>/`.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError
from t3_agents.storage import BlobStore, Shard, read_rows

from .. import SPLITS
from .candidate import Candidate
from .progress import Progress


IN_FLIGHT, EVENTS, QUERIES, WORKERS = "in_flight", "events.jsonl", "queries.jsonl", "workers"
KEPT, REJECTED, FAILED = "kept", "rejected", "failed"
OUTCOMES = {KEPT: "shards", REJECTED: "rejected", FAILED: "failed"}
"""What can become of a candidate, and the folder of its rows."""
TASKS_FILE = "num_tasks"
"""File with the number of candidates that the run goes up to, which may grow."""


class RunFolderStore:
    """The writer of a run's folder. All methods may be called from any thread.

    Args:
        folder (`Path`): the folder, which the caller holds as [`~t3_agents.storage.RunFolder`].
        flavor (`str`): name in the shards.
        journal (`Path`, *optional*, defaults to `folder`): where queries, candidates in flight and events are.
    """

    def __init__(self, folder: Path, flavor: str, journal: Path | None = None):
        self.folder = folder
        self.journal = journal or folder
        self.blobs = BlobStore(folder / "blobs")
        (self.journal / IN_FLIGHT).mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._shards: dict[tuple[str, str], Shard] = {}
        self.outcomes: dict[str, str] = {}
        try:
            for outcome, place in OUTCOMES.items():
                for split in SPLITS:
                    shard = Shard(folder / place / f"{split}-{flavor}.jsonl", keep=candidate_id_of)
                    self._shards[outcome, split] = shard
                    self.outcomes.update(dict.fromkeys(shard.rows, outcome))
                    shard.rows.clear()
            self.queries = Shard(self.journal / QUERIES)
        except BaseException:
            self.close()
            raise
        # One line a write, appended by the kernel: a torn last line is dropped by its reader.
        self._events = os.open(self.journal / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        _end_line(self.journal / EVENTS, self._events)

    def advance(self, candidate: Candidate, stage: str) -> Candidate:
        """Remember a candidate after a stage; its files then lie in the blobs."""
        candidate = candidate.stored_in(self.blobs)
        record = {"stage": stage, "candidate": candidate.to_dict()}
        target = self._in_flight(candidate.id)
        temporary = target.with_suffix(".partial")
        temporary.write_text(json.dumps(record), encoding="ascii")
        temporary.replace(target)
        return candidate

    def started(self) -> Iterator[tuple[Candidate, str]]:
        """Candidates that are under way, each with the stage that it finished last."""
        for path in sorted((self.journal / IN_FLIGHT).glob("*.json")):
            if path.stem in self.outcomes:  # killed between the row and this
                path.unlink()
                continue
            try:
                record = json.loads(path.read_text(encoding="ascii"))
                yield Candidate.from_dict(record["candidate"], self.blobs), record["stage"]
            except (ValueError, KeyError, TypeError):  # what a loss of power leaves; it begins again
                path.unlink()

    def finish(self, outcome: str, candidate: Candidate, stage: str, reason: str) -> None:
        """Write the row of a candidate, and wait until it is on disk."""
        candidate = candidate.stored_in(self.blobs)
        if outcome == KEPT:
            row = kept_row(candidate)
        else:
            trajectory = candidate.trajectory.to_dict() if candidate.trajectory else None
            row = {
                "id": candidate.id,
                "stage": stage,
                "reasons": [f"{stage}: {reason}"],
                "trajectory": trajectory,
                "candidate": replace(candidate, trajectory=None).to_dict(),
            }
        with self._lock:
            shard = self._shards[outcome, candidate.split]
            shard.append(row)
            shard.rows.clear()
            self.outcomes[candidate.id] = outcome
        self._in_flight(candidate.id).unlink(missing_ok=True)

    def note(self, event: dict[str, Any]) -> None:
        """Append a line to the events."""
        os.write(self._events, json.dumps(event).encode() + b"\n")

    def counts(self) -> dict[str, int]:
        """Finished candidates by outcome."""
        with self._lock:
            found = list(self.outcomes.values())
        return {outcome: found.count(outcome) for outcome in OUTCOMES}

    def _in_flight(self, name: str) -> Path:
        return self.journal / IN_FLIGHT / f"{name}.json"

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        if hasattr(self, "queries"):
            self.queries.close()


def candidate_id_of(row: dict[str, Any]) -> str:
    """Id of the candidate behind a row of any of the shards."""
    return row["id"] if "id" in row else row["task"]["origin"]["candidate"]


def kept_row(candidate: Candidate) -> dict[str, Any]:
    """The trajectory record of a kept candidate, with what the stages said of it.

    Raises:
        InputError: when it has no trajectory.
    """
    if candidate.trajectory is None:
        raise InputError(f"The candidate {candidate.id} has passed all stages, but none has solved it.")
    story = replace(candidate, trajectory=None).to_dict()
    provenance = {**candidate.trajectory.provenance, "synthesis": story}
    return replace(candidate.trajectory, provenance=provenance).to_dict()


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Lines of the events, without those that a killed process has torn."""
    for path in journal_files(folder, EVENTS):
        with path.open("rb") as stream:
            for line in stream:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def read_queries(folder: Path) -> Iterator[dict[str, Any]]:
    """Records of all candidates as they began."""
    for path in journal_files(folder, QUERIES):
        for row in read_rows(path):
            yield from row["candidates"]


def journal_files(folder: Path, pattern: str) -> list[Path]:
    """Files of the run's journal and of its workers'."""
    return [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"{WORKERS}/*/{pattern}"))]


def finished_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Outcome and row of every finished candidate, also while the run is under way."""
    for outcome, place in OUTCOMES.items():
        for path in sorted((folder / place).glob("*.jsonl")):
            for row in read_rows(path):
                yield outcome, row


def progress_of(folder: Path) -> Progress:
    """The counts of a run, out of its folder."""
    progress = Progress(int((folder / TASKS_FILE).read_text(encoding="ascii")))
    progress.restore(read_events(folder), Counter(outcome for outcome, _ in finished_rows(folder)))
    return progress


def _end_line(path: Path, descriptor: int) -> None:
    """End a torn last line, so that the next event has a line of its own."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n":
            os.write(descriptor, b"\n")
