"""What runs leave to read: records, curves and pages of `t3 train`, `t3 dpo` and `t3 improve`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.reports import CURVES_FILE, TRAINING_FILE
from t3_agents.reports.markdown import Markdown, code, escape
from t3_agents.reports.page import markdown_page
from t3_agents.reports.plots import BLUE, GREEN, ORANGE, PINK, RED, Plot, Series, draw_lines
from t3_agents.reports.tables import NOTHING, Table, percent, print_tables
from t3_agents.storage import write_atomic


if TYPE_CHECKING:
    from transformers import Trainer

    from .trainer import TrajectoryTrainer

PAGE_FILE, ROUNDS_PAGE = "train.md", "report.md"

ROUNDS_METHOD = """\
In each round the agent of the round before attempted every task of split `{split}` {samples} times at temperature
{temperature}. Verified samples have the known answer, code that ran in every step, and a call of every expected tool.
Those that differ are kept, in all rounds so far, and the first agent is tuned on them. Every agent is measured on the
held-out tasks of split `{eval_split}`, greedily."""


def write_report(trainer: TrajectoryTrainer, folder: Path) -> None:
    """Write `train.json`, `curves.png` and `train.md` of a finished run of `t3 train`.

    Args:
        trainer ([`TrajectoryTrainer`]): after `train`.
        folder (`Path`): where to.
    """
    log, evaluations = _entries(trainer, "loss"), _entries(trainer, "eval_loss")
    totals = {name: sum(entry[name] for entry in log) for name in ("tokens", "padding_share", "seconds")}
    collator = trainer.data_collator
    summary = {
        "rows": len(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "packing": collator.packing if trainer.batches is None or collator.packing != "none" else "length_grouped",
        "final_loss": _at_end(log, "loss"),
        "best_eval_loss": min((entry["eval_loss"] for entry in evaluations), default=None),
        "cut_rows": collator.cut_rows,
        "skipped_rows": collator.skipped_rows,
        "tokens_per_second": round(totals["tokens"] / totals["seconds"], 2) if totals["seconds"] else None,
        "padding_share": round(totals["padding_share"] / len(log), 4) if log else None,
        "peak_memory_mb": round(max((entry["memory_mb"] for entry in log), default=0)),
        "train_seconds": round(totals["seconds"], 1),
    }
    _write_json(folder / TRAINING_FILE, {"summary": summary, "log": log, "evaluations": evaluations})
    curves = Plot(CURVES_FILE, "Curves by optimizer step", draw_curves(log, evaluations))
    curves.write(folder)
    write_atomic(folder / PAGE_FILE, _page(summary, evaluations, curves))


def _page(summary: dict[str, Any], evaluations: list[dict[str, Any]], curves: Plot) -> str:
    """The numbers, the curves, and which rows were not trained on as they are."""
    best = summary["best_eval_loss"]
    speed = summary["tokens_per_second"]
    facts = [
        ("Rows", str(summary["rows"])),
        ("Optimizer steps", str(summary["steps"])),
        ("Rows are put together", summary["packing"]),
        ("Loss, mean of the last five steps", f"{summary['final_loss']:.4f}"),
        ("Lowest loss on the validation rows", "not measured" if best is None else f"{best:.4f}"),
        ("Tokens read per second", "not measured" if speed is None else f"{speed:,.0f}"),
        ("Share of padding", f"{summary['padding_share'] or 0:.1%}"),
        ("Most memory in use", f"{summary['peak_memory_mb']:,} MiB"),
        ("Seconds in training steps", f"{summary['train_seconds']:,.1f}"),
        ("Rows that lost steps at their end", str(len(summary["cut_rows"]))),
        ("Rows left out, since their first step is too long", str(len(summary["skipped_rows"]))),
    ]
    measured = [
        (str(entry["step"]), f"{entry['eval_loss']:.4f}", f"{entry['eval_mean_token_accuracy']:.1%}")
        for entry in evaluations
    ]
    cut = [(row, str(steps)) for row, steps in summary["cut_rows"].items()]
    sections = {
        "": [Table("", ["", "Value"], facts), curves],
        "Validation rows": [Table("", ["Step", "Loss", "Token accuracy"], measured)] if measured else [],
        "Rows that were cut": [Table("", ["Row", "Steps that are missing"], cut)] if cut else [],
        "Rows that were left out": summary["skipped_rows"],
    }
    return markdown_page("Trajectory tuning", sections)


def draw_curves(log: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> bytes:
    """Loss, token accuracy, speed and memory by optimizer step, as PNG."""
    speeds = [{"step": entry["step"], "speed": entry["tokens"] / entry["seconds"]} for entry in log]

    def beside(color: str, name: str) -> list[Series]:
        measured = [_curve(evaluations, f"eval_{name}", RED, "validation")] if evaluations else []
        return [_curve(log, name, color), *measured]

    panels = {
        "loss per produced token": beside(BLUE, "loss"),
        "token accuracy": beside(GREEN, "mean_token_accuracy"),
        "tokens per second": [_curve(speeds, "speed", PINK)],
        "memory in MiB": [_curve(log, "memory_mb", ORANGE)],
    }
    return draw_lines(panels, "optimizer step", start_at_zero=("tokens per second", "memory in MiB"))


def write_preference_report(trainer: Trainer, folder: Path) -> None:
    """Write `train.json` and `curves.png` of a finished run of `t3 dpo`.

    Args:
        trainer ([`~trl.DPOTrainer`]): after `train`.
        folder (`Path`): where to.
    """
    log = _entries(trainer, "loss")
    summary = {
        "rows": len(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "final_loss": _at_end(log, "loss"),
        "reward_accuracy": _at_end(log, "rewards/accuracies"),
        "reward_margin": _at_end(log, "rewards/margins"),
    }
    _write_json(folder / TRAINING_FILE, {"summary": summary, "log": log})
    panels = {
        "DPO loss": [_curve(log, "loss", BLUE)],
        "pairs in which the\nchosen step gained more": [_curve(log, "rewards/accuracies", GREEN)],
        "margin of rewards": [_curve(log, "rewards/margins", PINK)],
    }
    write_atomic(folder / CURVES_FILE, draw_lines(panels, "optimizer step"))


def _entries(trainer: Trainer, name: str) -> list[dict[str, Any]]:
    """What a trainer has logged at the steps at which a number was measured."""
    return [entry for entry in trainer.state.log_history if name in entry]


def _at_end(log: list[dict[str, Any]], name: str) -> float:
    # One step is noisy, so the last five are averaged.
    return sum(entry[name] for entry in log[-5:]) / max(len(log[-5:]), 1)


def _curve(log: list[dict[str, Any]], name: str, color: str, label: str = "training") -> Series:
    return Series(label, [entry.get(name) for entry in log], [entry["step"] for entry in log], color=color)


def _write_json(path: Path, record: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(record, indent=2) + "\n")


def write_rounds_report(
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
    shown = Markdown(ROUNDS_METHOD.format(**{key: escape(value) for key, value in settings.items()}))
    chosen = Markdown(
        f"{escape(reason)} The best agent is that of round {best['round']}: {code(best['agent'])}. It was chosen by "
        "these held-out tasks, so its AnsAcc here is somewhat too high; a number to report needs tasks of another "
        "split."
    )
    plot = Plot("rounds.png", "AnsAcc on held-out tasks by round, with 95 % intervals", _draw_rounds(measured))
    plot.write(folder)
    page = markdown_page("Rejection sampling", {"": [shown, _rounds_table(rounds), chosen, plot]})
    write_atomic(folder / ROUNDS_PAGE, page)
    _write_json(folder / "improve.json", record)
    return record


def _rounds_table(rounds: Sequence[dict[str, Any]]) -> Table:
    header = ["round", "samples", "verified", "tuned on", "step pairs", "AnsAcc % [95 % interval]", "tasks", "agent"]
    counts = ("samples", "verified", "kept", "pairs")
    rows = [
        [
            str(row["round"]),
            *(str(row.get(name, NOTHING)) for name in counts),
            percent(row["ans_acc"]),
            str(row["ans_acc"]["n"]) if row["ans_acc"] else NOTHING,
            row["agent"] or NOTHING,
        ]
        for row in rounds
    ]
    return Table("", header, rows)


def _draw_rounds(measured: Sequence[dict[str, Any]]) -> bytes:
    numbers = [row["round"] for row in measured]
    values = [row["ans_acc"]["value"] for row in measured]
    series = Series("AnsAcc", values, numbers, bounds=[row["ans_acc"]["ci95"] for row in measured])
    return draw_lines({"AnsAcc on held-out tasks": [series]}, "round")


def print_rounds(record: dict[str, Any], folder: str) -> None:
    """Print the rounds as a table.

    Args:
        record (`dict`): what [`write_rounds_report`] gave.
        folder (`str`): where it lies.
    """
    print_tables(_rounds_table(record["rounds"]))
    print(f"{record['stopped']} Best: round {record['best']['round']}, {record['best']['agent']}")
    print(f"Report: {Path(folder) / ROUNDS_PAGE}")
