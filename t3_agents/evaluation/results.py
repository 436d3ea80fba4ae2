"""The files that a scored run leaves: `scores.jsonl`, a row per task and seed, and `results.json`, their summary."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import BlobStore, from_record, read_rows, require, sha256_of, write_atomic
from ..task import Task
from ..trajectory import Trajectory
from .run import BLOBS_FOLDER, TRAJECTORIES_FILE
from .statistics import bootstrap_interval, pass_at_k, pool, summed


FORMAT = "t3-results/1"
SCORES_FILE, RESULTS_FILE = "scores.jsonl", "results.json"
PACKAGES = ("t3-agents", "torch", "transformers", "smolagents", "datasets")
USAGE = ("input_tokens", "output_tokens", "seconds", "cost")


@dataclass
class TaskScore:
    """The score of one trajectory, a row of `scores.jsonl`.

    Args:
        task_id (`str`): id of the task.
        seed (`int`): of the run.
        correct (`bool`, *optional*): whether the answer is right; `None` where that is not a yes or no.
        counts (`dict[str, list[float]]`): per metric two counts (right, out of) or three (found, predicted, expected).
        groups (`dict[str, str | list[str]]`): what the breakdown is by, such as `level`, `family` or `tool`.
        error_type (`str`, *optional*): one of `taxonomy.ERROR_TYPES`.
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


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def summarise(scores: Sequence[TaskScore], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Metrics of scored tasks, pooled over tasks and seeds, with 95 % bootstrap intervals over tasks.

    Args:
        scores (`Sequence[TaskScore]`): of one or several seeds.
        seed (`int`, *optional*, defaults to 0): of the resampling.

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
    return {name: _metric(summed(counts), seed) for name, counts in rows.items()}


def _metric(counts: Any, seed: int) -> dict[str, Any]:
    total = counts.sum(axis=0)
    return {"value": _number(pool(total)), "ci95": bootstrap_interval(counts, seed), "n": int(total[-1])}


def break_down(scores: Sequence[TaskScore]) -> dict[str, dict[str, dict[str, Any]]]:
    """[`summarise`] for every value of every group; a task with several values counts for each of them."""
    parts: dict[str, dict[str, list[TaskScore]]] = {}
    for score in scores:
        for group, values in score.groups.items():
            for value in [values] if isinstance(values, str) else dict.fromkeys(values):
                parts.setdefault(group, {}).setdefault(value, []).append(score)
    return {
        group: {value: summarise(values[value]) for value in sorted(values)} for group, values in sorted(parts.items())
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
        "metrics": summarise(scores),
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
