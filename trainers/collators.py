"""Rows of the MM-Traj dataset to model inputs, with the ids that agents run with.

A packed row is `[prefix | body 1 | body 2 | ...]`. A token attends to the prefix and, causally, to its own body;
positions of every body continue where the prefix ends. It is the same function of the same tokens as one row per
trajectory, without padding and with a prefix that all share computed once; `attention.py` keeps the bodies apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from t3_agents.errors import InputError
from t3_agents.media import decode_image, to_rgb
from t3_agents.models.encoding import ChatEncoder, Conversation, image_key


IGNORE = -100


class LongRowError(InputError):
    """The first step of a row does not fit the length that rows may have."""


class TrajectoryCollator:
    """Collates dataset rows with the encoder that agents run with.

    A row needs `messages` and `images`, with placeholders in the messages' parts or, as TRL has it, with messages that
    are plain text and pictures that belong to the first user turn. `id` is used in errors, `steps[].output_ids` where
    the produced ids are known, `steps[].error` to tell failed steps, `step_weights` (a number per assistant turn) to
    weigh their tokens.

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        max_length (`int`, *optional*): tokens that a row may have. Longer rows lose whole steps at their end, never
            part of a step or a picture.
        packing (`str`, *optional*, defaults to `"none"`): `none` pads the rows of a batch, `packed` and
            `shared_prefix` put them into one row: `segment_bounds` holds the length of the prefix
            (0 when `packed`) and the end of each body, `segment_images` the number of pictures of each.
        train_on (`str`, *optional*, defaults to `"all"`): steps that have labels: `all`, `clean` (those without an
            error) or `last`.
        pixel_cache_mb (`int`, *optional*, defaults to 512): MiB of processed pictures that are kept; batches that come
            again, such as packs in the next epoch, are found in it.

    Raises:
        InputError: when called with a row that has no step within `max_length`, nothing to train on, or pictures that
            do not fit its placeholders; the message names the row.
    """

    def __init__(
        self,
        encoder: ChatEncoder,
        max_length: int | None = None,
        packing: str = "none",
        train_on: str = "all",
        pixel_cache_mb: int = 512,
    ):
        self.encoder = encoder
        self.max_length = max_length
        self.packing = packing
        self.train_on = train_on
        self._pixels = _PixelCache(pixel_cache_mb * 2**20)
        self.cut_rows: dict[str, int] = {}
        """Number of steps cut, by row id."""
        self.skipped_rows: list[str] = []
        """Ids of rows that were left out, since their first step does not fit."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        conversations = [self.encode(row) for row in rows]
        batch = self.pad(conversations) if self.packing == "none" else self._pack(conversations)
        return {"row_ids": [row_name(row) for row in rows], **batch}

    def pad(self, conversations: list[Conversation]) -> dict[str, Any]:
        """A batch with one line per conversation."""
        length = max(len(conversation.ids) for conversation in conversations)
        pad = self.encoder.tokenizer.pad_token_id or 0
        ids = torch.full((len(conversations), length), pad)
        labels = torch.full_like(ids, IGNORE)
        mask = torch.zeros_like(ids)
        for row, conversation in enumerate(conversations):
            size = len(conversation.ids)
            ids[row, :size], labels[row, :size] = _tensors(conversation, 0)
            mask[row, :size] = 1
        inputs = self._inputs(ids, labels, [conversation.images for conversation in conversations])
        return {"attention_mask": mask, **_loss_weights(conversations), **inputs}

    def _pack(self, conversations: list[Conversation]) -> dict[str, Any]:
        prefix = shared_prefix(conversations) if self.packing == "shared_prefix" else 0
        shared = sum(end <= prefix for _, end in conversations[0].image_spans)
        segments = [tensor[:prefix] for tensor in _tensors(conversations[0], 0)]
        bounds, images = [prefix], [conversations[0].images[:shared]]
        for conversation in conversations:
            segments = [torch.cat(pair) for pair in zip(segments, _tensors(conversation, prefix), strict=True)]
            bounds.append(len(segments[0]))
            images.append(conversation.images[shared:])
        ids, labels = (tensor[None] for tensor in segments)
        inputs = self._inputs(ids, labels, [[image for part in images for image in part]])
        segments_of = {"segment_bounds": bounds, "segment_images": [len(part) for part in images]}
        return {**segments_of, **_loss_weights(conversations), **inputs}

    def _inputs(
        self, ids: torch.Tensor, labels: torch.Tensor, images: list[list[Image.Image]]
    ) -> dict[str, torch.Tensor]:
        types: dict[str, list[list[int]]] = {}
        for row in ids.tolist():
            for name, marks in self.encoder.token_types(row).items():
                types.setdefault(name, []).append(marks)
        tensors = {name: torch.tensor(rows) for name, rows in types.items()}
        return {"input_ids": ids, "labels": labels, **tensors, **self._pixels.get(self.encoder, images)}

    def encode(self, row: dict[str, Any]) -> Conversation:
        """Token ids of one row, cut to `max_length` at a whole step."""
        name, messages, images = row_name(row), row["messages"], row.get("images") or []
        if images and all(isinstance(message["content"], str) for message in messages):
            messages = _with_placeholders(messages, len(images))
        conversation = encode_row(self.encoder, row, messages, known_output_ids(row))
        if self.max_length is not None and len(conversation.ids) > self.max_length:
            conversation = self._cut(conversation, name)
        self._choose_turns(conversation, row)
        if not any(conversation.produced):
            other = "" if self.train_on == "all" else f", or train on more than {self.train_on} steps"
            raise InputError(f"Row {name} has no assistant turn to train on: leave it out of the dataset{other}.")
        return conversation

    def _choose_turns(self, conversation: Conversation, row: dict[str, Any]) -> None:
        """Take turns out of the loss, or weigh them."""
        turns, steps, weights = _turns_of(row), row.get("steps") or [], row.get("step_weights")
        if weights is not None and len(weights) != turns:
            raise InputError(f"Row {row.get('id')} has {turns} assistant turns, but {len(weights)} step_weights.")
        if self.train_on == "clean" and len(steps) != turns:
            raise InputError(
                f"Row {row.get('id')} has {turns} assistant turns and {len(steps)} steps, so failed ones cannot be "
                "told apart: set train_on to all."
            )
        chosen = [float(weight) for weight in weights or [1.0] * turns][: len(conversation.turns)]
        if self.train_on == "clean":
            chosen = [0.0 if step["error"] else weight for step, weight in zip(steps, chosen, strict=False)]
        elif self.train_on == "last":
            chosen[:-1] = [0.0] * (len(chosen) - 1)
        for (start, end), weight in zip(conversation.turns, chosen, strict=True):
            if weight == 0:
                conversation.produced[start:end] = [False] * (end - start)
        if any(weight not in (0.0, 1.0) for weight in chosen):
            conversation.turn_weights = chosen

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


