"""[`TrajectoryTrainer`]: SFTTrainer whose loss sees produced tokens only and can share a prefix."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer
from trl import SFTTrainer, get_peft_config

from t3_agents.errors import InputError

from .attention import position_ids
from .collators import IGNORE
from .config import TuningConfig
from .distributed import BatchOrder, check_pictures
from .loading import MarkComplete, ShowProgress


M_MMAP_THRESHOLD = -3
"""Number of the setting in glibc's `malloc.h`: from how many bytes on a block is mapped by itself."""

LARGE_BLOCK = 16 << 20
"""Bytes of a block that goes back when freed. New pages cost time: with 1 MiB a step takes a third longer."""


class TrajectoryTrainer(SFTTrainer):
    """TRL's trainer for batches of [`TrajectoryCollator`].

    Logits are computed at the positions before produced tokens only. The loss is the mean over all produced tokens of
    an optimizer step, so that gradient accumulation does not weigh short rows more.
    """

    modules_learning_rate: float | None = None
    """Peak learning rate of PEFT's `modules_to_save`; that of the adapter when `None`."""

    modules_to_save: list[str] | None = None
    """Modules that are trained in full."""

    batches: list[list[int]] | None = None
    """Row numbers of each batch; batches of random rows when `None`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Some families (Qwen2.5-VL, Gemma 3) take no count of tokens, and then it is not made; the loss is made here.
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader:
        if self.batches is None:
            return super().get_train_dataloader()
        order = BatchOrder(self.batches, self.args.data_seed or self.args.seed, self.accelerator.num_processes)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=order,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.modules_learning_rate is not None:
            trained = [(name, p) for name, p in (model or self.model).named_parameters() if p.requires_grad]
            modules = [p for name, p in trained if "modules_to_save" in name]
            adapter = [p for name, p in trained if "modules_to_save" not in name]
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            decay = self.args.weight_decay
            self.optimizer = optimizer_class(
                [
                    {"params": adapter, "weight_decay": decay},
                    {"params": modules, "weight_decay": decay, "lr": self.modules_learning_rate},
                ],
                **settings,
            )
        return super().create_optimizer(model)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        start = time.perf_counter()
        loss = super().training_step(*args, **kwargs)
        self._add("train", seconds=time.perf_counter() - start, memory_mb=_memory_in_use() / 2**20)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # TRL logs the mean of each figure over the batches of a step; these are counts.
        batches = self._metrics["train"]
        for name in ("tokens", "seconds"):
            if name in batches:
                batches[name] = [sum(batches[name])]
        if "tokens" in batches and self.accelerator.num_processes > 1:
            tokens = torch.tensor(batches["tokens"], device=self.accelerator.device)
            batches["tokens"] = [int(self.accelerator.gather(tokens).sum())]
        super().log(logs, start_time)

    def _add(self, mode: str, **figures: float) -> None:
        for name, value in figures.items():
            self._metrics[mode][name].append(value)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs = dict(inputs)
        if self.accelerator.num_processes > 1:
            check_pictures(self.accelerator, inputs, bool(self.modules_to_save))
        weights = inputs.pop("loss_weights", None)
        logits, wanted = supervised_logits(model, self._plain_model(model), inputs)
        losses = cross_entropy(at_least_single(logits), wanted, reduction="none")
        total = (losses if weights is None else losses * weights).sum()
        count = wanted.numel() if num_items_in_batch is None else num_items_in_batch
        loss = total / max(int(count), 1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        if not torch.isfinite(loss):
            rows = ", ".join(inputs["row_ids"])
            raise InputError(
                f"The loss is {loss.item()} at step {self.state.global_step} with the rows {rows}: lower the learning "
                "rate, or look at these rows with --show-mask."
            )
        accuracy = (logits.argmax(-1) == wanted).float().mean().item()
        if not self.model.training:
            self._add("eval", mean_token_accuracy=accuracy)
        else:
            size = inputs["input_ids"].numel()
            read = int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else size
            self._add("train", mean_token_accuracy=accuracy, tokens=read, padding_share=1 - read / size)
        return (loss, {"logits": logits}) if return_outputs else loss

    def _plain_model(self, model: torch.nn.Module) -> PreTrainedModel:
        """The model without the wrappers of accelerate and PEFT."""
        unwrapped = self.accelerator.unwrap_model(model)
        return unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped


def _memory_in_use() -> int:
    """Bytes that the GPU's tensors took at most so far, without a GPU those that the process takes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


