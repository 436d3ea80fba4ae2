"""What a run leaves in its folder, and how it is read again: trajectories, a score of each, and their summary.

`trajectories.jsonl` has a row per task and seed, `scores.jsonl` the score of each, `results.json` the summary.
"""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import BlobStore, from_record, read_rows, require, sha256_of, write_atomic
from ..task import Task
from ..trajectory import Trajectory
from ..verifiers import turns_ran
from .statistics import bootstrap_interval, pass_at_k, pool, summed


FORMAT = "t3-results/1"
TRAJECTORIES_FILE, BLOBS_FOLDER = "trajectories.jsonl", "blobs"
SCORES_FILE, RESULTS_FILE = "scores.jsonl", "results.json"
PACKAGES = ("t3-agents", "torch", "transformers", "smolagents", "datasets")
USAGE = ("input_tokens", "output_tokens", "seconds", "cost")
OUTCOMES = ("right", "wrong", "no verdict")
"""What an answer is; there is no verdict where a run was not scored, or its answer is scored by degrees."""


@dataclass
class TaskScore:
    """The score of one trajectory, a row of `scores.jsonl`.

    Args:
        task_id (`str`): id of the task.
        seed (`int`): of the run.
        correct (`bool`, *optional*): whether the answer is right; `None` where that is not a yes or no.
        counts (`dict[str, list[float]]`): per metric two counts (right, out of) or three (found, predicted, expected).
        groups (`dict[str, str | list[str]]`): what the breakdown is by, such as `level`, `family` or `tool`.
        error_type (`str`, *optional*): one of `error_types.ERROR_TYPES`.
        reason (`str`, *optional*): how the run ended where there is no answer.
        usage (`dict`): `input_tokens`, `output_tokens`, `seconds` and `cost` (`None` without prices).
    """

    task_id: str
    seed: int = 0
    correct: bool | None = None
    counts: dict[str, list[float]] = field(default_factory=dict)
    groups: dict[str, str | list[str]] = field(default_factory=dict)
    error_type: str | None = None
    reason: str | None = None
    usage: dict[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The row; `scores` holds the value of each metric for this task alone, `None` where nothing was counted."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**row, "scores": {name: _number(pool(summed([c])[0])) for name, c in self.counts.items()}}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TaskScore:
        """Read a row.

        Raises:
            InputError: naming the field that is unknown, missing or of a wrong type.
        """
        return from_record(cls, {name: value for name, value in record.items() if name != "scores"}, "score")


def base_score(trajectory: Trajectory) -> TaskScore:
    """What every benchmark counts of a run: CodeExec, tokens and time, and how it ended without an answer."""
    read, written = trajectory.provenance.get("formatting_tokens", [0, 0])
    read += sum(step.input_tokens for step in trajectory.steps)
    written += sum(step.output_tokens for step in trajectory.steps)
    ran = turns_ran(trajectory)
    return TaskScore(
        task_id=trajectory.task.id,
        seed=trajectory.provenance.get("seed", 0),
        counts={"code_exec": [sum(ran), len(ran)]},
        reason=trajectory.provenance.get("failure") or (trajectory.end_reason if trajectory.answer is None else None),
        usage={
            "input_tokens": read,
            "output_tokens": written,
            "seconds": round(sum(step.seconds for step in trajectory.steps), 3),
            "cost": None,
        },
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summarize(scores: Sequence[TaskScore]) -> dict[str, dict[str, Any]]:
    """Metrics of scored tasks, pooled over tasks and seeds, with 95 % bootstrap intervals over tasks.

    Args:
        scores (`Sequence[TaskScore]`): of one or several seeds.

    Returns:
        `dict`: per metric `value` (a fraction, `None` where nothing was counted), `ci95` and `n`, the number of things
            that were counted. With several seeds also `pass@k`, over tasks whose answer is right or wrong.
    """
    by_task: dict[str, list[TaskScore]] = {}
    for score in scores:
        by_task.setdefault(score.task_id, []).append(score)
    rows: dict[str, list[Any]] = {}
    for task in by_task.values():
        for name in dict.fromkeys(name for score in task for name in score.counts):
            rows.setdefault(name, []).append(summed([s.counts[name] for s in task if name in s.counts]).sum(axis=0))
        known = [score.correct for score in task if score.correct is not None]
        for k in range(1, len(known) + 1) if len(known) > 1 else ():
            rows.setdefault(f"pass@{k}", []).append([pass_at_k(len(known), sum(known), k), 1])
    return {name: _metric(summed(counts)) for name, counts in rows.items()}


def _metric(counts: Any) -> dict[str, Any]:
    total = counts.sum(axis=0)
    return {"value": _number(pool(total)), "ci95": bootstrap_interval(counts), "n": int(total[-1])}


def break_down(scores: Sequence[TaskScore]) -> dict[str, dict[str, dict[str, Any]]]:
    """[`summarize`] for every value of every group; a task with several values counts for each of them."""
    parts: dict[str, dict[str, list[TaskScore]]] = {}
    for score in scores:
        for group, values in score.groups.items():
            for value in [values] if isinstance(values, str) else dict.fromkeys(values):
                parts.setdefault(group, {}).setdefault(value, []).append(score)
    return {
        group: {value: summarize(values[value]) for value in sorted(values)} for group, values in sorted(parts.items())
    }


def total_usage(scores: Sequence[TaskScore]) -> dict[str, dict[str, float | None]]:
    """Sum and mean per trajectory of tokens, seconds and cost; `None` for a cost that is not known."""
    totals: dict[str, float | None] = {}
    for name in USAGE:
        values = [score.usage.get(name) for score in scores]
        totals[name] = None if None in values else sum(values)
    return {
        "total": totals,
        "mean": {k: None if v is None or not scores else v / len(scores) for k, v in totals.items()},
    }


def task_digest(tasks: Iterable[Task]) -> str:
    """SHA-256 over ids, questions, files and known answers of the tasks, whatever their order."""
    return sha256_of("\n".join(sorted(json.dumps(task.to_dict(), sort_keys=True) for task in tasks)).encode())


def versions() -> dict[str, str]:
    """Releases of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def make_results(description: dict[str, Any], scores: Sequence[TaskScore]) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        description (`dict`): `benchmark`, `mode`, `scoring`, `scoring_details`, `dataset`, `agent` and `seeds`.
        scores (`Sequence[TaskScore]`): the rows.
    """
    return {
        "format": FORMAT,
        **description,
        "num_tasks": len({score.task_id for score in scores}),
        "metrics": summarize(scores),
        "breakdown": break_down(scores),
        "errors": _count_errors(scores),
        "usage": total_usage(scores),
        "versions": versions(),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _count_errors(scores: Sequence[TaskScore]) -> dict[str, int]:
    found = [score.error_type for score in scores if score.error_type]
    return {name: found.count(name) for name in sorted(set(found))}


def write_results(folder: str | Path, results: dict[str, Any], scores: Sequence[TaskScore]) -> None:
    """Write both files; a crash between them leaves the older pair or one that can be made again.

    Results that are there already keep their time.
    """
    path = Path(folder) / RESULTS_FILE
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if {**there, "created": None} == {**json.loads(json.dumps(results)), "created": None}:
            results = there
    lines = [json.dumps(score.to_dict(), allow_nan=False) + "\n" for score in scores]
    write_atomic(Path(folder) / SCORES_FILE, "".join(lines))
    write_atomic(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def read_results(folder: str | Path) -> dict[str, Any]:
    """`results.json` of a run.

    Raises:
        InputError: when there is none, or it is of another format.
    """
    path = Path(folder) / RESULTS_FILE
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no scored run: it has no {RESULTS_FILE}.") from None
    except ValueError:
        raise InputError(f"{path} is not JSON: score the run again with `t3 eval score`.") from None
    if require(results, "format", str, RESULTS_FILE) != FORMAT:
        raise InputError(f"{path} has format `{results['format']}`; this version reads `{FORMAT}`.")
    return results


def read_scores(folder: str | Path) -> list[TaskScore]:
    """The rows of `scores.jsonl`.

    Raises:
        InputError: when there is none, or a row cannot be used.
    """
    path = Path(folder) / SCORES_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no scored run: it has no {SCORES_FILE}.")
    return [TaskScore.from_dict(row) for row in read_rows(path)]


def read_trajectories(folder: str | Path) -> list[Trajectory]:
    """The finished trajectories of a run, of all its seeds.

    Raises:
        InputError: when the folder holds no run, or a row cannot be read.
    """
    folder = Path(folder)
    if not (folder / TRAJECTORIES_FILE).is_file():
        raise InputError(f"{folder} holds no run: it has no {TRAJECTORIES_FILE}.")
    blobs = BlobStore(folder / BLOBS_FOLDER)
    return [Trajectory.from_dict(row, blobs) for row in read_rows(folder / TRAJECTORIES_FILE)]


# The run as a whole


def outcome_of(score: TaskScore | None) -> str:
    """One of `OUTCOMES`."""
    return {True: "right", False: "wrong"}.get(score.correct if score else None, "no verdict")


def task_of(trajectory: Trajectory) -> str:
    """Id of the benchmark's row: that of the task, but step by step a row is several tasks."""
    return trajectory.task.origin.get("row", trajectory.task.id)


@dataclass(frozen=True)
class Attempt:
    """One trajectory and its score, `None` when it was not scored. Step by step, the turns of a row share one."""

    trajectory: Trajectory
    score: TaskScore | None = None

    @property
    def seed(self) -> int:
        return self.trajectory.provenance.get("seed") or 0

    @property
    def outcome(self) -> str:
        return outcome_of(self.score)

    @property
    def error_type(self) -> str | None:
        return self.score.error_type if self.score else None

    @property
    def groups(self) -> list[str]:
        """Parts of the tasks to which this one belongs, for example `["level: 1", "tool: ocr"]`."""
        found = self.score.groups if self.score else {}
        return [
            f"{name}: {value}"
            for name, values in found.items()
            for value in ([values] if isinstance(values, str) else values)
        ]

    @property
    def usage(self) -> dict[str, float]:
        """Tokens and seconds of the steps."""
        return {
            name: sum(getattr(step, name) for step in self.trajectory.steps)
            for name in ("input_tokens", "output_tokens", "seconds")
        }


@dataclass(frozen=True)
class ScoredRun:
    """A run of one benchmark.

    Args:
        name (`str`): what it is called in a report.
        attempts (`list[Attempt]`): one per task and seed.
        scores (`list[TaskScore]`, *optional*): the rows of `scores.jsonl`.
        results (`dict`, *optional*): the content of `results.json`; `None` when the run was not scored.
    """

    name: str
    attempts: Sequence[Attempt]
    scores: Sequence[TaskScore] = ()
    results: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> ScoredRun:
        """Read a run folder, scored or not.

        Raises:
            InputError: when the folder holds no run, or a record in it cannot be used.
        """
        folder = Path(folder)
        trajectories = in_reading_order(read_trajectories(folder))
        if not (folder / RESULTS_FILE).is_file():
            return cls(folder.resolve().name, [Attempt(trajectory) for trajectory in trajectories])
        results, scores = read_results(folder), read_scores(folder)
        _check_results(results)
        by_task = {(score.task_id, score.seed): score for score in scores}
        attempts = []
        for trajectory in trajectories:
            seed = Attempt(trajectory).seed
            attempts.append(Attempt(trajectory, by_task.get((task_of(trajectory), seed))))
        return cls(results["agent"]["name"], attempts, scores, results)

    @property
    def benchmark(self) -> str | None:
        return self.results["benchmark"] if self.results else None


def in_reading_order(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Trajectories by family and id of their tasks, numbers in ids by their value: a run ends them in any order."""

    def place(trajectory: Trajectory) -> tuple[str, list[tuple[int, str]]]:
        parts = re.findall(r"[0-9]+|[^0-9]+", trajectory.task.id)
        # Where one id has a number and another has text, numbers come first.
        number_first = [(int(part), "") if part.isdecimal() else (10**30, part) for part in parts]
        return str(trajectory.task.origin.get("family", "")), number_first

    return sorted(trajectories, key=place)


def _check_results(results: Mapping[str, Any]) -> None:
    """Check what a report shows of `results.json`.

    Raises:
        InputError: naming the part that is missing or of a wrong type.
    """
    parts = {"benchmark": str, "mode": str, "scoring": str, "scoring_details": dict, "dataset": dict, "agent": dict}
    for name, kind in {**parts, "num_tasks": int, "metrics": dict, "breakdown": dict, "usage": dict}.items():
        require(results, name, kind, "results")
    require(results["agent"], "name", str, "results' agent")
    for metrics in (results["metrics"], *(part for parts in results["breakdown"].values() for part in parts.values())):
        for name, metric in metrics.items():
            value = require(metric, "value", (int, float, type(None)), f"metric `{name}`")
            bounds = require(metric, "ci95", list, f"metric `{name}`")
            numbers = [number for number in (value, *bounds) if number is not None]
            # Not at most 1: GTA's evaluator counts more right turns than turns where a picture is asked for.
            if len(bounds) != 2 or not all(isinstance(number, (int, float)) and number >= 0 for number in numbers):
                raise InputError(f"The metric `{name}` must be a fraction with two bounds, none below 0.")
