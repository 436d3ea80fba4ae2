"""What is left of a tuning run to read: `train.json`, its curves, and `train.md` about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.reports.markdown import inline, table
from t3_agents.storage import write_atomic


if TYPE_CHECKING:
    from .trainer import TrajectoryTrainer

REPORT_FILE, CURVES_FILE, PAGE_FILE = "train.json", "curves.png", "train.md"


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
    write_atomic(folder / REPORT_FILE, json.dumps(record, indent=2) + "\n")
    draw_curves(log, evaluations, folder / CURVES_FILE)
    write_atomic(folder / PAGE_FILE, _page(summary, evaluations))
    return summary


def _page(summary: dict[str, Any], evaluations: list[dict[str, Any]]) -> str:
    """The numbers, the curves, and which rows were not trained on as they are."""
    best = summary["best_eval_loss"]
    speed = summary["tokens_per_second"]
    facts = [
        ("Rows", str(summary["rows"])),
        ("Optimizer steps", str(summary["steps"])),
        ("Rows are put together", inline(summary["packing"])),
        ("Loss, mean of the last five steps", f"{summary['final_loss']:.4f}"),
        ("Lowest loss on the validation rows", "not measured" if best is None else f"{best:.4f}"),
        ("Tokens read per second", "not measured" if speed is None else f"{speed:,.0f}"),
        ("Share of padding", f"{summary['padding_share'] or 0:.1%}"),
        ("Most memory in use", f"{summary['peak_memory_mb']:,} MiB"),
        ("Seconds in training steps", f"{summary['train_seconds']:,.1f}"),
        ("Rows that lost steps at their end", str(len(summary["cut_rows"]))),
        ("Rows left out, since their first step is too long", str(len(summary["skipped_rows"]))),
    ]
    parts = ["# Trajectory tuning", table(["", "Value"], facts), f"![Curves by optimizer step]({CURVES_FILE})"]
    if evaluations:
        measured = [
            (str(entry["step"]), f"{entry['eval_loss']:.4f}", f"{entry['eval_mean_token_accuracy']:.1%}")
            for entry in evaluations
        ]
        parts += ["## Validation rows", table(["Step", "Loss", "Token accuracy"], measured)]
    if summary["cut_rows"]:
        cut = [(inline(row), str(steps)) for row, steps in summary["cut_rows"].items()]
        parts += ["## Rows that were cut", table(["Row", "Steps that are missing"], cut)]
    if summary["skipped_rows"]:
        parts += ["## Rows that were left out", "\n".join(f"- {inline(row)}" for row in summary["skipped_rows"])]
    return "\n\n".join(parts) + "\n"


def draw_curves(log: list[dict[str, Any]], evaluations: list[dict[str, Any]], path: Path) -> None:
    """Loss, token accuracy, speed and memory by optimizer step, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [entry["step"] for entry in log]
    figure, panels = plt.subplots(4, 1, figsize=(7, 9), sharex=True, layout="constrained")
    upper, middle, speed, memory = panels
    upper.plot(steps, [entry["loss"] for entry in log], color="#0072b2", label="training")
    upper.set(ylabel="loss per produced token", title="Trajectory tuning")
    middle.plot(steps, [entry.get("mean_token_accuracy") for entry in log], color="#009e73", label="training")
    middle.set(ylabel="token accuracy")
    if evaluations:
        at = [entry["step"] for entry in evaluations]
        upper.plot(at, [entry["eval_loss"] for entry in evaluations], "o-", color="#d55e00", label="validation")
        accuracies = [entry.get("eval_mean_token_accuracy") for entry in evaluations]
        middle.plot(at, accuracies, "o-", color="#d55e00", label="validation")
        upper.legend()
    speeds = [entry["tokens"] / entry["seconds"] for entry in log]
    speed.plot(steps, speeds, color="#cc79a7")
    speed.set(ylabel="tokens per second", ylim=(0, None))
    memory.plot(steps, [entry["memory_mb"] for entry in log], color="#e69f00")
    memory.set(ylabel="memory in MiB", xlabel="optimizer step", ylim=(0, None))
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
