"""[`PreferenceCollator`]: pairs of next steps to model inputs of TRL's DPOTrainer, with the ids that agents run with.

TRL's own collator for pictures re-tokenises what the model produced, counts what the chat template writes after a turn
as part of the answer, and lets words in a file open a turn; see `tests/trainers/test_dpo.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder, Conversation

from .collator import decode_picture


class PreferenceCollator:
    """Collates pairs with the encoder that agents run with.

    A row needs `prompt` (messages), `images` (of its placeholders), `chosen` and `rejected` (one assistant turn each);
    `id` is used in errors, `output_ids` where the produced ids are known, see [`samples.step_pairs`].

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        max_length (`int`, *optional*): tokens that a prompt with one of its turns may have.

    Raises:
        InputError: when called with a row that is longer, whose turns are no single assistant turn, or whose pictures
            do not fit its placeholders; the message names the row.
    """

    def __init__(self, encoder: ChatEncoder, max_length: int | None = None):
        self.encoder = encoder
        self.max_length = max_length

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch: all chosen turns, then all rejected ones.

        Returns:
            `dict`: `input_ids`, `attention_mask` and `completion_mask` of shape `(2 * pairs, length)`, where the last
                one marks the tokens that the model produced, and the inputs of the pictures.
        """
        conversations = [self.encode(row, side) for side in ("chosen", "rejected") for row in rows]
        length = max(len(conversation.ids) for conversation in conversations)
        ids = torch.full((len(conversations), length), self.encoder.tokenizer.pad_token_id or 0)
        attention, completion = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, conversation in enumerate(conversations):
            ids[row, : len(conversation.ids)] = torch.tensor(conversation.ids)
            attention[row, : len(conversation.ids)] = 1
            start, end = conversation.turns[-1]
            completion[row, start:end] = 1
        batch = {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}
        types = [self.encoder.token_types(row) for row in ids.tolist()]
        batch |= {name: torch.tensor([marks[name] for marks in types]) for name in types[0]}
        return {**batch, **self.encoder.pixel_inputs([conversation.images for conversation in conversations])}

    def encode(self, row: dict[str, Any], side: str) -> Conversation:
        """Token ids of the prompt and one of its turns.

        Args:
            row (`dict`): a pair.
            side (`str`): `chosen` or `rejected`.
        """
        name = str(row.get("id", "without id"))
        turn = row[side]
        if [message["role"] for message in turn] != ["assistant"]:
            raise InputError(f"Row {name}: `{side}` has to be one assistant turn.")
        images = [decode_picture(image) for image in row.get("images") or []]
        known = row.get("output_ids")
        output_ids = [*known["prompt"], known[side]] if known else None
        try:
            conversation = self.encoder.encode([*row["prompt"], *turn], images, output_ids)
        except InputError as error:
            raise InputError(f"Row {name}: {error}") from None
        if self.max_length is not None and len(conversation.ids) > self.max_length:
            raise InputError(
                f"Row {name} has {len(conversation.ids)} tokens with its {side} turn, beyond "
                f"max_length={self.max_length}: raise max_length, or leave the row out of the dataset."
            )
        return conversation
