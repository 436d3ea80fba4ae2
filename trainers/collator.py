"""[`TrajectoryCollator`]: rows of the MM-Traj dataset to model inputs, with labels on produced thoughts and code
only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from t3_agents.encoding import ChatEncoder, Conversation
from t3_agents.errors import InputError

from .packing import shared_prefix


IGNORE = -100


class LongRowError(InputError):
    """The first step of a row does not fit the length that rows may have."""


class TrajectoryCollator:
    """Collates dataset rows with the encoder that agents run with.

    A row needs `messages` and `images`; `id` is used in errors, `steps[].output_ids` where the produced ids are known.

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        max_length (`int`, *optional*): tokens that a row may have. Longer rows lose whole steps at their end, never
            part of a step or a picture.
        packing (`str`, *optional*, defaults to `"none"`): `none` pads the rows of a batch, `packed` and
            `shared_prefix` put them into one row, see `packing.py`: `segment_bounds` holds the length of the prefix
            (0 when `packed`) and the end of each body, `segment_images` the number of pictures of each.

    Raises:
        InputError: when called with a row that has no step within `max_length`, nothing to train on, or pictures that
            do not fit its placeholders; the message names the row.
    """

    def __init__(self, encoder: ChatEncoder, max_length: int | None = None, packing: str = "none"):
        self.encoder = encoder
        self.max_length = max_length
        self.packing = packing
        self.cut_rows: dict[str, int] = {}
        """Number of steps cut, by row id."""
        self.skipped_rows: list[str] = []
        """Ids of rows that were left out, since their first step does not fit."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        conversations = [self.encode(row) for row in rows]
        return self._pad(conversations) if self.packing == "none" else self._pack(conversations)

    def _pad(self, conversations: list[Conversation]) -> dict[str, Any]:
        length = max(len(conversation.ids) for conversation in conversations)
        pad = self.encoder.tokenizer.pad_token_id or 0
        ids = torch.full((len(conversations), length), pad)
        labels = torch.full_like(ids, IGNORE)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, conversation in enumerate(conversations):
            size = len(conversation.ids)
            ids[row, :size], labels[row, :size], types[row, :size] = _tensors(conversation, 0)
            mask[row, :size] = 1
        return {
            "attention_mask": mask,
            **self._inputs(ids, labels, types, [conversation.images for conversation in conversations]),
        }

    def _pack(self, conversations: list[Conversation]) -> dict[str, Any]:
        prefix = shared_prefix(conversations) if self.packing == "shared_prefix" else 0
        shared = sum(end <= prefix for _, end in conversations[0].image_spans)
        segments = [tensor[:prefix] for tensor in _tensors(conversations[0], 0)]
        bounds, images = [prefix], [conversations[0].images[:shared]]
        for conversation in conversations:
            segments = [torch.cat(pair) for pair in zip(segments, _tensors(conversation, prefix), strict=True)]
            bounds.append(len(segments[0]))
            images.append(conversation.images[shared:])
        ids, labels, types = (tensor[None] for tensor in segments)
        return {
            "segment_bounds": bounds,
            "segment_images": [len(part) for part in images],
            **self._inputs(ids, labels, types, [[image for part in images for image in part]]),
        }

    def _inputs(
        self, ids: torch.Tensor, labels: torch.Tensor, types: torch.Tensor, images: list[list[Image.Image]]
    ) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": ids, "labels": labels, **self.encoder.pixel_inputs(images)}
        if "mm_token_type_ids" in self.encoder.processor.model_input_names:
            inputs["mm_token_type_ids"] = types
        return inputs

    def encode(self, row: dict[str, Any]) -> Conversation:
        """Token ids of one row, cut to `max_length` at a whole step."""
        name = str(row.get("id", "without id"))
        images = [_decoded(image) for image in row.get("images") or []]
        output_ids = [step.get("output_ids") for step in row.get("steps") or []]
        turns = sum(message["role"] == "assistant" for message in row["messages"])
        # Turns other than actions (plans) stand in the messages only, so ids could not be told apart.
        known = output_ids if len(output_ids) == turns and any(output_ids) else None
        try:
            conversation = self.encoder.encode(row["messages"], images, known)
        except InputError as error:
            raise InputError(f"Row {name}: {error}") from None
        if self.max_length is not None and len(conversation.ids) > self.max_length:
            conversation = self._cut(conversation, name)
        if not any(conversation.produced):
            raise InputError(f"Row {name} has no assistant turn to train on: leave it out of the dataset.")
        return conversation

    def _cut(self, conversation: Conversation, name: str) -> Conversation:
        fitting = [end for _, end in conversation.turns if end <= self.max_length]
        if not fitting:
            first = conversation.turns[0][1] if conversation.turns else len(conversation.ids)
            raise LongRowError(
                f"Row {name}: its first step ends at token {first}, beyond max_length={self.max_length}. Raise "
                "max_length, shorten the system prompt or the first observation, or set long_rows to skip."
            )
        end = fitting[-1]
        if len(fitting) < len(conversation.turns):  # else only what follows the last turn is too long
            self.cut_rows[name] = len(conversation.turns) - len(fitting)
        spans = [span for span in conversation.image_spans if span[1] <= end]
        return Conversation(
            ids=conversation.ids[:end],
            produced=conversation.produced[:end],
            image_spans=spans,
            turns=conversation.turns[: len(fitting)],
            images=conversation.images[: len(spans)],
        )


def _decoded(image: Any) -> Image.Image:
    """A picture of a row: decoded already, or as `{"bytes": ...}`."""
    if isinstance(image, dict):
        image = Image.open(io.BytesIO(image["bytes"]))
    return image.convert("RGB")


def _tensors(conversation: Conversation, start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, labels and token types (1 in pictures) from a position on."""
    ids = torch.tensor(conversation.ids)
    labels = torch.where(torch.tensor(conversation.produced), ids, IGNORE)
    types = torch.zeros_like(ids)
    for first, end in conversation.image_spans:
        types[first:end] = 1
    return ids[start:], labels[start:], types[start:]
