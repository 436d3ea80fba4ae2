"""Attention of requests of different length, whose new tokens come one after the other in one sequence of the model.

Nothing is computed for padding: linear layers see the new tokens alone, and each token attends to the keys of its own
row of a [`SlotCache`]. So a prompt, one token of each of many requests, and several tokens of each take the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask


ATTENTION = "t3_slots"
"""Name of this attention in transformers' `AttentionInterface`."""

_FEW = 64
"""New tokens up to which the heads that share keys are computed together instead of repeating the keys."""


@dataclass(frozen=True)
class Span:
    """New tokens of one row.

    Args:
        row (`int`): row of the cache.
        start (`int`): tokens that the row has already.
        first (`int`): place of the first new token in the sequence.
        count (`int`): new tokens.
    """

    row: int
    start: int
    first: int
    count: int

    @property
    def end(self) -> int:
        """Tokens that the row has with the new ones."""
        return self.start + self.count

    @property
    def last(self) -> int:
        """Place behind the last new token in the sequence."""
        return self.first + self.count


class RaggedBatch:
    """Which rows of a cache the tokens of a sequence belong to.

    Args:
        rows (`Sequence[tuple[int, int, int]]`): per row in use its number, the tokens that it has, and its new ones.
        device (`torch.device`): of the model.
    """

    def __init__(self, rows: Sequence[tuple[int, int, int]], device: torch.device):
        self.device = device
        self.spans: list[Span] = []
        first = 0
        for row, start, count in rows:
            self.spans.append(Span(row, start, first, count))
            first += count
        self._masks: dict[Span, torch.Tensor] = {}

    @cached_property
    def rows(self) -> torch.Tensor:
        """Row of each token."""
        return torch.tensor([s.row for s in self.spans for _ in range(s.count)], device=self.device)

    @cached_property
    def columns(self) -> torch.Tensor:
        """Place of each token in its row."""
        return torch.tensor([n for s in self.spans for n in range(s.start, s.end)], device=self.device)

    @cached_property
    def width(self) -> int:
        """Tokens of the longest row, the new ones included."""
        return max(span.end for span in self.spans)

    @cached_property
    def widest(self) -> int:
        """New tokens of a row at most."""
        return max(span.count for span in self.spans)

    @cached_property
    def padded_places(self) -> torch.Tensor:
        """Places in the sequence of the tokens of each row, of shape `(rows, widest)`; the last one again where a row
        has fewer."""
        places = [[min(s.first + n, s.last - 1) for n in range(self.widest)] for s in self.spans]
        return torch.tensor(places, device=self.device)

    @cached_property
    def places_in_padded(self) -> torch.Tensor:
        """For each token its place in the flattened `padded_places`."""
        places = [n * self.widest + k for n, span in enumerate(self.spans) for k in range(span.count)]
        return torch.tensor(places, device=self.device)

    @cached_property
    def padded_mask(self) -> torch.Tensor:
        """What each token sees, of shape `(rows, 1, widest, width)`."""
        places = self.columns[self.padded_places]
        return torch.arange(self.width, device=self.device) <= places[:, None, :, None]

    def mask(self, span: Span, groups: int, dtype: torch.dtype) -> torch.Tensor | None:
        """What is added to the scores of a row whose tokens are computed for `groups` heads together, of shape
        `(groups * count, end)`; `None` when all is seen. It is the same in every layer."""
        if span.count == 1:
            return None
        if span not in self._masks:
            hidden = torch.ones(span.count, span.end, dtype=torch.bool, device=self.device).triu(span.start + 1)
            mask = torch.zeros(span.count, span.end, dtype=dtype, device=self.device)
            self._masks[span] = mask.masked_fill_(hidden, -torch.inf).repeat(groups, 1)
        return self._masks[span]


@contextmanager
def ragged_attention(text_config: Any) -> Iterator[None]:
    """Let a language model attend to rows of a [`SlotCache`] meanwhile.

    Args:
        text_config ([`~transformers.PreTrainedConfig`]): of the language model.
    """
    before = text_config._attn_implementation
    text_config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        text_config._attn_implementation = before


def _ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    ragged: RaggedBatch | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row.

    Args:
        query (`Tensor` of shape `(1, heads, tokens, head_dim)`): of all new tokens.
        key (`Tensor` of shape `(rows, kv_heads, room, head_dim)`): buffer of the cache, with the new keys; `value` is
            the other one.
        ragged ([`RaggedBatch`], *optional*): whose tokens they are. Without it this is transformers' `sdpa` attention.

    Returns:
        `tuple`: output of shape `(1, tokens, heads, head_dim)`, and `None`.
    """
    if ragged is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError(f"{type(module).__name__} has an attention that cannot be computed by row.")
    if len(ragged.spans) > 1 and not query.is_cpu:
        return _attend_together(query, key, value, ragged, scaling), None
    parts = [_attend(module, query, key, value, ragged, span, scaling) for span in ragged.spans]
    return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]), None


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ragged: RaggedBatch,
    span: Span,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one row, of shape `(1, count, heads, head_dim)`: what a row costs is its own length."""
    query = query[:, :, span.first : span.last]
    key = key[span.row : span.row + 1, :, : span.end]
    value = value[span.row : span.row + 1, :, : span.end]
    groups = query.shape[1] // key.shape[1]
    if span.count > _FEW:
        mask = None  # the causal kernel, without a mask
        if span.start:
            mask = torch.ones(span.count, span.end, dtype=torch.bool, device=query.device).tril(span.start)
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling)[0]
    return _attend_grouped(query, key, value, ragged.mask(span, groups, query.dtype), scaling)


def _attend_together(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ragged: RaggedBatch, scaling: float | None
) -> torch.Tensor:
    """Attention of all rows in one call, padded: an accelerator is faster at that than at many small calls."""
    number = len(ragged.spans)
    padded = query[0][:, ragged.padded_places].transpose(0, 1)
    mask = ragged.padded_mask.repeat(1, 1, query.shape[1] // key.shape[1], 1)
    key, value = key[:number, :, : ragged.width], value[:number, :, : ragged.width]
    output = _attend_grouped(padded, key, value, mask, scaling)
    return output.flatten(0, 1)[None, ragged.places_in_padded]


def _attend_grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """Attention with the heads that share keys as further queries, so that no key is copied.

    Args:
        query (`Tensor` of shape `(rows, heads, tokens, head_dim)`), key and value with the heads of the keys.
        mask (`Tensor`, *optional*): whose next to last dimension counts the tokens once per head of a group.

    Returns:
        `Tensor` of shape `(rows, tokens, heads, head_dim)`.
    """
    rows, heads, tokens, _ = query.shape
    query = query.reshape(rows, key.shape[1], -1, query.shape[-1])
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2)


def _slot_mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """Rows of a cache need no mask; whoever runs the model in another way meanwhile gets that of `sdpa`."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, _ragged_attention)
AttentionMaskInterface.register(ATTENTION, _slot_mask)
