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


IGNORE = -100


class TrajectoryCollator:
    """Collates dataset rows with the encoder that agents run with.

    A row needs `messages` and `images`; `id` is used in errors, `steps[].output_ids` where the produced ids are known.

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        max_length (`int`, *optional*): tokens that a row may have. Longer rows lose whole steps at their end, never
            part of a step or a picture.
        share_prefix (`bool`, *optional*, defaults to `False`): take the tokens that all rows of a batch begin with out
            of them, into `prefix_ids` of shape `(1, prefix_length)`, see `packing.py`. `attention_mask` then covers
            prefix and body.

    Raises:
        InputError: when called with a row that has no step within `max_length`, nothing to train on, or pictures that
            do not fit its placeholders; the message names the row.
    """

    def __init__(self, encoder: ChatEncoder, max_length: int | None = None, share_prefix: bool = False):
        self.encoder = encoder
        self.max_length = max_length
        self.share_prefix = share_prefix
        self.cut_rows: dict[str, int] = {}
        """Number of steps cut, by row id."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        conversations = [self.encode(row) for row in rows]
        pixels = self.encoder.pixel_inputs([conversation.images for conversation in conversations])
        prefix = _shared_prefix(conversations) if self.share_prefix and len(rows) > 1 else 0
        length = max(len(conversation.ids) for conversation in conversations)
        pad = self.encoder.tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), length), pad)
        labels = torch.full((len(rows), length), IGNORE)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        types = torch.zeros((len(rows), length), dtype=torch.long)
        for row, conversation in enumerate(conversations):
            size = len(conversation.ids)
            ids[row, :size] = torch.tensor(conversation.ids)
            mask[row, :size] = 1
            produced = torch.tensor(conversation.produced)
            labels[row, :size] = torch.where(produced, ids[row, :size], IGNORE)
            for start, end in conversation.image_spans:
                types[row, start:end] = 1
        batch = {"input_ids": ids[:, prefix:], "attention_mask": mask, "labels": labels[:, prefix:], **pixels}
        if "mm_token_type_ids" in self.encoder.processor.model_input_names:
            batch["mm_token_type_ids"] = types[:, prefix:]
        if prefix:
            batch["prefix_ids"] = ids[:1, :prefix]
        return batch

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
            raise InputError(
                f"Row {name}: its first step ends at token {first}, beyond max_length={self.max_length}. Raise "
                "max_length, shorten the system prompt or the first observation, or leave the row out."
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


def _shared_prefix(conversations: Sequence[Conversation]) -> int:
    """Number of tokens that all rows begin with, up to the first picture or the token that predicts the first produced
    one."""
    limit = min(
        min([span[0] for span in c.image_spans] + [turn[0] - 1 for turn in c.turns] + [len(c.ids) - 1])
        for c in conversations
    )
    length = 0
    while length < limit and len({c.ids[length] for c in conversations}) == 1:
        length += 1
    return length
