"""What differs between families of models: how their processors take pictures, position ids, and where keys and values
cannot be reused."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

MULTI_MODAL_ROPE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""Model types whose multi-modal positions are known to continue behind kept keys and values."""


NUMBER_MARKS = ("<image_id>", "</image_id>")
"""What MiniCPM-V writes around the number of a picture in its conversation, counted from 0."""


def rows_of_pictures(processor: ProcessorMixin, pictures: Sequence[Sequence[Image.Image]]) -> list[list[Image.Image]]:
    """Pictures as the processor gets them, one list for each text."""
    # LLaVA-OneVision cuts a picture into patches only when its row has no other; each is a row of its own.
    if "batch_num_images" in processor.model_input_names:
        return [[picture] for row in pictures for picture in row]
    return [list(row) for row in pictures]


def picture_marks(processor: ProcessorMixin, ids: Sequence[int]) -> dict[str, list[int]]:
    """The marks of picture tokens (1, else 0) under the family's name for them; empty where it takes none."""
    if not processor.return_mm_token_type_ids:
        return {}
    names = processor.model_input_names
    name = "mm_token_type_ids" if "mm_token_type_ids" in names else "token_type_ids"
    return {name: processor.create_mm_token_type_ids([list(ids)])[0]}


def base_model(model: Any) -> PreTrainedModel:
    """The model of transformers, also under a PEFT adapter."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def reason_against_continuous_batching(model: Any) -> str | None:
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


def is_multi_modal(text_config: Any) -> bool:
    """Whether positions depend on the pictures (multi-modal RoPE, arXiv 2409.12191)."""
    return "mrope_section" in (getattr(text_config, "rope_parameters", None) or {})


class Positions:
    """Position ids of tokens: one per token, from 0; in families of multi-modal RoPE those of a picture are a grid,
    and text continues behind its longer side.

    Args:
        model ([`~transformers.PreTrainedModel`]): a model of the family, or a PEFT model around one.
    """

    def __init__(self, model: Any):
        self.model = base_model(model)
        self.is_multi_modal = is_multi_modal(self.model.config.get_text_config())
        self._steps: dict[str, int] = {}
        """By a picture's digest, the positions that it takes up."""

    def of_prompt(
        self, ids: Sequence[int], pictures: dict[tuple[int, int], str], start: int, pixels: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Position ids of the tokens of a prompt from `start` on.

        Args:
            ids (`Sequence[int]`): the prompt, and what was produced already.
            pictures (`dict`): digest of each picture by start and end of its tokens.
            start (`int`): tokens whose keys and values are kept.
            pixels (`dict`): pixel inputs of the pictures behind `start`.

        Returns:
            `tuple[Tensor, int]`: ids in the form of the family's `position_ids`, and what is added to the place of a
                token behind them.
        """
        import torch

        if not self.is_multi_modal:
            return torch.arange(start, len(ids))[None], 0
        new = torch.tensor([ids[start:]])
        is_image = torch.zeros_like(new)
        read = {(first - start, last - start): digest for (first, last), digest in pictures.items() if first >= start}
        for first, last in read:
            is_image[:, first:last] = 1
        grid = pixels["image_grid_thw"].cpu() if "image_grid_thw" in pixels else None
        positions, shift = self.model.model.get_rope_index(new, mm_token_type_ids=is_image, image_grid_thw=grid)
        # A prefix moves what follows by the positions that its pictures do not take.
        before = sum(
            self._steps[digest] - (last - first) for (first, last), digest in pictures.items() if last <= start
        )
        for (first, last), digest in read.items():
            behind = positions[0, 0, last] if last < new.shape[1] else positions.max() + 1
            previous = positions[0, 0, first - 1] if first else -1
            self._steps[digest] = int(behind - previous - 1)
        return positions + start + before, int(shift) + before

    def of_tokens(self, positions: torch.Tensor) -> torch.Tensor:
        """Position ids of tokens without pictures, from positions of shape `(tokens,)`."""
        return positions[None, None].expand(3, -1, -1) if self.is_multi_modal else positions[None]
