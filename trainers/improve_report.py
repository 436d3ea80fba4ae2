"""What is left of a run of `t3 improve` to read: `improve.json`, `report.md` and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t3_agents.reports.markdown import inline, table
from t3_agents.reports.tables import NOTHING, percent
from t3_agents.storage import write_atomic


REPORT_FILE, PAGE_FILE, PLOT_FILE = "improve.json", "report.md", "rounds.png"
HEADER = ("round", "samples", "verified", "tuned on", "step pairs", "AnsAcc % [95 % interval]", "tasks", "agent")

PAGE = """\
# Rejection sampling

In each round the agent of the round before attempted every task of split `{split}` {samples} times at temperature
{temperature}. Verified samples have the known answer, code that ran in every step, and a call of every expected tool.
Those that differ are kept, in all rounds so far, and the first agent is tuned on them. Every agent is measured on the
held-out tasks of split `{eval_split}`, greedily.

{table}

{reason} The best agent is that of round {best}: `{agent}`. It was chosen by these held-out tasks, so its AnsAcc here
is somewhat too high; a number to report needs tasks of another split.

![AnsAcc on held-out tasks by round, with 95 % intervals]({plot})
"""


def write_report(
    folder: Path, settings: dict[str, Any], rounds: Sequence[dict[str, Any]], reason: str
) -> dict[str, Any]:
    """Write the report of a finished run.

    Args:
        folder (`Path`): where to.
        settings (`dict`): of the run.
        rounds (`Sequence[dict]`): rows of `rounds.jsonl`.
        reason (`str`): why there is no further round.

    Returns:
        `dict`: the content of `improve.json`: `settings`, `rounds`, `stopped` and `best`, the row of the best round.
    """
    measured = [row for row in rounds if row["ans_acc"] is not None]
    best = max(measured, key=lambda row: row["ans_acc"]["value"])
    record = {"settings": settings, "rounds": list(rounds), "stopped": reason, "best": best}
    cells = [[inline(cell) for cell in row] for row in _cells(rounds)]
    page = PAGE.format(
        table=table(HEADER, cells),
        reason=reason,
        best=best["round"],
        agent=best["agent"],
        plot=PLOT_FILE,
        **{name: settings[name] for name in ("split", "samples", "temperature", "eval_split")},
    )
    _draw(measured, folder / PLOT_FILE)
    write_atomic(folder / PAGE_FILE, page)
    write_atomic(folder / REPORT_FILE, json.dumps(record, indent=2) + "\n")
    return record


def _cells(rounds: Sequence[dict[str, Any]]) -> list[list[str]]:
    counts = ("samples", "verified", "kept", "pairs")
    return [
        [
            str(row["round"]),
            *(str(row.get(name, NOTHING)) for name in counts),
            percent(row["ans_acc"]),
            str(row["ans_acc"]["n"]) if row["ans_acc"] else NOTHING,
            row["agent"] or NOTHING,
        ]
        for row in rounds
    ]


def _draw(measured: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    numbers = [row["round"] for row in measured]
    values = [row["ans_acc"]["value"] for row in measured]
    bounds = [row["ans_acc"]["ci95"] for row in measured]
    whiskers = [
        [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.errorbar(numbers, values, yerr=whiskers, fmt="o-", color="#0072b2", ecolor="#555555", capsize=4)
    axes.set(xlabel="round", ylabel="AnsAcc on held-out tasks", ylim=(0, 1.02), xticks=numbers)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def print_report(record: dict[str, Any], folder: str) -> None:
    """Print the rounds as a table.

    Args:
        record (`dict`): what [`write_report`] gave.
        folder (`str`): where it lies.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table(*HEADER)
    for cells in _cells(record["rounds"]):
        shown.add_row(*cells)
    console.print(shown)
    console.print(f"{record['stopped']} Best: round {record['best']['round']}, {record['best']['agent']}")
    console.print(f"Report: {Path(folder) / PAGE_FILE}", markup=False, highlight=False)
