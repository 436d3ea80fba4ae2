"""What is left of a run of `t3 improve` to read: `improve.json`, `report.md` and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t3_agents.reports.markdown import Markdown, code, escape
from t3_agents.reports.page import markdown_page
from t3_agents.reports.plots import Plot, Series, draw_lines
from t3_agents.reports.tables import NOTHING, Table, percent, print_tables
from t3_agents.storage import write_atomic


REPORT_FILE, PAGE_FILE, PLOT_FILE = "improve.json", "report.md", "rounds.png"
HEADER = ("round", "samples", "verified", "tuned on", "step pairs", "AnsAcc % [95 % interval]", "tasks", "agent")

METHOD = """\
In each round the agent of the round before attempted every task of split `{split}` {samples} times at temperature
{temperature}. Verified samples have the known answer, code that ran in every step, and a call of every expected tool.
Those that differ are kept, in all rounds so far, and the first agent is tuned on them. Every agent is measured on the
held-out tasks of split `{eval_split}`, greedily."""


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
    shown = Markdown(METHOD.format(**{key: escape(value) for key, value in settings.items()}))
    chosen = Markdown(
        f"{escape(reason)} The best agent is that of round {best['round']}: {code(best['agent'])}. It was chosen by "
        "these held-out tasks, so its AnsAcc here is somewhat too high; a number to report needs tasks of another "
        "split."
    )
    plot = Plot(PLOT_FILE, "AnsAcc on held-out tasks by round, with 95 % intervals", _draw(measured))
    plot.write(folder)
    page = markdown_page("Rejection sampling", {"": [shown, Table("", HEADER, _cells(rounds)), chosen, plot]})
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


def _draw(measured: Sequence[dict[str, Any]]) -> bytes:
    numbers = [row["round"] for row in measured]
    values = [row["ans_acc"]["value"] for row in measured]
    series = Series("AnsAcc", values, numbers, bounds=[row["ans_acc"]["ci95"] for row in measured])
    return draw_lines({"AnsAcc on held-out tasks": [series]}, "round")


def print_report(record: dict[str, Any], folder: str) -> None:
    """Print the rounds as a table.

    Args:
        record (`dict`): what [`write_report`] gave.
        folder (`str`): where it lies.
    """
    print_tables(Table("", HEADER, _cells(record["rounds"])))
    print(f"{record['stopped']} Best: round {record['best']['round']}, {record['best']['agent']}")
    print(f"Report: {Path(folder) / PAGE_FILE}")
