"""What is left of a tuning run to read: `train.json`, its curves, and `train.md` about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.reports import CURVES_FILE, TRAINING_FILE
from t3_agents.reports.page import markdown_page
from t3_agents.reports.plots import BLUE, GREEN, ORANGE, PINK, RED, Plot, Series, draw_lines
from t3_agents.reports.tables import Table
from t3_agents.storage import write_atomic


if TYPE_CHECKING:
    from .trainer import TrajectoryTrainer

PAGE_FILE = "train.md"


def write_report(trainer: TrajectoryTrainer, folder: Path) -> dict[str, Any]:
    """Write `train.json`, `curves.png` and `train.md` of a finished run; returns the summary in the first.

    Args:
        trainer ([`TrajectoryTrainer`]): after `train`.
        folder (`Path`): where to.
    """
    history = trainer.state.log_history
    log = [entry for entry in history if "loss" in entry]
    evaluations = [entry for entry in history if "eval_loss" in entry]
    totals = {name: sum(entry[name] for entry in log) for name in ("tokens", "padding_share", "seconds")}
    collator = trainer.data_collator
    summary = {
        "rows": len(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "packing": collator.packing if trainer.batches is None or collator.packing != "none" else "length_grouped",
        # One step is noisy, so the last five are averaged.
        "final_loss": sum(entry["loss"] for entry in log[-5:]) / max(len(log[-5:]), 1),
        "best_eval_loss": min((entry["eval_loss"] for entry in evaluations), default=None),
        "cut_rows": collator.cut_rows,
        "skipped_rows": collator.skipped_rows,
        "tokens_per_second": round(totals["tokens"] / totals["seconds"], 2) if totals["seconds"] else None,
        "padding_share": round(totals["padding_share"] / len(log), 4) if log else None,
        "peak_memory_mb": round(max((entry["memory_mb"] for entry in log), default=0)),
        "train_seconds": round(totals["seconds"], 1),
    }
    record = {"summary": summary, "log": log, "evaluations": evaluations}
    write_atomic(folder / TRAINING_FILE, json.dumps(record, indent=2) + "\n")
    curves = Plot(CURVES_FILE, "Curves by optimizer step", draw_curves(log, evaluations))
    curves.write(folder)
    write_atomic(folder / PAGE_FILE, _page(summary, evaluations, curves))
    return summary


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
    steps = [entry["step"] for entry in log]
    measured = [entry["step"] for entry in evaluations]

    def beside(color: str, name: str) -> list[Series]:
        found = [Series("training", [entry.get(name) for entry in log], steps, color=color)]
        values = [entry.get(f"eval_{name}") for entry in evaluations]
        return [*found, Series("validation", values, measured, color=RED)] if evaluations else found

    speeds = [entry["tokens"] / entry["seconds"] for entry in log]
    panels = {
        "loss per produced token": beside(BLUE, "loss"),
        "token accuracy": beside(GREEN, "mean_token_accuracy"),
        "tokens per second": [Series("training", speeds, steps, color=PINK)],
        "memory in MiB": [Series("training", [entry["memory_mb"] for entry in log], steps, color=ORANGE)],
    }
    return draw_lines(panels, "optimizer step", start_at_zero=("tokens per second", "memory in MiB"))
