"""Evaluation results as the Hub shows them: `.eval_results/*.yaml` and the legacy `model-index` of a card.

Both are written from the `results.json` of a finished run and from nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from t3_agents.errors import InputError
from t3_agents.evaluation.results import RESULTS_FILE, read_scores
from t3_agents.evaluation.results import read_results as results_of
from t3_agents.hub.safe_loading import check_repo_id
from t3_agents.reports.tables import label_of
from t3_agents.storage import require


def read_results(run: str | Path) -> dict[str, Any]:
    """The results of a finished evaluation.

    Args:
        run (`str` or `Path`): folder of `t3 eval` with `results.json` and `scores.jsonl`.

    Raises:
        InputError: when the run is not finished: a task of it has no score, or the two files do not belong together.
    """
    results = results_of(run)
    for name, kind in (("benchmark", str), ("num_tasks", int), ("seeds", list), ("metrics", dict), ("dataset", dict)):
        require(results, name, kind, RESULTS_FILE)
    scored = {(score.task_id, score.seed) for score in read_scores(run)}
    wanted = results["num_tasks"] * len(results["seeds"])
    if len(scored) != wanted:
        raise InputError(
            f"{run} is not finished: {len(scored)} of {wanted} tasks have a score. Run `t3 eval` on it to its end."
        )
    return results


def make_entries(results: dict[str, Any], dataset_id: str | None, report_url: str) -> list[EvalResultEntry]:
    """Entries of `.eval_results/<benchmark>.yaml`, one for each metric, in per cent.

    Args:
        results (`dict`): what [`read_results`] gave.
        dataset_id (`str`, *optional*): the benchmark's dataset on the Hub; by default the name in the results.
        report_url (`str`): address of the run's report.

    Raises:
        InputError: when the dataset has no id on the Hub.
    """
    dataset = results["dataset"]
    dataset_id = dataset_id or dataset.get("name")
    check_repo_id(dataset_id, "The dataset of the results (or --dataset)")
    return [
        EvalResultEntry(
            dataset_id=dataset_id,
            task_id=f"{results['benchmark']}_{name}",
            value=percent(metric["value"]),
            dataset_revision=dataset.get("revision"),
            date=results.get("created"),
            source_url=report_url,
            source_name="T3-Agents report",
            notes=describe(results, metric),
        )
        for name, metric in results["metrics"].items()
        if metric["value"] is not None
    ]


def to_yaml(entries: list[EvalResultEntry]) -> str:
    """The content of a file in `.eval_results/`."""
    import yaml

    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def make_model_index(results: dict[str, Any], dataset_id: str | None, report_url: str) -> list[EvalResult]:
    """The same for the `model-index` of a card, which some tools still read."""
    dataset = results["dataset"]
    return [
        EvalResult(
            task_type="image-text-to-text",
            task_name=f"{results['benchmark']} ({results.get('mode', 'end_to_end')})",
            dataset_type=dataset_id or dataset["name"],
            dataset_name=results["benchmark"].upper(),
            dataset_split=dataset.get("split"),
            dataset_revision=dataset.get("revision"),
            metric_type=name,
            metric_name=label_of(name),
            metric_value=percent(metric["value"]),
            source_name="T3-Agents report",
            source_url=report_url,
        )
        for name, metric in results["metrics"].items()
        if metric["value"] is not None
    ]


def percent(value: float) -> float:
    """A share as per cent with two digits."""
    return round(100 * value, 2)


def describe(results: dict[str, Any], metric: dict[str, Any]) -> str:
    """How a number came about: mode, scoring, tasks, seeds, interval."""
    parts = [
        str(results.get("mode", "")).replace("_", " "),
        f"{results.get('scoring', 'unnamed')} scoring",
        f"{results['num_tasks']} tasks",
        f"seeds {', '.join(map(str, results['seeds']))}",
    ]
    if metric.get("ci95"):
        low, high = metric["ci95"]
        parts.append(f"95 % interval {100 * low:.1f} to {100 * high:.1f}")
    toolbox = (results.get("agent") or {}).get("toolbox")
    if toolbox:
        parts.append(f"tools {', '.join(map(str, toolbox))}")
    return "; ".join(part for part in parts if part)
