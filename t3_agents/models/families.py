"""What differs between families of models when keys and values are reused: position ids, and where reuse is wrong."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from .engine.request import Request


if TYPE_CHECKING:
    from transformers import PreTrainedModel

MULTI_MODAL_ROPE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Model types whose multi-modal positions are known to continue behind kept keys and values."""


def base_model(model: Any) -> PreTrainedModel:
    """The model of transformers, also under a PEFT adapter."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def reason_against_slots(model: Any) -> str | None:
    """Why keys and values of this model cannot be kept, joined and continued one by one; `None` when they can."""
    model = base_model(model)
    name, config = type(model).__name__, model.config.get_text_config()
    if model.config.is_encoder_decoder or model.config.model_type == "mllama":
        return f"{name} reads pictures through cross-attention"
    # With them, tokens of a picture see each other in both directions.
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        return f"{name} reads pictures in both directions"
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if types != {"full_attention"} or getattr(config, "sliding_window", None):
        return f"{name} has layers without full attention"
    if is_multi_modal(config) and model.config.model_type not in MULTI_MODAL_ROPE:
        return f"{name} has multi-modal positions of another kind than {', '.join(MULTI_MODAL_ROPE)}"
    if not model._can_set_attn_implementation():
        return f"{name} does not let its attention be replaced"
    return None


def positions_of(model: Any) -> Positions:
    """The way in which the model's family numbers its tokens."""
    model = base_model(model)
    if is_multi_modal(model.config.get_text_config()):
        return MultiModalPositions(model)
    return Positions()


def is_multi_modal(text_config: Any) -> bool:
    """Whether positions depend on the pictures (multi-modal RoPE, arXiv 2409.12191)."""
    return "mrope_section" in (getattr(text_config, "rope_parameters", None) or {})


class Positions:
    """One position per token, from 0."""

    def of_prompt(
        self, request: Request, length: int, start: int, pixels: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Position ids of the tokens of a prompt from `start` on.

        Args:
            request ([`Request`]): the prompt, and what was produced already.
            length (`int`): tokens of both.
            start (`int`): tokens whose keys and values are kept.
            pixels (`dict`): pixel inputs of the pictures behind `start`.

        Returns:
            `tuple[Tensor, int]`: ids in the form of the family's `position_ids`, and what is added to the place of a
                token behind them.
        """
        return torch.arange(start, length)[None], 0

    def of_tokens(self, positions: torch.Tensor) -> torch.Tensor:
        """Position ids of tokens without pictures, from positions of shape `(tokens,)`."""
        return positions[None]


class MultiModalPositions(Positions):
    """Positions of Qwen2-VL: those of a picture are a grid, and text goes on behind its longer side."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self._steps: dict[str, int] = {}
        """By a picture's digest, the positions that it takes up."""

    def of_prompt(
        self, request: Request, length: int, start: int, pixels: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        spans = request.conversation.image_spans
        ids = torch.tensor([[*request.conversation.ids, *request.output_ids][start:length]])
        is_image = torch.zeros_like(ids)
        for first, last in spans:
            if first >= start:
                is_image[:, first - start : last - start] = 1
        grid = pixels["image_grid_thw"].cpu() if "image_grid_thw" in pixels else None
        positions, shift = self.model.model.get_rope_index(ids, mm_token_type_ids=is_image, image_grid_thw=grid)
        # A prefix moves what follows by the positions that its pictures do not take.
        before = sum(self._steps[request.keys[first][0]] - (last - first) for first, last in spans if last <= start)
        for first, last in spans:
            if first >= start:
                begin, end = first - start, last - start
                behind = positions[0, 0, end] if end < ids.shape[1] else positions.max() + 1
                previous = positions[0, 0, begin - 1] if begin else -1
                self._steps[request.keys[first][0]] = int(behind - previous - 1)
        return positions + start + before, int(shift) + before

    def of_tokens(self, positions: torch.Tensor) -> torch.Tensor:
        return positions[None, None].expand(3, -1, -1)