def _with_placeholders(messages: Sequence[dict[str, Any]], images: int) -> list[dict[str, Any]]:
    """Messages that are plain text, with the pictures where TRL puts them: before the first user turn's text."""
    first = next((place for place, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        return list(messages)
    text = {"type": "text", "text": messages[first]["content"]}
    filled = {"role": "user", "content": [*({"type": "image"} for _ in range(images)), text]}
    return [*messages[:first], filled, *messages[first + 1 :]]


def known_output_ids(row: dict[str, Any]) -> list[list[int] | None] | None:
    """The ids that a model produced, by assistant turn of a row; `None` where only their text is known."""
    output_ids = [step.get("output_ids") for step in row.get("steps") or []]
    # Turns other than actions (plans) stand in the messages only, so ids could not be told apart.
    return output_ids if len(output_ids) == _turns_of(row) and any(output_ids) else None


def _turns_of(row: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in row["messages"])


def row_name(row: dict[str, Any]) -> str:
    """What errors call a row."""
    return str(row.get("id", "without id"))


def encode_row(
    encoder: ChatEncoder, row: dict[str, Any], messages: Sequence[dict[str, Any]], output_ids: Any
) -> Conversation:
    """Messages of a row with its pictures, which are decoded already or given as `{"bytes": ...}`."""
    try:
        images = [
            decode_image(image["bytes"] or b"", "a picture of it") if isinstance(image, dict) else to_rgb(image)
            for image in row.get("images") or []
        ]
        return encoder.encode(messages, images, output_ids)
    except InputError as error:
        raise InputError(f"Row {row_name(row)}: {error}") from None


def _loss_weights(conversations: Sequence[Conversation]) -> dict[str, torch.Tensor]:
    """Weights of the produced tokens, row by row, where not all are 1."""
    if not any(conversation.turn_weights for conversation in conversations):
        return {}
    weights: list[float] = []
    for conversation in conversations:
        by_turn = conversation.turn_weights or [1.0] * len(conversation.turns)
        for (start, end), weight in zip(conversation.turns, by_turn, strict=True):
            weights += [weight] * sum(conversation.produced[start:end])
    return {"loss_weights": torch.tensor(weights)}


class _PixelCache:
    """Processed pictures of whole batches, the least recently used dropped first."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.bytes = 0
        self.entries: OrderedDict[tuple[tuple[str, ...], ...], dict[str, torch.Tensor]] = OrderedDict()

    def get(self, encoder: ChatEncoder, images: list[list[Image.Image]]) -> dict[str, torch.Tensor]:
        """Inputs of the pictures of each row, from the cache where they are in it."""
        key = tuple(tuple(image_key(image) for image in row) for row in images)
        if key in self.entries:
            self.entries.move_to_end(key)
            return dict(self.entries[key])
        inputs = encoder.pixel_inputs(images)
        self.entries[key] = inputs
        self.bytes += _bytes_of(inputs)
        while self.bytes > self.max_bytes:
            self.bytes -= _bytes_of(self.entries.popitem(last=False)[1])
        return dict(inputs)


def _bytes_of(inputs: dict[str, torch.Tensor]) -> int:
    return sum(value.nbytes for value in inputs.values())


def _tensors(conversation: Conversation, start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels from a position on."""
    ids = torch.tensor(conversation.ids)
    return ids[start:], torch.where(torch.tensor(conversation.produced), ids, IGNORE)[start:]


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
