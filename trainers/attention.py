"""A packed row in the model: attention of the prefix and of each body to the prefix and itself, and positions.

Registered with transformers as one more attention of a language model. On a GPU it is FlexAttention over blocks; on a
CPU the prefix is attended to by all bodies in one call, and the parts are put together by their log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import create_selective_checkpoint_contexts
from transformers import AttentionInterface, PreTrainedModel, TrainerCallback
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from t3_agents.models.families import is_multi_modal


ATTENTION = "t3_segments"
"""Name of the attention by segment in transformers' `AttentionInterface`."""

BLOCK = 128
"""Tokens of a block of FlexAttention, its default."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def _segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segment_bounds: Sequence[int] | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of the prefix, and of each body to the prefix and itself.

    Args:
        query (`Tensor` of shape `(1, heads, length, head_dim)`), key and value with the heads of the keys.
        segment_bounds (`Sequence[int]`, *optional*): length of the prefix, then the end of each body. Without it, or
            with a mask, this is transformers' `sdpa` attention.
    """
    if segment_bounds is None or attention_mask is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    # The faster ones know no dropout.
    if query.is_cuda and not dropout:
        output = attention_by_blocks(query, key, value, segment_bounds, scaling)
    elif query.is_cpu and not dropout and _are_alike(query, key, value):
        output, _ = attention_by_part(query, key, value, list(segment_bounds), scaling)
    else:
        output = attention_by_segment(query, key, value, segment_bounds, scaling, dropout)
    return output.transpose(1, 2).contiguous(), None


def attention_by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """The attention of a packed row with one call per segment: what the mask would throw away is not computed.

    Args:
        query (`Tensor` of shape `(1, heads, length, head_dim)`), key and value with the heads of the keys.
        bounds (`Sequence[int]`): length of the prefix, then the end of each body.
        scaling (`float`, *optional*): of the scores; by default one over the root of `head_dim`.
        dropout (`float`, *optional*, defaults to 0.0): share of the weights that are dropped.

    Returns:
        `Tensor` of the shape of the query.
    """
    prefix = bounds[0]
    grouped = query.shape[1] != key.shape[1]

    def attend(start: int, end: int) -> torch.Tensor:
        own_key, own_value, mask = key[:, :, start:end], value[:, :, start:end], None
        if start and prefix:
            own_key = torch.cat([key[:, :, :prefix], own_key], dim=2)
            own_value = torch.cat([value[:, :, :prefix], own_value], dim=2)
            mask = torch.ones(end - start, prefix + end - start, dtype=torch.bool, device=query.device).tril(prefix)
        return scaled_dot_product_attention(
            query[:, :, start:end],
            own_key,
            own_value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=grouped,
        )

    return torch.cat([attend(start, end) for start, end in _segments(bounds)], dim=2)


