"""Packing: which rows share one long row, and the positions of their tokens; `attention.py` keeps them apart.

A packed row is `[prefix | body 1 | body 2 | ...]`. A token attends to the prefix and, causally, to its own body;
positions of every body go on where the prefix ends. It is the same function of the same tokens as one row per
trajectory, without padding and with a prefix that all share computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedModel

from t3_agents.models.encoding import Conversation
from t3_agents.models.families import is_multi_modal, reason_against_continuous_batching


# Which rows go together


@dataclass
class LengthIndex:
    """Lengths of a dataset's rows, measured once.

    Args:
        lengths (`list[int]`): tokens of each row; 0 for a row that is left out.
        groups (`list[int]`): per row, the number of the prefix group that it belongs to.
        prefixes (`list[int]`): tokens that all rows of a group begin with, by group.
    """

    lengths: list[int]
    groups: list[int]
    prefixes: list[int]

    def without_skipped(self) -> LengthIndex:
        """The index of the rows that are left when those that were left out are gone."""
        kept = [row for row, length in enumerate(self.lengths) if length]
        return LengthIndex([self.lengths[row] for row in kept], [self.groups[row] for row in kept], self.prefixes)


class PrefixGroups:
    """Finds the rows that begin alike, one row at a time.

    A row joins the group with which it has most tokens in common, if the group keeps at least half of its prefix by
    it; else it opens a group of its own.
    """

    def __init__(self) -> None:
        self.prefixes: list[list[Any]] = []

    def add(self, prefix: list[Any]) -> int:
        """Number of the group of a row.

        Args:
            prefix (`list`): what the row may share: keys of its tokens before the first produced one.
        """
        common = [common_length(kept, prefix) for kept in self.prefixes]
        best = max(range(len(common)), key=common.__getitem__, default=None)
        if best is None or 2 * common[best] < len(self.prefixes[best]):
            self.prefixes.append(prefix)
            return len(self.prefixes) - 1
        self.prefixes[best] = self.prefixes[best][: common[best]]
        return best


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Number of items that two sequences begin with in common."""
    # Halving compares slices, which is much faster than item by item.
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def shareable_length(conversation: Conversation) -> int:
    """Tokens at the start of a conversation that a prefix may hold: all before the one that predicts the first
    produced token."""
    return max(0, min([turn[0] - 1 for turn in conversation.turns] + [len(conversation.ids) - 1]))


def shared_prefix(conversations: Sequence[Conversation]) -> int:
    """Number of tokens, pictures compared by their pixels, that all conversations begin with."""
    first, *others = [conversation.keys()[: shareable_length(conversation)] for conversation in conversations]
    return min((common_length(first, other) for other in others), default=0)


def pack_rows(index: LengthIndex, pack_length: int, share_prefix: bool) -> list[list[int]]:
    """Rows of each pack: first-fit decreasing within each prefix group.

    Args:
        index ([`LengthIndex`]): lengths of the rows.
        pack_length (`int`): tokens that a pack may have.
        share_prefix (`bool`): count the prefix of a group once per pack.

    Returns:
        `list[list[int]]`: row numbers by pack. A row longer than `pack_length` has a pack of its own.
    """
    packs = []
    for group, prefix in enumerate(index.prefixes if share_prefix else [0]):
        rows = [row for row in range(len(index.lengths)) if not share_prefix or index.groups[row] == group]
        bodies = {row: index.lengths[row] - prefix for row in rows}
        room = np.zeros(0, dtype=np.int64)
        bins: list[list[int]] = []
        for row in sorted(rows, key=lambda row: -bodies[row]):
            fitting = np.flatnonzero(room >= bodies[row])
            if fitting.size:
                chosen = int(fitting[0])
            else:
                chosen = len(bins)
                bins.append([])
                room = np.append(room, pack_length - prefix)
            bins[chosen].append(row)
            room[chosen] -= bodies[row]
        packs += bins
    return packs


def group_by_length(index: LengthIndex, batch_size: int) -> list[list[int]]:
    """Batches of rows of similar length, so that little is padding."""
    rows = sorted(range(len(index.lengths)), key=lambda row: -index.lengths[row])
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


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


def position_ids(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """Positions of a packed row: each body continues where the prefix ends.

    Args:
        model ([`~transformers.PreTrainedModel`]): without adapter; families with multi-modal positions compute theirs.
        inputs (`dict`): `input_ids` of shape `(1, length)`, `segment_bounds`, for multi-modal positions also
            `mm_token_type_ids`, `image_grid_thw` and `segment_images`, the number of pictures of prefix and bodies.

    Returns:
        `Tensor` of shape `(1, length)`, or `(3, 1, length)` for multi-modal positions.
    """
    ids, bounds = inputs["input_ids"], inputs["segment_bounds"]
    prefix = bounds[0]
    if not is_multi_modal(model.config.get_text_config()):
        pieces = [torch.arange(prefix), *(torch.arange(prefix, prefix + b - a) for a, b in pairwise(bounds))]
        return torch.cat(pieces)[None].to(ids.device)
    types, grids = inputs["mm_token_type_ids"], inputs.get("image_grid_thw")
    shared, *own = inputs["segment_images"]
    pieces, seen = [], shared
    for (start, end), count in zip(pairwise(bounds), own, strict=True):
        chosen = torch.cat([torch.arange(prefix), torch.arange(start, end)]).to(ids.device)
        pictures = torch.cat([grids[:shared], grids[seen : seen + count]]) if shared + count else None
        positions, _ = model.model.get_rope_index(
            ids[:, chosen], mm_token_type_ids=types[:, chosen], image_grid_thw=pictures
        )
        pieces.append(positions[:, :, prefix:] if pieces else positions)
        seen += count
    return torch.cat(pieces, dim=2)


def packing_refusal(model: PreTrainedModel) -> str | None:
    """Why rows of a model cannot be packed exactly, or `None` when they can."""
    reason = reason_against_continuous_batching(model)
    if reason is None and not model._can_set_attn_implementation():
        return f"{type(model).__name__} does not let its attention be replaced"
    return reason
