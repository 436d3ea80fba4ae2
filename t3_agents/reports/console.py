"""Results as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .tables import label_of, percent


_COLUMNS = ("ans_acc", "tool_acc", "code_exec", "inst_acc", "arg_acc", "summ_acc")


def print_results(results: dict[str, Any], folder: str) -> None:
    """Print the metrics of a run with their intervals, and the breakdown by group.

    Args:
        results (`dict`): the content of `results.json`.
        folder (`str`): where it lies.
    """
    console = Console()
    agent, dataset = results["agent"], results["dataset"]
    console.print(
        f"{results['benchmark']} ({dataset['split']}), {results['mode'].replace('_', ' ')}, {results['scoring']} "
        f"scoring: {agent['name']}, {results['num_tasks']} tasks, seeds {results['seeds']}",
        markup=False,
        highlight=False,
    )
    for line in _remarks(results):
        console.print(line, markup=False, highlight=False)
    table = Table("metric", "% [95 % interval]", "n")
    for name, metric in results["metrics"].items():
        table.add_row(label_of(name), percent(metric), str(metric["n"]))
    console.print(table)
    for group, parts in results["breakdown"].items():
        shown = [name for name in _COLUMNS if name in results["metrics"]]
        table = Table(group, "n", *(f"{label_of(name)} %" for name in shown))
        for value, metrics in parts.items():
            first = metrics.get(shown[0]) if shown else None
            table.add_row(value, str(first["n"]) if first else "-", *(percent(metrics.get(m)) for m in shown))
        console.print(table)
    usage = results["usage"]["mean"]
    cost = "" if usage["cost"] is None else f", cost {usage['cost']:.3g}"
    if usage["seconds"] is not None:
        console.print(
            f"per task: {usage['input_tokens']:.0f} input and {usage['output_tokens']:.0f} output tokens, "
            f"{usage['seconds']:.1f} s{cost}",
            highlight=False,
        )
    if results["errors"]:
        errors = ", ".join(f"{name} {number}" for name, number in results["errors"].items())
        console.print(f"errors: {errors}", markup=False, highlight=False)
    console.print(f"results: {folder}", markup=False, highlight=False)


def _remarks(results: dict[str, Any]) -> list[str]:
    details, lines = results["scoring_details"], []
    if details.get("embedding_model"):
        lines.append(f"open answers scored with {details['embedding_model']}")
    unscored = {kind: number for kind, number in details.get("unscored", {}).items() if number}
    if unscored:
        lines.append("not scored: " + ", ".join(f"{number} {kind}" for kind, number in unscored.items()))
    if details["skipped_rows"]:
        lines.append(f"left out: {details['skipped_rows']} rows that cannot be used")
    return lines


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print two runs side by side.

    Args:
        comparison (`dict`): what [`compare_runs`] gave.
    """
    console = Console()
    first, second = comparison["names"]
    console.print(
        f"{comparison['benchmark']}, {comparison['num_tasks']} tasks of both runs", markup=False, highlight=False
    )
    if comparison["only_in_one"]:
        console.print(f"left out: {comparison['only_in_one']} tasks that only one run has", highlight=False)
    table = Table("metric, %", first, second, "difference [95 % interval]")
    for name, metric in comparison["metrics"].items():
        if metric["difference"] is None:
            table.add_row(label_of(name), "-", "-", "-")
            continue
        low, high = (100 * bound for bound in metric["ci95"])
        table.add_row(
            label_of(name),
            f"{100 * metric['first']:.1f}",
            f"{100 * metric['second']:.1f}",
            f"{100 * metric['difference']:+.1f} [{low:+.1f}, {high:+.1f}]",
        )
    console.print(table)
    answers = comparison["answers"]
    if answers and answers["p_value"] is not None:
        console.print(
            f"right: both {answers['both']}, only the first {answers['only_first']}, only the second "
            f"{answers['only_second']}, neither {answers['neither']}; McNemar's exact test p = "
            f"{answers['p_value']:.3g}",
            highlight=False,
        )
