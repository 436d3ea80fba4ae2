"""Step-wise preference tuning: a saved agent learns to prefer the right one of two next steps.

Source: after tuning on trajectories, SPORT (P. Li et al., "Iterative Tool Usage Exploration for Multimodal Agents via
Step-wise Preference Tuning", arXiv 2504.21561) tunes on pairs of steps at the same history with DPO (R. Rafailov et
al., "Direct Preference Optimization", NeurIPS 2023). The trainer is TRL's; the reference is the agent itself, which is
the model with its new adapter switched off.

The command is `t3 dpo`, since TRL has one command per method as well (`trl sft`, `trl dpo`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from t3_agents.errors import InputError

from .config import PreferenceConfig
from .sft import tune_and_show


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin
    from trl import DPOTrainer

    from t3_agents.agent.agent import T3Agent

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
    from .loading import load_rows, saved_agent, tune
    from .report import write_preference_report

    def prepare() -> tuple[T3Agent, DPOTrainer]:
        dataset = load_rows(config.dataset_name, config.dataset_train_split)
        agent = saved_agent(config)
        return agent, build_preference_trainer(config, agent.model.model, agent.model.processor, dataset)

    return tune("dpo", config, prepare, write_preference_report)


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

    from .collators import PreferenceCollator
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


def main(config: PreferenceConfig) -> int:
    """`t3 dpo`: tune, print a table."""
    return tune_and_show(
        config,
        tune_on_pairs,
        {
            "pairs": ("rows", "d"),
            "steps": ("steps", "d"),
            "final loss": ("final_loss", ".3f"),
            "reward accuracy": ("reward_accuracy", ".0%"),
            "reward margin": ("reward_margin", ".3f"),
        },
    )