def return_freed_memory() -> None:
    """Let large blocks go back to the system when they are freed; only glibc is asked, others keep their way.

    By itself glibc keeps freed blocks of up to 32 MiB between those in use. After a pass over long rows this is more
    than the tensors take.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def at_least_single(logits: torch.Tensor) -> torch.Tensor:
    """The logits in single precision, or in double where the model has it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def supervised_logits(
    model: torch.nn.Module, plain: PreTrainedModel, inputs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the positions before produced tokens only, and those tokens.

    Args:
        model (`Module`): what is called, wrapped or not.
        plain ([`~transformers.PreTrainedModel`]): the model without wrappers.
        inputs (`dict`): a batch of [`TrajectoryCollator`].

    Returns:
        `tuple`: logits of shape `(produced, vocab_size)` and tokens of shape `(produced,)`, row by row.

    Raises:
        InputError: when the model finds that the rows do not fit it; the message names them.
    """
    inputs = dict(inputs)
    row_ids = inputs.pop("row_ids")
    targets = inputs.pop("labels")[:, 1:]
    if "segment_bounds" in inputs:
        inputs["position_ids"] = position_ids(plain, inputs)
        del inputs["segment_images"]
    # Position t predicts token t + 1; the last position predicts nothing.
    positions = torch.nn.functional.pad(targets != IGNORE, (0, 1))
    try:
        with head_at(plain.get_output_embeddings(), positions):
            outputs = model(**inputs, use_cache=False)
    except ValueError as error:  # other numbers of picture tokens than of picture features, above all
        raise InputError(
            f"The rows {', '.join(row_ids)} do not fit {type(plain).__name__}: {error} Use the processor that the "
            "model was released with."
        ) from error
    return outputs.logits, targets[targets != IGNORE]


@contextmanager
def head_at(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Let a language-model head see only some positions: full logits over the vocabulary are the memory peak.

    Args:
        head (`Module`): the output embeddings, called once with hidden states of shape `(rows, length, hidden_size)`.
        positions (`Tensor` of shape `(rows, length)`): boolean mask; the logits then have shape `(positions.sum(),
            vocab_size)`.
    """

    def select(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][positions], *arguments[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def new_trainer(
    kind: type[Trainer], config: TuningConfig, arguments: Any, model: PreTrainedModel, **kwargs: Any
) -> Any:
    """A trainer of TRL with the adapter of a recipe and what all runs have: checkpoints that resume, progress.

    Args:
        kind (`type`): the trainer's class.
        config ([`TuningConfig`]): the recipe.
        arguments ([`~transformers.TrainingArguments`]): of the trainer.
        model ([`~transformers.PreTrainedModel`]): without adapter.
        kwargs: handed to the trainer.

    Raises:
        InputError: when the model has no module that the adapter is for.
    """
    if model.device.type == "cpu":
        return_freed_memory()
    callbacks = [MarkComplete(), ShowProgress(), *kwargs.pop("callbacks", [])]
    try:
        trainer = kind(model=model, args=arguments, peft_config=get_peft_config(config), callbacks=callbacks, **kwargs)
    except ValueError as error:
        if "arget modules" not in str(error):
            raise
        raise InputError(
            f"No module of {type(model).__name__} matches lora_target_modules `{config.lora_target_modules}`."
        ) from error
    trainer.remove_callback(PrinterCallback)
    return trainer
