"""What measurements tell about a picture, and which questions they answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from t3_agents.errors import T3Error

from ..facedetection import find_faces
from ..ocr import Word, find_words, join_rows
from .shapes import COLOR_NAMES, KIND_NAMES, PEOPLE, Box, Drawing, Shape, chosen, covered, measure
from .text import content_words, stem


# Stems of the words whose meaning the answers cover.
_UNDERSTOOD = {
    *COLOR_NAMES,
    *KIND_NAMES,
    *PEOPLE,
    *map(
        stem,
        """count number total visible seen position location located place size resolution dimensions width height
        wide tall high large big colour color main drawn exist""".split(),
    ),
}


@dataclass(frozen=True)
class PictureFacts:
    """Measurements of one picture.

    Args:
        size (`tuple`): width and height in pixels.
        drawing (`Drawing`): colors, and whether it is a flat drawing.
        shapes (`tuple[Shape, ...]`): shapes of a drawing that are no letters.
        words (`tuple[Word, ...]`): text.
        faces (`tuple`, *optional*): boxes of faces; `None` where they could not be looked for.
        no_faces (`str`): why they could not.
    """

    size: tuple[int, int]
    drawing: Drawing
    shapes: tuple[Shape, ...]
    words: tuple[Word, ...]
    faces: tuple[Box, ...] | None
    no_faces: str = ""


def look(image: Image.Image) -> PictureFacts:
    """Measure an RGB picture."""
    words, drawing = find_words(image), measure(image)
    boxes = tuple(word.box for word in words)
    shapes = tuple(shape for shape in drawing.shapes if not is_lettering(shape.box, boxes))
    try:
        faces, problem = tuple(tuple(box) for box in find_faces(image)), ""
    except T3Error as error:
        faces, problem = None, str(error)
    return PictureFacts(image.size, drawing, shapes, words, faces, problem)


def describe(facts: PictureFacts) -> str:
    """Size, colors, shapes, faces and text of a picture, one line each."""
    width, height = facts.size
    colors = ", ".join(f"{name} {share:.0%}" for name, share in facts.drawing.colors[:5] if share >= 0.005)
    shapes = "not counted, this is a photo and no flat drawing"
    if facts.drawing.flat:
        shapes = _counted(facts.shapes) or "none"
    lines = [f"Size: {width} x {height} pixels.", f"Colours: {colors}.", f"Shapes: {shapes}."]
    if facts.faces is None:
        lines.append(f"Faces: not counted ({facts.no_faces})")
    else:
        lines.append(f"Faces: {len(facts.faces)}.")
    rows = join_rows(facts.words)
    lines.append(f"Text: {' / '.join(rows)}" if rows else "No readable text.")
    return "\n".join(lines)


def answer(question: str, facts: PictureFacts) -> str | None:
    """A sentence that answers a question about counts, colors, places, sizes or presence of what can be measured.

    Args:
        question (`str`): in English.
        facts (`PictureFacts`): of the picture.

    Returns:
        `str`, *optional*: `None` where the question is about something else.
    """
    asked = question.lower()
    # "How many people wear glasses" and "more circles than squares" ask for more than a count.
    if content_words(asked) - _UNDERSTOOD or re.search(r"\b(more|less|than|most|same|both|not|no|who|why)\b", asked):
        return None
    names = {stem(word) for word in re.findall(r"[^\W\d_]+", asked)}
    if names & PEOPLE:
        return None if facts.faces is None else _about_faces(asked, facts.faces, facts.size)
    about_shapes = bool(names & KIND_NAMES.keys())
    if about_shapes or (names & COLOR_NAMES.keys() and _asks_count(asked)):
        return _about_shapes(asked, names, facts)
    if re.search(r"\bcolou?rs?\b", asked):
        return f"Mainly {', '.join(name for name, share in facts.drawing.colors[:3] if share >= 0.05)}."
    if re.search(r"\b(size|resolution|dimensions?|how (wide|tall|high|large|big))\b", asked):
        return f"The picture is {facts.size[0]} pixels wide and {facts.size[1]} pixels high."
    return None


def _asks_count(asked: str) -> bool:
    return bool(re.search(r"\bhow many\b|\bcount\b|\bnumber of\b", asked))


def _about_faces(asked: str, faces: Sequence[Box], size: tuple[int, int]) -> str | None:
    count = f"{len(faces)} {'face' if len(faces) == 1 else 'faces'}"
    places = ", ".join(_placed("", box, size).strip() for box in faces)
    if re.search(r"\bwhere\b|\bposition|\blocat", asked) and faces:
        return f"{count}: {places}."
    if _asks_count(asked):
        return f"{count} (people whose face is not seen are not counted)."
    if re.match(r"\s*(is|are|does|do|can)\b", asked) and re.search(r"\b(there|any|contain|show|see|visible)\b", asked):
        return f"Yes, {count}." if faces else "No face is seen."
    return None


def _about_shapes(asked: str, names: set[str], facts: PictureFacts) -> str | None:
    if not facts.drawing.flat:
        return "This is a photo; shapes are told apart in flat drawings only."
    found = chosen(facts.shapes, names)
    what = _counted(found)
    if _asks_count(asked):
        return f"{len(found)}: {what}." if found else "0: there is none."
    if re.search(r"\bcolou?rs?\b", asked) and found:
        return f"{', '.join(str(shape) for shape in found[:12])}."
    if re.search(r"\bwhere\b|\bposition|\blocat", asked) and found:
        return f"{', '.join(_placed(str(shape), shape.box, facts.size) for shape in found[:12])}."
    if re.search(r"\b(size|wide|tall|high|large|big|width|height)\b", asked) and found:
        sizes = [f"{shape} {x2 - x1} x {y2 - y1} pixels" for shape in found[:12] for x1, y1, x2, y2 in [shape.box]]
        return f"{', '.join(sizes)}."
    if re.match(r"\s*(is|are|does|do)\b", asked):
        return f"Yes: {what}." if found else "No, there is none."
    return None


def _counted(shapes: Sequence[Shape]) -> str:
    counts = Counter(map(str, shapes)).most_common(12)
    return ", ".join(f"{count} {name if count == 1 else name + 's'}" for name, count in counts)


def _placed(name: str, box: Box, size: tuple[int, int]) -> str:
    """A thing, the part of the picture that its middle lies in, and its box."""
    column, row = (box[0] + box[2]) * 3 // (2 * size[0]), (box[1] + box[3]) * 3 // (2 * size[1])
    where = f"{('top', 'middle', 'bottom')[min(2, row)]} {('left', 'center', 'right')[min(2, column)]}"
    return f"{name} at the {where.replace('middle center', 'center')} {list(box)}"


def is_lettering(box: Box, text_boxes: Sequence[Box]) -> bool:
    """Whether a shape's box lies within a text's box, so that the shape is a letter."""
    return any(covered(box, text_box) > 0.7 for text_box in text_boxes)
