"""Step-wise preference tuning: a saved agent learns to prefer the right one of two next steps.

Source: after tuning on trajectories, SPORT (P. Li et al., "Iterative Tool Usage Exploration for Multimodal Agents via
Step-wise Preference Tuning", arXiv 2504.21561) tunes on pairs of steps at the same history with DPO (R. Rafailov et
al., "Direct Preference Optimization", NeurIPS 2023). The trainer is TRL's; the reference is the agent itself, which is
the model with its new adapter switched off.

The command is `t3 dpo`, since TRL has one command per method as well (`trl sft`, `trl dpo`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError
from t3_agents.reports import CURVES_FILE, TRAINING_FILE
from t3_agents.reports.plots import BLUE, GREEN, PINK, Series, draw_lines
from t3_agents.storage import write_atomic

from .config import PreferenceConfig


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin
    from trl import DPOTrainer

COLUMNS = ("prompt", "chosen", "rejected", "images")


def tune_on_pairs(config: PreferenceConfig) -> Path:
    """Tune and save an agent; a run that was stopped resumes from its last checkpoint.

    Args:
        config ([`PreferenceConfig`]): the recipe.

    Returns:
        `Path`: the tuned agent, `<output_dir>/agent`.

    Raises:
        InputError: when dataset, agent or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .loading import is_tuned, load_rows, run_trainer, save_tuned, saved_agent, training_run, tuned_folder

    with training_run("dpo", config) as folder:
        if not is_tuned(folder):
            dataset = load_rows(config.dataset_name, config.dataset_train_split)
            agent = saved_agent(config)
            trainer = build_preference_trainer(config, agent.model.model, agent.model.processor, dataset)
            run_trainer(trainer, folder)
            write_preference_report(trainer, folder)
            save_tuned(agent, trainer, config)
    return tuned_folder(folder)


def build_preference_trainer(
    config: PreferenceConfig, model: PreTrainedModel, processor: ProcessorMixin, train_dataset: Dataset
) -> DPOTrainer:
    """A TRL trainer for pairs of steps: LoRA adapter, [`PreferenceCollator`], reference without the adapter.

    Args:
        config ([`PreferenceConfig`]): the recipe.
        model ([`~transformers.PreTrainedModel`]): the controller, without an adapter.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        train_dataset ([`~datasets.Dataset`]): rows with `prompt`, `chosen`, `rejected` and `images`.

    Raises:
        InputError: when the dataset has no rows or no pairs, its first row does not suit the model, or no module
            matches `lora_target_modules`.
    """
    from trl import DPOConfig, DPOTrainer

    from t3_agents.models.encoding import ChatEncoder

    from .dpo_collator import PreferenceCollator
    from .trainer import new_trainer

    missing = [name for name in COLUMNS if name not in train_dataset.column_names]
    if missing:
        raise InputError(f"The dataset has no column `{missing[0]}`: pairs have {', '.join(COLUMNS)}.")
    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.dataset_train_split}` has no pairs to train on.")
    collator = PreferenceCollator(ChatEncoder(processor), config.max_length)
    collator([train_dataset[0]])  # a dataset that does not suit the model stops the run at its start
    return new_trainer(
        DPOTrainer,
        config,
        config.arguments(DPOConfig, model),
        model=model,
        data_collator=collator,
        train_dataset=train_dataset,
        processing_class=processor,
    )


def write_preference_report(trainer: DPOTrainer, folder: Path) -> dict[str, Any]:
    """Write `train.json` and `curves.png` of a finished run; returns the summary in it.

    Args:
        trainer ([`~trl.DPOTrainer`]): after `train`.
        folder (`Path`): where to.
    """
    log = [entry for entry in trainer.state.log_history if "loss" in entry]

    def at_end(name: str) -> float:
        # One step is noisy, so the last five are averaged.
        values = [entry[name] for entry in log[-5:]]
        return sum(values) / max(len(values), 1)

    summary = {
        "rows": len(trainer.train_dataset),
        "steps": trainer.state.global_step,
        "final_loss": at_end("loss"),
        "reward_accuracy": at_end("rewards/accuracies"),
        "reward_margin": at_end("rewards/margins"),
    }
    write_atomic(folder / TRAINING_FILE, json.dumps({"summary": summary, "log": log}, indent=2) + "\n")
    panels = {
        "DPO loss": ("loss", BLUE),
        "pairs in which the\nchosen step gained more": ("rewards/accuracies", GREEN),
        "margin of rewards": ("rewards/margins", PINK),
    }
    steps = [entry["step"] for entry in log]
    drawn = {
        label: [Series(label, [entry[name] for entry in log], steps, color=color)]
        for label, (name, color) in panels.items()
    }
    write_atomic(folder / CURVES_FILE, draw_lines(drawn, "optimizer step"))
    return summary


def main(config: PreferenceConfig) -> int:
    """`t3 dpo`: tune, print a table."""
    from t3_agents.models.device import use_fastest_num_threads

    use_fastest_num_threads()
    agent = tune_on_pairs(config)
    from rich.console import Console
    from rich.table import Table

    summary = json.loads((Path(config.output_dir) / TRAINING_FILE).read_text())["summary"]
    table = Table("pairs", "steps", "final loss", "reward accuracy", "reward margin", "agent")
    table.add_row(
        str(summary["rows"]),
        str(summary["steps"]),
        f"{summary['final_loss']:.3f}",
        f"{summary['reward_accuracy']:.0%}",
        f"{summary['reward_margin']:.3f}",
        str(agent),
    )
    Console().print(table)
    return 0
