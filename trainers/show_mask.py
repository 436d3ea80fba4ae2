"""The loss mask of a row, to read: what is trained on in color, pictures marked, long stretches without loss cut."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.text import Text

from t3_agents.models.encoding import ChatEncoder, Conversation
from t3_agents.storage import write_atomic


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
