"""The loss mask of a row, to read: what is trained on in color, pictures marked, long stretches without loss cut."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import AutoProcessor

from t3_agents.errors import InputError
from t3_agents.models.embedded import EMBEDDED, embedded_controller
from t3_agents.models.encoding import ChatEncoder, Conversation
from t3_agents.storage import write_atomic

from .collators import TrajectoryCollator
from .config import TrajectoryConfig
from .loading import load_rows, training_run


MASK_FILE = "mask.html"
EDGE_TOKENS = 60
"""Tokens that are shown at either end of a stretch without loss."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Loss mask</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; color: #555; background: #f6f6f6; padding: 1rem; }}
mark {{ background: #b9e6c9; color: #10331e; }} .picture {{ background: #cfe0fb; color: #10254d; }}
.cut {{ color: #777; font-style: italic; }}
</style></head><body><h1>Loss mask</h1>
<p><mark>Marked text</mark> is trained on. <span class="picture">Pictures</span> and all other text are only read.</p>
{rows}
</body></html>
"""


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
    """A tokenised row as stretches of text, in order."""
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
    return Text.assemble(*((piece.text, styles[piece.kind]) for piece in pieces(encoder, conversation)))


def print_mask(console: Console, encoder: ChatEncoder, name: str, conversation: Conversation) -> None:
    """Print a row with a line about it."""
    console.rule(title(name, conversation))
    console.print(mask_as_text(encoder, conversation))


def mask_as_html(encoder: ChatEncoder, conversation: Conversation) -> str:
    """The row as HTML without active content."""
    marks = {
        "trained": "<mark>{}</mark>",
        "picture": '<span class="picture">{}</span>',
        "cut": '<span class="cut">{}</span>',
        "read": "{}",
    }
    parts = [marks[piece.kind].format(html.escape(piece.text)) for piece in pieces(encoder, conversation)]
    return f"<pre>{''.join(parts)}</pre>"


def write_masks(path: Path, encoder: ChatEncoder, rows: Sequence[tuple[str, Conversation]]) -> None:
    """Write rows, given as name and tokens, to a page that needs nothing else."""
    parts: list[Any] = []
    for name, conversation in rows:
        parts += [f"<h2>{html.escape(title(name, conversation))}</h2>", mask_as_html(encoder, conversation)]
    write_atomic(path, _PAGE.format(rows="\n".join(parts)))


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
        rows = [dataset[index] for index in range(min(config.show_mask, len(dataset)))]
        shown = [(str(row["id"]), collator.encode(row)) for row in rows]
        console = Console()
        for name, conversation in shown:
            print_mask(console, collator.encoder, name, conversation)
        write_masks(folder / MASK_FILE, collator.encoder, shown)
        console.print(f"The same as a page: {folder / MASK_FILE}")
