"""[`TrajectoryTrainer`]: SFTTrainer whose loss sees produced tokens only and can share a prefix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import SFTTrainer

from t3_agents.errors import InputError
from t3_agents.storage import write_atomic

from .collator import IGNORE
from .packing import head_at, prefix_cache


class TrajectoryTrainer(SFTTrainer):
    """TRL's trainer for batches of [`TrajectoryCollator`].

    Logits are computed at the positions before produced tokens only. The loss is the mean over all produced tokens of
    an optimizer step, so that gradient accumulation does not weigh short rows more.
    """

    modules_learning_rate: float | None = None
    """Peak learning rate of PEFT's `modules_to_save`; that of the adapter when `None`."""

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

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        prefix_ids = inputs.pop("prefix_ids", None)
        if prefix_ids is not None:
            inputs["past_key_values"] = prefix_cache(model, prefix_ids, labels.shape[0])
        targets = labels[:, 1:]
        # Position t predicts token t + 1; the last position predicts nothing.
        positions = torch.nn.functional.pad(targets != IGNORE, (0, 1))
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        with head_at(head, positions):
            outputs = model(**inputs, use_cache=False)
        wanted = targets[targets != IGNORE]
        total = cross_entropy(outputs.logits.float(), wanted, reduction="sum")
        count = wanted.numel() if num_items_in_batch is None else num_items_in_batch
        loss = total / max(int(count), 1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        if not torch.isfinite(loss):
            raise InputError(f"The loss is {loss.item()} at step {self.state.global_step}: lower the learning rate.")
        mode = "train" if self.model.training else "eval"
        accuracy = (outputs.logits.argmax(-1) == wanted).float().mean().item()
        self._metrics[mode]["mean_token_accuracy"].append(accuracy)
        return (loss, outputs) if return_outputs else loss


class ShowProgress(TrainerCallback):
    """A progress bar over optimizer steps, with the loss."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        columns = (
            *Progress.get_default_columns()[:-1],
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self.progress = Progress(*columns)
        self.bar = self.progress.add_task("Steps", total=state.max_steps, completed=state.global_step, loss="")
        self.progress.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        loss = f"loss {float(logs['loss']):.3f}" if logs and "loss" in logs else ""
        self.progress.update(self.bar, completed=state.global_step, **({"loss": loss} if loss else {}))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.stop()


class MarkComplete(TrainerCallback):
    """Marks a checkpoint folder once everything in it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from .sft import COMPLETE

        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_atomic(folder / COMPLETE, json.dumps({"step": state.global_step}) + "\n")
