"""A check at the start of a run: what a model's chat template and processor make of the rows can be trained on."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder, Conversation

from .collator import TrajectoryCollator, known_output_ids
from .show_mask import mask_as_text, title


def check_family(encoder: ChatEncoder, rows: Sequence[dict[str, Any]]) -> None:
    """Prove on rows that training reads what a run reads, and that the loss covers what the assistant wrote.

    Encoding a row proves that its template only appends and writes each picture once. The tokens of every assistant
    turn, which have a loss up to the token that ends it, must then spell the turn and nothing else.

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        rows (`Sequence[dict]`): some rows of the dataset.

    Raises:
        InputError: when a row cannot be encoded or one of this does not hold; the row is printed with its loss mask.
    """
    if encoder.end_of_turn is None:
        raise InputError(
            f"The chat template of {type(encoder.processor).__name__} writes no special token behind an assistant "
            "turn, so a model tuned with it would not learn to stop: use a template that does."
        )
    collator = TrajectoryCollator(encoder)
    for row in rows:
        conversation = collator.encode(row)
        problem = _problem_of(encoder, row, conversation)
        if problem:
            name = str(row.get("id", "without id"))
            console = Console(stderr=True)
            console.rule(title(name, conversation))
            console.print(mask_as_text(encoder, conversation))
            raise InputError(f"Row {name} {problem}")


def _problem_of(encoder: ChatEncoder, row: dict[str, Any], conversation: Conversation) -> str | None:
    turns = [message for message in row["messages"] if message["role"] == "assistant"]
    known = known_output_ids(row)
    for number, (message, (start, end)) in enumerate(zip(turns, conversation.turns, strict=True)):
        if known and known[number]:
            continue  # the ids are what a model produced; their text was made of them
        written = encoder.decode(conversation.ids[start:end])
        if _words(written) != _words(_text_of(message)):
            return (
                f"has a loss on other words than its assistant turn {number + 1} has: use a chat template that "
                "writes the turn as it is."
            )
    return None


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _words(text: str) -> list[str]:
    # The encoder breaks control tokens in a text with this character; templates strip white space, and some tokenizers
    # write characters in another of their forms.
    return unicodedata.normalize("NFKC", text.replace("\u200b", "")).split()
