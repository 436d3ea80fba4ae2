"""A finished evaluation as its folder holds it: trajectories, the score of each, and the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import BlobStore, read_rows
from ..task import require
from ..trajectory import Trajectory
from .runner import BLOBS_FOLDER, TRAJECTORIES_FILE


RESULTS_FILE, SCORES_FILE = "results.json", "scores.jsonl"
RESULTS_FORMAT = "t3-results/1"


@dataclass(frozen=True)
class Attempt:
    """One trajectory and its row of `scores.jsonl`, which is empty when it was not scored."""

    trajectory: Trajectory
    score: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.trajectory.provenance.get("seed") or 0

    @property
    def outcome(self) -> str:
        """`right`, `wrong` or `not scored`."""
        return {True: "right", False: "wrong"}.get(self.score.get("correct"), "not scored")

    @property
    def error_type(self) -> str | None:
        return self.score.get("error_type")

    @property
    def groups(self) -> dict[str, list[str]]:
        """Parts of the tasks to which this one belongs, for example `{"level": ["1"], "tool": ["ocr"]}`."""
        found = {}
        for name, value in self.score.get("groups", {}).items():
            values = value if isinstance(value, list) else [value]
            found[str(name)] = [str(item) for item in values if item is not None]
        return found

    @property
    def usage(self) -> dict[str, float | None]:
        """Tokens, seconds and cost, by the score's row or else by the steps."""
        steps = self.trajectory.steps
        counted = {
            "input_tokens": sum(step.input_tokens for step in steps),
            "output_tokens": sum(step.output_tokens for step in steps),
            "seconds": sum(step.seconds for step in steps),
            "cost": None,
        }
        return {**counted, **self.score.get("usage", {})}


@dataclass(frozen=True)
class ScoredRun:
    """A run of one benchmark.

    Args:
        name (`str`): what it is called in a report.
        attempts (`list[Attempt]`): one per task and seed, in the order of the run.
        results (`dict`, *optional*): the content of `results.json`; `None` when the run was not scored.
    """

    name: str
    attempts: Sequence[Attempt]
    results: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> ScoredRun:
        """Read a run folder. `scores.jsonl` and `results.json` may be missing, but not one of the two.

        Raises:
            InputError: when the folder holds no run, or a record in it cannot be used.
        """
        folder = Path(folder)
        path = folder / TRAJECTORIES_FILE
        if not path.is_file():
            raise InputError(f"{folder} holds no run (no {TRAJECTORIES_FILE}): name the output folder of `t3 eval`.")
        trajectories = read_trajectories(path, BlobStore(folder / BLOBS_FOLDER))
        results = _read_results(folder / RESULTS_FILE)
        if (results is None) != (not (folder / SCORES_FILE).is_file()):
            raise InputError(
                f"{folder} has only one of {SCORES_FILE} and {RESULTS_FILE}: score it again with `t3 eval score`."
            )
        scores = _read_scores(folder / SCORES_FILE) if results is not None else {}
        attempts = []
        for trajectory in trajectories:
            attempt = Attempt(trajectory)
            attempts.append(Attempt(trajectory, scores.get((trajectory.task.id, attempt.seed), {})))
        name = _short_name(results["agent"]["name"]) if results else folder.resolve().name
        return cls(name, attempts, results)

    @property
    def benchmark(self) -> str | None:
        return self.results["benchmark"] if self.results else None


def read_trajectories(path: Path, blobs: BlobStore) -> list[Trajectory]:
    """Trajectories of a shard, sorted by the group that their tasks come from, in which they are easier to read."""
    trajectories = [Trajectory.from_dict(row, blobs) for row in read_rows(path)]
    return sorted(trajectories, key=lambda t: (str(t.task.origin.get("family", "")), t.task.id))


def _short_name(name: str) -> str:
    """A Hub id as it is; of a folder only its last part."""
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name


def _read_results(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is not JSON: score the run again with `t3 eval score`.") from None
    version = require(results, "format", str, "results")
    if version != RESULTS_FORMAT:
        raise InputError(f"{path.name} has format `{version}`; this version reads `{RESULTS_FORMAT}`.")
    parts = {"benchmark": str, "mode": str, "scoring": str, "dataset": dict, "agent": dict, "num_tasks": int}
    for name, kind in {**parts, "metrics": dict, "breakdown": dict}.items():
        require(results, name, kind, "results")
    require(results["agent"], "name", str, "results' agent")
    for metrics in (results["metrics"], *(part for parts in results["breakdown"].values() for part in parts.values())):
        for name, metric in metrics.items():
            owner = f"metric `{name}`"
            value = require(metric, "value", (int, float, type(None)), owner)
            bounds = require(metric, "ci95", (list, type(None)), owner, default=None)
            numbers = [number for number in (value, *(bounds or ())) if number is not None]
            if (bounds is not None and len(bounds) != 2) or not all(0 <= number <= 1 for number in numbers):
                raise InputError(f"The {owner} of {path.name} must be a fraction with two bounds, all in 0..1.")
    return results


def _read_scores(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    rows = {}
    for row in read_rows(path):
        key = (require(row, "task_id", str, "score"), require(row, "seed", int, "score", default=0))
        require(row, "correct", (bool, type(None)), "score")
        require(row, "error_type", (str, type(None)), "score", default=None)
        require(row, "groups", dict, "score", default={})
        require(row, "usage", dict, "score", default={})
        rows[key] = row
    return rows
