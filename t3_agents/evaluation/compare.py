"""Two runs on the same tasks, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .results import TaskScore, read_results, read_scores
from .statistics import mcnemar_exact, paired_interval, pool, summed


SAME = ("benchmark", "mode", "scoring")


def compare_runs(first: str | Path, second: str | Path) -> dict[str, Any]:
    """Compare two scored runs task by task.

    Args:
        first (`str` or `Path`), second (`str` or `Path`): folders of scored runs.

    Returns:
        `dict`: `names`, `num_tasks` (in both runs), `only_in_one` (tasks that are left out), `metrics` (per metric
            `first`, `second`, `difference` and its 95 % bootstrap interval `ci95` over tasks), and `answers`: tasks
            that both, only the first, only the second or neither got right, with `p_value` of McNemar's exact test;
            `None` with several seeds, whose answers are not independent.

    Raises:
        InputError: when a folder holds no scored run, or the runs are of different benchmarks, modes or rules, or have
            no task in common.
    """
    results = [read_results(folder) for folder in (first, second)]
    for name in SAME:
        if results[0][name] != results[1][name]:
            raise InputError(
                f"The runs cannot be compared: {name} is {results[0][name]} in {first} and {results[1][name]} in "
                f"{second}."
            )
    models = [run["scoring_details"].get("embedding_model") for run in results]
    if models[0] != models[1]:
        raise InputError(
            f"The runs cannot be compared: open answers were scored with {models[0]} in {first} and with {models[1]} "
            f"in {second}. Score one of them again."
        )
    scores = [_by_task(read_scores(folder)) for folder in (first, second)]
    tasks = [task for task in scores[0] if task in scores[1]]
    if not tasks:
        raise InputError(f"The runs {first} and {second} have no task in common.")
    names = [name for name in results[0]["metrics"] if name in results[1]["metrics"] and not name.startswith("pass@")]
    return {
        "names": [_name(run, folder) for run, folder in zip(results, (first, second), strict=True)],
        **{name: results[0][name] for name in SAME},
        "num_tasks": len(tasks),
        "only_in_one": len(set(scores[0]) ^ set(scores[1])),
        "metrics": {name: _compare_metric(name, tasks, scores[0], scores[1]) for name in names},
        "answers": _compare_answers(tasks, scores[0], scores[1]),
    }


def _name(results: dict[str, Any], folder: str | Path) -> str:
    return f"{results['agent']['name']} ({Path(folder).resolve().name})"


def _by_task(scores: list[TaskScore]) -> dict[str, list[TaskScore]]:
    found: dict[str, list[TaskScore]] = {}
    for score in scores:
        found.setdefault(score.task_id, []).append(score)
    return found


def _compare_metric(
    name: str, tasks: list[str], first: dict[str, list[TaskScore]], second: dict[str, list[TaskScore]]
) -> dict[str, Any]:
    rows = []
    for task in tasks:
        pair = [[score.counts[name] for score in run[task] if name in score.counts] for run in (first, second)]
        if all(pair):
            rows.append([summed(counts).sum(axis=0) for counts in pair])
    if not rows:
        return {"first": None, "second": None, "difference": None, "ci95": [None, None], "n": 0}
    left, right = summed([row[0] for row in rows]), summed([row[1] for row in rows])
    values = [float(pool(side.sum(axis=0))) for side in (left, right)]
    if any(value != value for value in values):  # nothing was counted
        return {"first": None, "second": None, "difference": None, "ci95": [None, None], "n": len(rows)}
    return {
        "first": values[0],
        "second": values[1],
        "difference": values[1] - values[0],
        "ci95": paired_interval(left, right),
        "n": len(rows),
    }


def _compare_answers(
    tasks: list[str], first: dict[str, list[TaskScore]], second: dict[str, list[TaskScore]]
) -> dict[str, Any] | None:
    if any(len(run[task]) > 1 for run in (first, second) for task in tasks):
        return None
    pairs = [(first[task][0].correct, second[task][0].correct) for task in tasks]
    pairs = [pair for pair in pairs if None not in pair]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    return {
        "both": pairs.count((True, True)),
        "only_first": only_first,
        "only_second": only_second,
        "neither": pairs.count((False, False)),
        "p_value": mcnemar_exact(only_first, only_second) if pairs else None,
    }
