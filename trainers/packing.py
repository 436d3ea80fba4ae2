"""Training on a prefix once for all rows of a batch.

Rows of trajectory data begin with the same system prompt. Its keys and values are computed once, with gradients, and
every row attends to them: the same function of the same tokens as the padded batch, without repeating the prefix in
each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from t3_agents.errors import InputError


def check_shared_prefix(model: PreTrainedModel, gradient_checkpointing: bool) -> None:
    """Refuse what cannot be exact.

    Raises:
        InputError: for models whose positions or attention do not continue from a cache, and with gradient
            checkpointing, which switches caches off.
    """
    config = model.config.get_text_config()
    # Older families say it with a window size alone.
    windowed = getattr(config, "sliding_window", None) is not None
    layers = set(getattr(config, "layer_types", None) or ["sliding_attention" if windowed else "full_attention"])
    rope = getattr(config, "rope_parameters", None) or {}
    if layers != {"full_attention"} or "mrope_section" in rope:
        raise InputError(
            f"{type(model).__name__} has sliding-window layers or multi-modal positions, which a shared prefix does "
            "not keep exact: set packing to none."
        )
    if gradient_checkpointing:
        raise InputError(
            "Gradient checkpointing switches off the cache that a shared prefix needs: set one of the two off."
        )


def prefix_cache(model: torch.nn.Module, prefix_ids: torch.Tensor, rows: int) -> DynamicCache:
    """Keys and values of the prefix for every row of a batch, part of the graph.

    Args:
        model (`Module`): the model in training, wrapped or not.
        prefix_ids (`Tensor` of shape `(1, prefix_length)`): token ids of the prefix.
        rows (`int`): rows of the batch.
    """
    output = model(input_ids=prefix_ids, use_cache=True, logits_to_keep=1)
    cache = DynamicCache()
    for index, layer in enumerate(output.past_key_values.layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return cache


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
