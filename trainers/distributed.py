"""Several processes of one run, as `accelerate launch` starts them: how they meet, and what they must do alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.data_loader import BatchSamplerShard
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback

from t3_agents.errors import InputError


if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


def is_sharded() -> bool:
    """Whether the weights of the model are split over the processes."""
    return any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


class BatchOrder(Sampler[list[int]]):
    """Given batches in an order of its own for each epoch, the same on every process.

    Args:
        batches (`list[list[int]]`): row numbers by batch.
        seed (`int`): of the order.
        multiple_of (`int`, *optional*, defaults to 1): number of processes; the first batches come twice to fill up.
    """

    def __init__(self, batches: list[list[int]], seed: int, multiple_of: int = 1):
        self.batches = batches
        self.seed = seed
        self.multiple_of = multiple_of
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.multiple_of) * self.multiple_of

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.batches))
        for number in range(len(self)):
            yield self.batches[order[number % len(order)]]


class OrderByEpoch(TrainerCallback):
    """Gives the data order its epoch.

    transformers and accelerate do not find the sampler under their wrappers when a run of several processes resumes in
    the middle of an epoch: it would read the order of the first epoch.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: DataLoader, **_: Any) -> None:
        batches = train_dataloader.batch_sampler
        while isinstance(batches, BatchSamplerShard):
            batches = batches.batch_sampler
        order = batches if isinstance(batches, BatchOrder) else batches.sampler
        order.set_epoch(int(state.epoch or 0))


def split_language_model_only(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """Let FSDP gather the vision tower with the rest of the model, also for a batch without pictures.

    By default its layers would be gathered where they are used, and a process without pictures would be waited for.

    Args:
        accelerator ([`~accelerate.Accelerator`]): of a trainer that has not begun yet.
        model ([`~transformers.PreTrainedModel`]): without adapter.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        layers = {type(layer).__name__ for layer in model.get_decoder().layers}
        accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = sorted(layers)


def check_pictures(accelerator: Accelerator, batch: dict[str, Any], trained_modules: bool) -> None:
    """Refuse a step in which only some processes have pictures, where the others would wait for ever.

    With all weights on each process nothing is waited for. Split weights are gathered where they are used, and
    gradients are summed where there are some: the language model always, the rest only with a picture.

    Args:
        accelerator ([`~accelerate.Accelerator`]): of the run.
        batch (`dict`): of this process.
        trained_modules (`bool`): whether more is trained than the adapter of the language model.

    Raises:
        InputError: on every process.
    """
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    if not deepspeed and accelerator.distributed_type != DistributedType.FSDP:
        return
    if not trained_modules and not (deepspeed and accelerator.state.deepspeed_plugin.zero_stage == 3):
        return
    mine = torch.tensor([int("pixel_values" in batch)], device=accelerator.device)
    with_pictures = int(accelerator.gather(mine).sum())
    if 0 < with_pictures < accelerator.num_processes:
        raise InputError(
            "Only some processes have pictures in this step, and split weights need them in all or none: train "
            "without modules_to_save under `--launch fsdp2`, with `--launch ddp`, or without rows that have none."
        )
