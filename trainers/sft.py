"""Tune a controller on trajectories with TRL and PEFT, and save it as an agent."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError, MissingExtraError
from t3_agents.options import parse_options
from t3_agents.reports import TRAINING_FILE
from t3_agents.storage import RunFolder, sha256_of

from .checkpoints import clear_disk_errors, last_checkpoint
from .config import PACKED, TrainConfig
from .report import write_report


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin
    from trl import SFTTrainer

    from .collator import TrajectoryCollator

logger = logging.getLogger(__name__)

LENGTHS_FILE = "lengths.json"
MASK_FILE = "mask.html"
RECIPES = Path(__file__).parent / "recipes"
SEARCHED_ROWS = 200
"""Rows among which one with pictures is looked for, to check the model with."""


def build_trainer(
    config: TrainConfig, model: PreTrainedModel, processor: ProcessorMixin, train_dataset: Dataset, **kwargs: Any
) -> SFTTrainer:
    """A TRL trainer for trajectories: LoRA adapter, [`TrajectoryCollator`], loss at produced tokens.

    Args:
        config ([`TrainConfig`]): the recipe.
        model ([`~transformers.PreTrainedModel`]): the controller.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        train_dataset ([`~datasets.Dataset`]): rows with `messages` and `images`.
        kwargs: handed to [`~trl.SFTTrainer`], such as `eval_dataset` or `callbacks`.

    Raises:
        InputError: when the dataset is empty, the recipe does not fit the model, or its chat template rewrites turns.
        MissingExtraError: when TRL is not installed.
    """
    try:
        from trl import SFTConfig
    except ImportError:
        raise MissingExtraError("trl", "train", "Tuning") from None
    from accelerate import PartialState
    from peft import LoraConfig
    from transformers import PrinterCallback

    from t3_agents.models.device import best_device
    from t3_agents.models.encoding import ChatEncoder

    from .collator import TrajectoryCollator
    from .distributed import OrderByEpoch, split_language_model_only
    from .trainer import KeepAttention, MarkComplete, ShowProgress, TrajectoryTrainer, return_freed_memory

    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.split}` has no rows to train on.")
    for name in config.modules_to_save or []:
        # PEFT passes over a name that it does not find.
        if not any(module.endswith(name) for module, _ in model.named_modules()):
            raise InputError(f"No module of {type(model).__name__} is named as `{name}` in modules_to_save.")
    collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
    train_dataset, batches = _plan_batches(config, model, collator, train_dataset)
    processes = PartialState()
    in_epoch = len(batches) if batches else -(-len(train_dataset) // config.batch_size)
    steps = -(-in_epoch // (processes.num_processes * config.gradient_accumulation)) * config.epochs
    arguments = SFTConfig(
        output_dir=config.output,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=int(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_length=None,  # the collator cuts, at whole steps
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=model.dtype.is_floating_point and model.dtype.itemsize == 2,
        save_steps=config.save_steps,
        eval_strategy="steps" if kwargs.get("eval_dataset") is not None else "no",
        eval_steps=config.save_steps,
        per_device_eval_batch_size=config.batch_size,
        prediction_loss_only=True,
        load_best_model_at_end=kwargs.get("eval_dataset") is not None,
        # The one that is written, the one before it, which is whole, and the best one.
        save_total_limit=2 if kwargs.get("eval_dataset") is None else 3,
        logging_steps=1,
        seed=config.seed,
        run_name=_run_name(Path(config.output).resolve()),
        project="t3-agents",
        use_cpu=best_device() == "cpu",
        report_to=config.report_to or ("trackio" if importlib.util.find_spec("trackio") else "none"),
        # Processes that have met stay as they are.
        accelerator_config={"use_configured_state": processes.num_processes > 1},
        remove_unused_columns=False,
        dataloader_pin_memory=model.device.type == "cuda",
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=True,  # ShowProgress has the bar
    )
    callbacks = [OrderByEpoch(), MarkComplete(), ShowProgress(), *kwargs.pop("callbacks", [])]
    if model.device.type == "cpu":
        return_freed_memory()
        if collator.packing in PACKED:
            callbacks.append(KeepAttention())
    adapter = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=config.lora_targets,
        modules_to_save=config.modules_to_save,
        task_type="CAUSAL_LM",
    )
    try:
        trainer = TrajectoryTrainer(
            model=model,
            args=arguments,
            data_collator=collator,
            train_dataset=train_dataset,
            processing_class=processor,
            peft_config=adapter,
            callbacks=callbacks,
            **kwargs,
        )
    except ValueError as error:
        if "arget modules" in str(error):
            raise InputError(
                f"No module of {type(model).__name__} matches lora_targets `{config.lora_targets}`."
            ) from error
        raise
    split_language_model_only(trainer.accelerator, model)
    trainer.modules_to_save = config.modules_to_save
    trainer.modules_learning_rate = config.modules_learning_rate
    trainer.batches = batches
    trainer.remove_callback(PrinterCallback)
    return trainer


def _run_name(folder: Path) -> str:
    """Name of a run where its curves go: the same when it goes on, another one for another folder."""
    return f"{folder.name}-{sha256_of(str(folder).encode())[:6]}"


def _plan_batches(
    config: TrainConfig, model: PreTrainedModel, collator: TrajectoryCollator, dataset: Dataset
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

    packing, skip = config.packing, config.long_rows == "skip"
    rows = _first_rows(dataset, collator, skip)
    check_family(collator.encoder, rows)
    if packing in PACKED:
        processes = PartialState()
        problem = packing_problem(model, collator, rows) if processes.is_main_process else None
        (problem,) = broadcast_object_list([problem])
        if problem:
            logger.warning(f"Rows are grouped by length instead of packed: {problem}.")
            packing = "length_grouped"
        else:
            collator.packing = packing
            use_segment_attention(model)
    if not (skip or config.pack_length or packing == "length_grouped"):
        return dataset, None
    with PartialState().main_process_first():  # the others read what it has measured
        index = measure_rows(dataset, collator, skip, Path(config.output) / LENGTHS_FILE)
    dataset = dataset.select([row for row, length in enumerate(index.lengths) if length])
    index = index.without_skipped()
    if packing == "length_grouped":
        return dataset, group_by_length(index, config.batch_size)
    if config.pack_length and packing in PACKED:
        return dataset, pack_rows(index, config.pack_length, packing == "shared_prefix")
    return dataset, None


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


def train(config: TrainConfig) -> Path:
    """Tune and save an agent; a run that was stopped goes on from its last checkpoint.

    Args:
        config ([`TrainConfig`]): the recipe.

    Returns:
        `Path`: the tuned agent, `<output>/agent`.

    Raises:
        InputError: when dataset, controller or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .distributed import join_processes
    from .loading import load_controller, tuned_model

    folder = Path(config.output)
    agent_folder = folder / "agent"
    processes = join_processes()
    settings = {"command": "train", **config.settings(), "processes": processes.num_processes}
    run_folder = RunFolder(folder, settings) if processes.is_main_process else nullcontext()
    with run_folder, clear_disk_errors(folder):
        processes.wait_for_everyone()
        if (agent_folder / "t3_agent.json").is_file():
            return agent_folder
        with processes.main_process_first():
            dataset = load_rows(config.dataset, config.split)
            validation = load_rows(config.dataset, config.eval_split) if config.eval_split else None
        from t3_agents.agent.agent import T3Agent
        from t3_agents.models.vlm import VLMModel
        from t3_agents.tools.toolbox import make_toolbox

        controller = load_controller(config)
        trainer = build_trainer(config, controller.model, controller.processor, dataset, eval_dataset=validation)
        with processes.main_process_first():  # which deletes torn ones
            checkpoint = last_checkpoint(folder)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        tuned = tuned_model(trainer, config, controller)
        if processes.is_main_process:
            write_report(trainer, folder)
            model = VLMModel(
                tuned,
                controller.processor,
                model_id=controller.model_id,
                revision=controller.revision,
                max_new_tokens=config.max_new_tokens,
            )
            agent = T3Agent(tools=make_toolbox(config.toolbox), model=model, prompt=config.prompt)
            scratch = folder / ".agent"
            shutil.rmtree(scratch, ignore_errors=True)
            agent.save_pretrained(scratch)
            scratch.rename(agent_folder)
        processes.wait_for_everyone()
    return agent_folder


