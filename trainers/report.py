"""What is left of a tuning run to read: `train.json` and its curves."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.storage import write_atomic


if TYPE_CHECKING:
    from .trainer import TrajectoryTrainer

REPORT_FILE, CURVES_FILE = "train.json", "curves.png"


def write_report(trainer: TrajectoryTrainer, folder: Path) -> dict[str, Any]:
    """Write `train.json` and `curves.png` of a finished run; returns the summary in it.

    Args:
        trainer ([`TrajectoryTrainer`]): after `train`.
        folder (`Path`): where to.
    """
    import torch

    history = trainer.state.log_history
    log = [entry for entry in history if "loss" in entry]
    evaluations = [entry for entry in history if "eval_loss" in entry]
    totals = {name: sum(entry[name] for entry in log) for name in ("tokens", "padding_share", "seconds")}
    collator = trainer.data_collator
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
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
        "peak_memory_mb": round((peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**20),
        "train_seconds": round(totals["seconds"], 1),
    }
    record = {"summary": summary, "log": log, "evaluations": evaluations}
    write_atomic(folder / REPORT_FILE, json.dumps(record, indent=2) + "\n")
    draw_curves(log, evaluations, folder / CURVES_FILE)
    return summary


def draw_curves(log: list[dict[str, Any]], evaluations: list[dict[str, Any]], path: Path) -> None:
    """Loss, token accuracy and speed by optimizer step, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [entry["step"] for entry in log]
    figure, (upper, middle, lower) = plt.subplots(3, 1, figsize=(7, 7), sharex=True, layout="constrained")
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
    lower.plot(steps, speeds, color="#cc79a7")
    lower.set(ylabel="tokens per second", xlabel="optimizer step", ylim=(0, None))
    for axes in (upper, middle, lower):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
