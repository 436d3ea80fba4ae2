"""Step-wise preference tuning: a saved agent learns to prefer the right one of two next steps.

Source: after tuning on trajectories, SPORT (P. Li et al., "Iterative Tool Usage Exploration for Multimodal Agents via
Step-wise Preference Tuning", arXiv 2504.21561) tunes on pairs of steps at the same history with DPO (R. Rafailov et
al., "Direct Preference Optimization", NeurIPS 2023). The trainer is TRL's; the reference is the agent itself, which is
the model with its new adapter switched off.

The command is `t3 dpo`, since TRL has one command per method as well (`trl sft`, `trl dpo`).
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError, MissingExtraError
from t3_agents.options import parse_options
from t3_agents.reports import CURVES_FILE, TRAINING_FILE
from t3_agents.reports.plots import BLUE, GREEN, PINK, Series, draw_lines
from t3_agents.storage import RunFolder, write_atomic

from .config import LORA_TARGETS


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin
    from trl import DPOTrainer

COLUMNS = ("prompt", "chosen", "rejected", "images")


@dataclass
class PreferenceConfig:
    """Tune a saved agent on pairs of a right and a wrong next step.

    Args:
        dataset (`str`): folder or Hub id of a dataset of pairs, as `t3 improve` leaves it in `round-<n>/pairs`.
        agent (`str`): folder or Hub id of the saved agent.
        output (`str`): folder of the run; the tuned agent is `<output>/agent`.
        revision (`str`, *optional*): branch, tag or commit of the agent's repo.
        split (`str`, *optional*, defaults to `"train"`): split to train on.
        beta (`float`, *optional*, defaults to 0.1): how closely the agent is held to what it was; larger is closer.
        lora_rank (`int`, *optional*, defaults to 64): rank of the adapter.
        lora_alpha (`int`, *optional*, defaults to 128): scale of the adapter.
        lora_targets (`str`, *optional*): regular expression of the adapted modules; by default the query, key and
            value projections of the language model.
        learning_rate (`float`, *optional*, defaults to 1e-6): peak learning rate of AdamW; TRL's.
        lr_scheduler (`str`, *optional*, defaults to `"cosine"`): schedule.
        warmup_ratio (`float`, *optional*, defaults to 0.1): share of the steps with rising rate.
        epochs (`float`, *optional*, defaults to 1): passes over the data.
        batch_size (`int`, *optional*, defaults to 2): pairs per device and step.
        gradient_accumulation (`int`, *optional*, defaults to 1): batches per optimizer step.
        max_length (`int`, *optional*, defaults to 10240): tokens that a prompt with one of its turns may have.
        gradient_checkpointing (`bool`, *optional*, defaults to `False`): trade time for memory.
        save_steps (`int`, *optional*, defaults to 50): optimizer steps between checkpoints.
        seed (`int`, *optional*, defaults to 0): of adapter weights and data order.
    """

    dataset: str
    agent: str
    output: str
    revision: str | None = None
    split: str = "train"
    beta: float = 0.1
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_targets: str = LORA_TARGETS
    learning_rate: float = 1e-6
    lr_scheduler: str = "cosine"
    warmup_ratio: float = 0.1
    epochs: float = 1
    batch_size: int = 2
    gradient_accumulation: int = 1
    max_length: int = 10240
    gradient_checkpointing: bool = False
    save_steps: int = 50
    seed: int = 0

    def __post_init__(self):
        positive = ("beta", "lora_rank", "batch_size", "gradient_accumulation", "max_length", "save_steps", "epochs")
        for name in positive:
            if getattr(self, name) <= 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}.")
        try:
            re.compile(self.lora_targets)
        except re.error as error:
            raise InputError(f"`lora_targets` `{self.lora_targets}` is no regular expression: {error}.") from None

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run."""
        return {"command": "dpo", **{name: value for name, value in asdict(self).items() if name != "output"}}


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
            matches `lora_targets`.
        MissingExtraError: when TRL is not installed.
    """
    try:
        from trl import DPOConfig, DPOTrainer
    except ImportError:
        raise MissingExtraError("trl", "train", "Preference tuning") from None
    from peft import LoraConfig
    from transformers import PrinterCallback

    from t3_agents.models.encoding import ChatEncoder

    from .dpo_collator import PreferenceCollator
    from .trainer import MarkComplete, ShowProgress, return_freed_memory

    missing = [name for name in COLUMNS if name not in train_dataset.column_names]
    if missing:
        raise InputError(f"The dataset has no column `{missing[0]}`: pairs have {', '.join(COLUMNS)}.")
    if len(train_dataset) == 0:
        raise InputError(f"The split `{config.split}` has no pairs to train on.")
    if not any(re.fullmatch(config.lora_targets, name) for name, _ in model.named_modules()):
        raise InputError(f"No module of {type(model).__name__} matches lora_targets `{config.lora_targets}`.")
    collator = PreferenceCollator(ChatEncoder(processor), config.max_length)
    collator([train_dataset[0]])  # a dataset that does not suit the model stops the run at its start
    if model.device.type == "cpu":
        return_freed_memory()
    per_epoch = -(-len(train_dataset) // (config.batch_size * config.gradient_accumulation))
    arguments = DPOConfig(
        output_dir=config.output,
        beta=config.beta,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=int(config.warmup_ratio * per_epoch * config.epochs),
        max_length=None,  # the collator refuses: a step that is cut is another step
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=model.dtype.is_floating_point and model.dtype.itemsize == 2,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=1,
        seed=config.seed,
        report_to="trackio" if importlib.util.find_spec("trackio") else "none",
        remove_unused_columns=False,
        dataloader_pin_memory=model.device.type == "cuda",
        disable_tqdm=True,  # ShowProgress has the bar
    )
    trainer = DPOTrainer(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=train_dataset,
        processing_class=processor,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=config.lora_targets,
            task_type="CAUSAL_LM",
        ),
        callbacks=[MarkComplete(), ShowProgress()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def tune_on_pairs(config: PreferenceConfig) -> Path:
    """Tune and save an agent; a run that was stopped goes on from its last checkpoint.

    Args:
        config ([`PreferenceConfig`]): the recipe.

    Returns:
        `Path`: the tuned agent, `<output>/agent`.

    Raises:
        InputError: when dataset, agent or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .checkpoints import clear_disk_errors
    from .sft import load_rows
    from .tuned_agent import is_tuned, load_to_tune, save_tuned, train_on, tuned_folder

    folder = Path(config.output)
    with RunFolder(folder, config.settings()), clear_disk_errors(folder):
        if is_tuned(folder):
            return tuned_folder(folder)
        dataset = load_rows(config.dataset, config.split)
        agent = load_to_tune(config.agent, config.revision)
        trainer = build_preference_trainer(config, agent.model.model, agent.model.processor, dataset)
        train_on(trainer, folder)
        write_preference_report(trainer, folder)
        return save_tuned(agent, trainer, folder)


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


def main(argv: list[str]) -> int:
    """`t3 dpo`: parse the options, tune, print a table."""
    config = parse_options(PreferenceConfig, argv, prog="t3 dpo")
    from t3_agents.models.device import use_fastest_num_threads

    use_fastest_num_threads()
    agent = tune_on_pairs(config)
    from rich.console import Console
    from rich.table import Table

    summary = json.loads((Path(config.output) / TRAINING_FILE).read_text())["summary"]
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