def show_masks(config: TrainConfig) -> None:
    """Print the first rows with their loss mask, and write them to `<output>/mask.html`.

    Args:
        config ([`TrainConfig`]): the recipe; `show_mask` is the number of rows.

    Raises:
        InputError: when dataset or controller cannot be used, or a row does not fit the model.
    """
    from rich.console import Console
    from transformers import AutoProcessor

    from t3_agents.models.embedded import EMBEDDED, embedded_controller
    from t3_agents.models.encoding import ChatEncoder

    from .collator import TrajectoryCollator
    from .show_mask import mask_as_text, title, write_masks

    with RunFolder(Path(config.output), {"command": "train", **config.settings()}) as folder:
        dataset = load_rows(config.dataset, config.split)
        source = embedded_controller() if config.controller == EMBEDDED else config.controller
        try:
            processor = AutoProcessor.from_pretrained(source, revision=config.revision)
        except (OSError, ValueError) as error:
            raise InputError(f"`{config.controller}` has no processor that can be loaded: {error}") from None
        collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
        rows = [dataset[index] for index in range(min(config.show_mask, len(dataset)))]
        shown = [(str(row["id"]), collator.encode(row)) for row in rows]
        console = Console()
        for name, conversation in shown:
            console.rule(title(name, conversation))
            console.print(mask_as_text(collator.encoder, conversation))
        write_masks(folder.path / MASK_FILE, collator.encoder, shown)
        console.print(f"The same as a page: {folder.path / MASK_FILE}")


