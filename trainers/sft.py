"""Tune a controller on trajectories with TRL and PEFT, and save it as an agent."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError
from t3_agents.options import parse_options
from t3_agents.reports import TRAINING_FILE

from .config import TrajectoryConfig, TuningConfig


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from t3_agents.agent.agent import T3Agent

    from .collator import TrajectoryCollator
    from .trainer import TrajectoryTrainer

logger = logging.getLogger(__name__)

LENGTHS_FILE = ".lengths.json"
MASK_FILE = "mask.html"
BATCHED = {"packing": False, "train_sampling_strategy": "random", "dataset_kwargs": {"skip_prepare_dataset": True}}
"""What TRL is told of rows: they come in batches."""

SEARCHED_ROWS = 200
"""Rows among which one with pictures is looked for, to check the model with."""


def train(config: TrajectoryConfig, load_agent: Callable[[TuningConfig], T3Agent] | None = None) -> Path:
    """Tune and save an agent; a run that was stopped resumes from its last checkpoint.

    Args:
        config ([`TrajectoryConfig`]): the recipe.
        load_agent (`Callable`, *optional*): what makes the agent that is tuned; by default one with the controller,
            toolbox and prompt of the recipe.

    Returns:
        `Path`: the tuned agent, `<output_dir>/agent`.

    Raises:
        InputError: when dataset, controller or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .loading import is_tuned, load_rows, new_agent, run_trainer, save_tuned, training_run, tuned_folder
    from .report import write_report

    with training_run("train", config) as folder:
        if not is_tuned(folder):
            dataset = load_rows(config.dataset_name, config.dataset_train_split)
            evaluated = config.eval_strategy != "no"
            validation = load_rows(config.dataset_name, config.dataset_test_split) if evaluated else None
            agent = (load_agent or new_agent)(config)
            trainer = build_trainer(config, agent.model.model, agent.model.processor, dataset, eval_dataset=validation)
            run_trainer(trainer, folder)
            write_report(trainer, folder)
            save_tuned(agent, trainer, config)
    return tuned_folder(folder)


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

    from .collator import TrajectoryCollator
    from .distributed import OrderByEpoch, split_language_model_only
    from .trainer import KeepAttention, TrajectoryTrainer, new_trainer

    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.dataset_train_split}` has no rows to train on.")
    for name in config.lora_modules_to_save or []:
        # PEFT passes over a name that it does not find.
        if not any(module.endswith(name) for module, _ in model.named_modules()):
            raise InputError(f"No module of {type(model).__name__} is named as `{name}` in lora_modules_to_save.")
    collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
    train_dataset, batches = _plan_batches(config, model, collator, train_dataset)
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


def _plan_batches(
    config: TrajectoryConfig, model: PreTrainedModel, collator: TrajectoryCollator, dataset: Dataset
) -> tuple[Dataset, list[list[int]] | None]:
    """Choose how rows are put together, set model and collator up for it, and leave out rows that are too long.

    Returns:
        `tuple`: the rows to train on, and the row numbers of each batch; `None` for batches of random rows.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from .attention import use_segment_attention
    from .checks import check_family
    from .lengths import measure_rows
    from .packing import group_by_length, pack_rows
    from .trainer import packing_problem

    skip, grouped = config.long_rows == "skip", config.train_sampling_strategy == "group_by_length"
    rows = _first_rows(dataset, collator, skip)
    check_family(collator.encoder, rows)
    if config.packing:
        problem = packing_problem(model, collator, rows) if PartialState().is_main_process else None
        (problem,) = broadcast_object_list([problem])
        if problem:
            logger.warning(f"Rows are grouped by length instead of packed: {problem}.")
            grouped = True
        else:
            collator.packing = config.packing_strategy
            use_segment_attention(model)
    packs = collator.packing != "none" and config.pack_length
    if not (skip or packs or grouped):
        return dataset, None
    with PartialState().main_process_first():  # the others read what it has measured
        index = measure_rows(dataset, collator, skip, Path(config.output_dir) / LENGTHS_FILE)
    dataset = dataset.select([row for row, length in enumerate(index.lengths) if length])
    index = index.without_skipped()
    if grouped:
        return dataset, group_by_length(index, config.per_device_train_batch_size)
    return dataset, pack_rows(index, packs, collator.packing == "shared_prefix") if packs else None


def _first_rows(dataset: Dataset, collator: TrajectoryCollator, skip_long_rows: bool) -> list[dict[str, Any]]:
    """The first two rows that fit, so that a dataset that does not suit the model stops the run at its start; and the
    first one with pictures, where it is soon found."""
    from .collator import LongRowError

    rows: list[dict[str, Any]] = []
    for number, row in enumerate(dataset):
        if len(rows) >= 2:
            if number >= SEARCHED_ROWS or any(row.get("images") for row in rows):
                break
            if not row.get("images"):
                continue
        try:
            collator.encode(row)
        except LongRowError:
            if not skip_long_rows:
                raise
            continue
        rows.append(row)
    if not rows:
        raise InputError("No row of the dataset fits max_length: raise it.")
    return rows


def show_masks(config: TrajectoryConfig) -> None:
    """Print the first rows with their loss mask, and write them to `<output_dir>/mask.html`.

    Args:
        config ([`TrajectoryConfig`]): the recipe; `show_mask` is the number of rows.

    Raises:
        InputError: when dataset or controller cannot be used, or a row does not fit the model.
    """
    from rich.console import Console
    from transformers import AutoProcessor

    from t3_agents.models.embedded import EMBEDDED, embedded_controller
    from t3_agents.models.encoding import ChatEncoder

    from .collator import TrajectoryCollator
    from .loading import load_rows, training_run
    from .show_mask import mask_as_text, title, write_masks

    with training_run("train", config) as folder:
        dataset = load_rows(config.dataset_name, config.dataset_train_split)
        name = config.model_name_or_path
        try:
            processor = AutoProcessor.from_pretrained(
                embedded_controller() if name == EMBEDDED else name, revision=config.model_revision
            )
        except (OSError, ValueError) as error:
            raise InputError(f"`{name}` has no processor that can be loaded: {error}") from None
        collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
        rows = [dataset[index] for index in range(min(config.show_mask, len(dataset)))]
        shown = [(str(row["id"]), collator.encode(row)) for row in rows]
        console = Console()
        for name, conversation in shown:
            console.rule(title(name, conversation))
            console.print(mask_as_text(collator.encoder, conversation))
        write_masks(folder / MASK_FILE, collator.encoder, shown)
        console.print(f"The same as a page: {folder / MASK_FILE}")


def read_recipe(recipe: str, options: dict[str, Any]) -> TrajectoryConfig:
    """A recipe with some options of its own.

    Args:
        recipe (`str`): name of a recipe of the package, or a YAML file.
        options (`dict`): by name; they win over the file.
    """
    argv = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return parse_options(TrajectoryConfig, ["--config", recipe, *argv], prog="t3 train")


def main(config: TrajectoryConfig) -> int:
    """`t3 train`: tune, print a table."""
    if config.show_mask:
        show_masks(config)
        return 0
    from accelerate import PartialState

    from t3_agents.hub.upload import Push
    from t3_agents.models.device import use_fastest_num_threads

    if config.push_to_hub:
        Push(Path(config.output_dir), config.hub_model_id)  # a wrong name is said before the training
    use_fastest_num_threads()
    agent = train(config)
    if not PartialState().is_main_process:
        return 0
    _print_summary(config, agent)
    if config.push_to_hub:
        from t3_agents.cli import main as command

        dataset = [] if Path(config.dataset_name).exists() else ["--dataset", config.dataset_name]
        return command(["push", "agent", config.output_dir, config.hub_model_id, *dataset])
    return 0


def _print_summary(config: TrajectoryConfig, agent: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = json.loads((Path(config.output_dir) / TRAINING_FILE).read_text())["summary"]
    table = Table("rows", "steps", "packing", "final loss", "tokens/s", "padding", "seconds", "agent")
    table.add_row(
        str(summary["rows"]),
        str(summary["steps"]),
        summary["packing"],
        f"{summary['final_loss']:.3f}",
        f"{summary['tokens_per_second']:.0f}",
        f"{summary['padding_share']:.0%}",
        f"{summary['train_seconds']:.0f}",
        str(agent),
    )
    Console().print(table)


if __name__ == "__main__":  # `accelerate launch -m trainers.sft`
    from t3_agents import cli

    sys.exit(cli.main(["train", *sys.argv[1:]]))