@torch.library.custom_op(
    "t3_agents::attention_by_part",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor query, Tensor key, Tensor value, int[] bounds, float? scaling) -> (Tensor, Tensor)",
)
def attention_by_part(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: list[int], scaling: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as [`attention_by_segment`] with one call for what all bodies see of the prefix.

    A part gives its output and the log-sum-exp of its scores, of which follow those of all parts together. The way
    back through a part is that of the kernel with the output and log-sum-exp of the whole (H. Liu et al., "Ring
    Attention", arXiv 2310.01889).

    Args:
        query (`Tensor` of shape `(1, heads, length, head_dim)`), key and value with the heads of the keys.
        bounds (`list[int]`): length of the prefix, then the end of each body.
        scaling (`float`, *optional*): of the scores; by default one over the root of `head_dim`.

    Returns:
        `tuple`: the output, of the shape of the query, and the log-sum-exp of shape `(1, heads, length)`.
    """
    prefix, groups = bounds[0], query.shape[1] // key.shape[1]
    parts = [
        _flash(_piece(query, span), _piece(key, span, groups), _piece(value, span, groups), 0.0, True, scale=scaling)
        for span in _segments(bounds)
    ]
    output, total = (torch.cat(found, dim=2) for found in zip(*parts, strict=True))
    if prefix:
        bodies, own = output[:, :, prefix:], total[:, :, prefix:]
        shared, seen = _flash(
            _grouped(query, prefix, key.shape[1]), key[:, :, :prefix], value[:, :, :prefix], scale=scaling
        )
        shared, seen = shared.reshape(bodies.shape), seen.reshape(own.shape)
        both = torch.logaddexp(own, seen)
        bodies.mul_((own - both).exp()[..., None]).add_(shared * (seen - both).exp()[..., None])
        own.copy_(both)
    return output, total


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, ctx.bounds, ctx.scaling = inputs
    ctx.save_for_backward(query, key, value, *output)


def _backward(ctx: Any, grad: torch.Tensor, _: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    query, key, value, output, total = ctx.saved_tensors
    prefix, heads = ctx.bounds[0], key.shape[1]
    groups = query.shape[1] // heads
    parts = []
    for span in _segments(ctx.bounds):
        of_query, of_key, of_value = _flash_backward(
            *(_piece(grad, span), _piece(query, span), _piece(key, span, groups), _piece(value, span, groups)),
            *(_piece(output, span), _piece(total, span), 0.0, True),
            scale=ctx.scaling,
        )
        parts.append((of_query, *(part.unflatten(1, (heads, groups)).sum(2) for part in (of_key, of_value))))
    of_query, of_key, of_value = (torch.cat(found, dim=2) for found in zip(*parts, strict=True))
    if prefix:
        by_bodies, by_key, by_value = _flash_backward(
            *(_grouped(grad, prefix, heads), _grouped(query, prefix, heads), key[:, :, :prefix], value[:, :, :prefix]),
            *(_grouped(output, prefix, heads), _grouped(total, prefix, heads), 0.0, False),
            scale=ctx.scaling,
        )
        of_query[:, :, prefix:] += by_bodies.reshape(of_query[:, :, prefix:].shape)
        of_key[:, :, :prefix] += by_key
        of_value[:, :, :prefix] += by_value
    return of_query, of_key, of_value, None, None


attention_by_part.register_autograd(_backward, setup_context=_keep)


def _are_alike(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the CPU's kernel takes them as they are; under autocast their types may differ."""
    return query.dtype == key.dtype == value.dtype and query.shape[-1] == value.shape[-1]


def _segments(bounds: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of the prefix, if there is one, and of the bodies."""
    return [(start, end) for start, end in zip([0, *bounds[:-1]], bounds, strict=True) if end > start]


def _piece(tensor: torch.Tensor, span: tuple[int, int], groups: int = 1) -> torch.Tensor:
    """Tokens of a segment, each head as often as query heads share it."""
    piece = tensor[:, :, span[0] : span[1]]
    return piece.repeat_interleave(groups, dim=1) if groups > 1 else piece


def _grouped(tensor: torch.Tensor, start: int, heads: int) -> torch.Tensor:
    """Tokens from `start` on, with the query heads that share keys as further tokens."""
    return tensor[:, :, start:].reshape(1, heads, -1, *tensor.shape[3:])


def keep_attention() -> tuple[Any, Any]:
    """For gradient checkpointing: all of a layer is computed again but its attention, which takes the most time."""
    return create_selective_checkpoint_contexts([torch.ops.t3_agents.attention_by_part.default])


class KeepAttention(TrainerCallback):
    """With gradient checkpointing, keeps the attention of packed rows instead of computing it twice."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        # Not by the training arguments: some loggers write them as JSON, which has no functions.
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False, "context_fn": keep_attention}
            )


def attention_by_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: Sequence[int],
    scaling: float | None = None,
) -> torch.Tensor:
    """The same as [`attention_by_segment`] with one kernel that skips masked blocks (FlexAttention, arXiv 2412.05496).

    PyTorch has its backward pass on a GPU only.
    """
    attend = compiled_flex_attention() if query.is_cuda else flex_attention
    mask = segment_block_mask(tuple(bounds), query.device)
    return attend(query, key, value, block_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])


@cache
def compiled_flex_attention() -> Callable[..., torch.Tensor]:
    """FlexAttention as one kernel; called without compilation it writes the scores out."""
    # Packs differ in length: without dynamic shapes each length is compiled anew.
    return torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=4)  # all layers, and the second pass of gradient checkpointing, have the same one
def segment_block_mask(bounds: tuple[int, ...], device: torch.device) -> BlockMask:
    """Blocks of tokens that see each other in a packed row.

    They follow from the bounds, so that no square of the length is written out, as `create_block_mask` does.

    Args:
        bounds (`tuple[int, ...]`): length of the prefix, then the end of each body.
        device (`torch.device`): where to.
    """
    prefix, length = bounds[0], bounds[-1]
    starts = torch.tensor([0, *bounds[:-1]])
    segments = torch.arange(len(bounds)).repeat_interleave(torch.tensor(bounds) - starts)

    def may_see(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (query >= key) & ((segments_there[key] == 0) | (segments_there[key] == segments_there[query]))

    # A token sees the keys up to `shared`, and those from `own` to itself.
    token = torch.arange(length)[:, None]
    shared, own = (token + 1).clamp(max=prefix), starts[segments][:, None]
    first = torch.arange(0, length, BLOCK)[None]
    last = first + BLOCK
    sees_some = (shared > first) | ((own < last) & (token >= first))
    sees_all = (shared >= last) | ((token + 1 >= last) & ((own <= first) | (own <= shared)))
    padding = (0, 0, 0, -length % BLOCK)
    some, whole = (torch.nn.functional.pad(seen, padding).unflatten(0, (-1, BLOCK)) for seen in (sees_some, sees_all))
    some, whole = some.any(1), whole.all(1)
    segments_there = segments.to(device)
    return BlockMask.from_kv_blocks(
        *_ordered_blocks(some & ~whole, device),
        *_ordered_blocks(whole, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=may_see,
        seq_lengths=(length, length),
    )


def _ordered_blocks(blocks: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of the blocks of each row, and their places before those of the others."""
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None].to(device), order.int()[None, None].to(device)


def _segment_mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """Packed rows come without a padding mask and need none; padded ones get that of `sdpa`."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, _segment_attention)
AttentionMaskInterface.register(ATTENTION, _segment_mask)


def use_segment_attention(model: PreTrainedModel) -> None:
    """Let the language model of a vision-language model attend by segment; its vision tower stays as it is."""
    model.set_attn_implementation({"text_config": ATTENTION})


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