def load_rows(dataset: str, split: str) -> Dataset:
    """Rows of a dataset folder or Hub repo.

    Raises:
        InputError: when there is no such dataset or split.
    """
    from datasets import load_dataset

    folder = Path(dataset)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{dataset} is a file: name the folder of a built dataset.")
    try:
        # A relative folder would be taken for a Hub id.
        return load_dataset(str(folder.resolve()) if folder.exists() else dataset, split=split)
    except (ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"`{dataset}` with split `{split}` cannot be loaded as a dataset: {reason}") from error


def read_recipe(recipe: str, options: dict[str, Any]) -> TrainConfig:
    """A recipe with some options of its own.

    Args:
        recipe (`str`): name of a recipe of the package, or a YAML file.
        options (`dict`): by name; they win over the file.
    """
    argv = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return parse_options(TrainConfig, ["--config", recipe, *argv], prog="t3 train")


def main(argv: list[str]) -> int:
    """`t3 train`: parse the options, tune, print a table."""
    config = parse_options(TrainConfig, argv, prog="t3 train")
    if config.show_mask:
        show_masks(config)
        return 0
    from accelerate import PartialState

    from t3_agents.hub.upload import Push
    from t3_agents.models.device import use_fastest_num_threads

    if config.push_to_hub:
        Push(Path(config.output), config.push_to_hub)  # a wrong name is said before the training
    use_fastest_num_threads()
    agent = train(config)
    if not PartialState().is_main_process:
        return 0
    _print_summary(config, agent)
    if config.push_to_hub:
        from t3_agents.cli import main as command

        dataset = [] if Path(config.dataset).exists() else ["--dataset", config.dataset]
        return command(["push", "agent", config.output, config.push_to_hub, *dataset])
    return 0


def _print_summary(config: TrainConfig, agent: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = json.loads((Path(config.output) / TRAINING_FILE).read_text())["summary"]
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
