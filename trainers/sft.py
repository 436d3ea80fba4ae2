"""Tune a controller on trajectories with TRL and PEFT, and save it as an agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError

from .config import TrajectoryConfig, TuningConfig


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from t3_agents.agent.agent import T3Agent

    from .trainer import TrajectoryTrainer

BATCHED = {"packing": False, "train_sampling_strategy": "random", "dataset_kwargs": {"skip_prepare_dataset": True}}
"""What TRL is told of rows: they come in batches."""


def train(config: TrajectoryConfig, load_agent: Callable[[TuningConfig, Dataset], T3Agent] | None = None) -> Path:
    """Tune and save an agent; a run that was stopped resumes from its last checkpoint.

    Args:
        config ([`TrajectoryConfig`]): the recipe.
        load_agent (`Callable`, *optional*): what makes the agent that is tuned; by default one with the controller of
            the recipe and the prompt and toolbox of the rows.

    Returns:
        `Path`: the tuned agent, `<output_dir>/agent`.

    Raises:
        InputError: when dataset, controller or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .loading import load_rows, new_agent, tune
    from .report import write_report

    def prepare() -> tuple[T3Agent, TrajectoryTrainer]:
        dataset = load_rows(config.dataset_name, config.dataset_train_split)
        evaluated = config.eval_strategy != "no"
        validation = load_rows(config.dataset_name, config.dataset_test_split) if evaluated else None
        agent = (load_agent or new_agent)(config, dataset)
        model, processor = agent.model.model, agent.model.processor
        return agent, build_trainer(config, model, processor, dataset, eval_dataset=validation)

    return tune("train", config, prepare, write_report)


def build_trainer(
    config: TrajectoryConfig, model: PreTrainedModel, processor: ProcessorMixin, train_dataset: Dataset, **kwargs: Any
) -> TrajectoryTrainer:
    """A TRL trainer for trajectories: LoRA adapter, [`TrajectoryCollator`], loss at produced tokens.

    Args:
        config ([`TrajectoryConfig`]): the recipe.
        model ([`~transformers.PreTrainedModel`]): the controller.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        train_dataset ([`~datasets.Dataset`]): rows with `messages` and `images`.
        kwargs: handed to [`~trl.SFTTrainer`], such as `eval_dataset` or `callbacks`.

    Raises:
        InputError: when the dataset is empty, the recipe does not fit the model, or its chat template rewrites turns.
    """
    from trl import SFTConfig

    from t3_agents.models.encoding import ChatEncoder

    from .attention import KeepAttention
    from .checks import plan_batches
    from .collators import TrajectoryCollator
    from .distributed import OrderByEpoch, split_language_model_only
    from .trainer import TrajectoryTrainer, new_trainer

    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.dataset_train_split}` has no rows to train on.")
    for name in config.lora_modules_to_save or []:
        # PEFT passes over a name that it does not find.
        if not any(module.endswith(name) for module, _ in model.named_modules()):
            raise InputError(f"No module of {type(model).__name__} is named as `{name}` in lora_modules_to_save.")
    collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
    train_dataset, batches = plan_batches(config, model, collator, train_dataset)
    callbacks = [OrderByEpoch(), *kwargs.pop("callbacks", [])]
    if model.device.type == "cpu" and collator.packing != "none":
        callbacks.append(KeepAttention())
    trainer = new_trainer(
        TrajectoryTrainer,
        config,
        config.arguments(SFTConfig, model, **BATCHED),
        model=model,
        data_collator=collator,
        train_dataset=train_dataset,
        processing_class=processor,
        callbacks=callbacks,
        **kwargs,
    )
    split_language_model_only(trainer.accelerator, model)
    trainer.modules_to_save = config.lora_modules_to_save
    trainer.modules_learning_rate = config.modules_learning_rate
    trainer.batches = batches
    return trainer
