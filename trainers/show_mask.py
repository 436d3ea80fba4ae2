"""The loss mask of a row, to read: what is trained on in color, pictures marked, long stretches without loss cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from rich.text import Text
from transformers import AutoProcessor

from t3_agents.errors import InputError
from t3_agents.models.embedded import EMBEDDED, embedded_controller
from t3_agents.models.encoding import ChatEncoder, Conversation
from t3_agents.reports.markdown import visible
from t3_agents.storage import write_atomic

from .collators import TrajectoryCollator, row_name
from .config import TrajectoryConfig
from .loading import load_rows, training_run


MASK_FILE = "mask.html"
_POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""
EDGE_TOKENS = 60
"""Tokens that are shown at either end of a stretch without loss."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a row.

    Args:
        kind (`str`): `trained`, `read`, `picture`, or `cut` for a note on what is not shown.
        text (`str`): its text.
    """

    kind: str
    text: str


def pieces(encoder: ChatEncoder, conversation: Conversation) -> Iterator[Piece]:
    """A tokenized row as stretches of text, in order."""
    pictures = {start: number for number, (start, _) in enumerate(conversation.image_spans)}
    kinds = ["trained" if produced else "read" for produced in conversation.produced]
    for number, (start, end) in enumerate(conversation.image_spans):
        kinds[start:end] = [f"picture {number}"] * (end - start)
    for kind, group in groupby(range(len(kinds)), key=kinds.__getitem__):
        positions = list(group)
        ids = [conversation.ids[position] for position in positions]
        if positions[0] in pictures:
            image = conversation.images[pictures[positions[0]]]
            yield Piece("picture", f"[picture, {image.width} x {image.height} pixels, {len(ids)} tokens]")
        elif kind == "read" and len(ids) > 2 * EDGE_TOKENS:
            yield Piece("read", encoder.tokenizer.decode(ids[:EDGE_TOKENS]))
            yield Piece("cut", f" [... {len(ids) - 2 * EDGE_TOKENS} tokens ...] ")
            yield Piece("read", encoder.tokenizer.decode(ids[-EDGE_TOKENS:]))
        else:
            yield Piece(kind, encoder.tokenizer.decode(ids))


def title(name: str, conversation: Conversation) -> str:
    """One line about a row."""
    return (
        f"Row {name}: {len(conversation.ids)} tokens, {sum(conversation.produced)} trained on, "
        f"{len(conversation.turns)} turns, {len(conversation.images)} pictures"
    )


def mask_as_text(encoder: ChatEncoder, conversation: Conversation) -> Text:
    """The row for a terminal."""
    styles = {"trained": "black on green", "picture": "white on blue", "cut": "italic dim", "read": "dim"}
    return Text.assemble(*((visible(piece.text), styles[piece.kind]) for piece in pieces(encoder, conversation)))


def print_mask(console: Console, encoder: ChatEncoder, name: str, conversation: Conversation) -> None:
    """Print a row with a line about it."""
    console.rule(Text(visible(title(name, conversation))))
    console.print(mask_as_text(encoder, conversation))


def show_masks(config: TrajectoryConfig) -> None:
    """Print the first rows with their loss mask, and write them to `<output_dir>/mask.html`.

    Args:
        config ([`TrajectoryConfig`]): the recipe; `show_mask` is the number of rows.

    Raises:
        InputError: when dataset or controller cannot be used, or a row does not fit the model.
    """
    with training_run("train", config) as folder:
        dataset = load_rows(config.dataset_name, config.dataset_train_split)
        name = config.model_name_or_path
        try:
            processor = AutoProcessor.from_pretrained(
                embedded_controller() if name == EMBEDDED else name, revision=config.model_revision
            )
        except (OSError, ValueError) as error:
            raise InputError(f"`{name}` has no processor that can be loaded: {error}") from None
        collator = TrajectoryCollator(ChatEncoder(processor), config.max_length, train_on=config.train_on)
        console = Console(record=True)
        for row in dataset.select(range(min(config.show_mask, len(dataset)))):
            print_mask(console, collator.encoder, row_name(row), collator.encode(row))
        write_atomic(folder / MASK_FILE, console.export_html().replace("<head>", f"<head>\n{_POLICY}", 1))
        console.print(f"The same as a page: {folder / MASK_FILE}")
