"""The tool `visualizer`: answers about a picture, from the text in it or from what can be measured."""

from __future__ import annotations

import re

from PIL import Image

from ..errors import InputError
from .base import WorkspaceTool
from .hub_models.shared_models import AskingTool
from .local.picture_facts import answer, describe, look
from .local.shapes import COLOR_NAMES, KIND_NAMES, PEOPLE, measure
from .local.text import content_words, shorten, stem
from .ocr import find_words, join_rows


# Words of a question that measurements answer and text does not.
_MEASURED = {
    *COLOR_NAMES,
    *KIND_NAMES,
    *PEOPLE,
    *map(stem, "colour color size width height resolution pixel".split()),
}
_TEXT = re.compile(
    r"\b(texts?|words?|read|says?|written|write|title|label|sign|caption|number|extract|transcri\w+)\b", re.I
)


class Visualizer(WorkspaceTool):
    """Reads the text of a picture with OCR, counts and places its shapes and faces, and measures its colors.

    It answers from what it measured and says that it cannot know the rest.

    Args:
        max_chars (`int`, *optional*, defaults to 600): longest answer, in characters.
    """

    name = "visualizer"
    description = (
        "Answers a question about a picture, in words: reads its text, and tells counts, colours, places and sizes "
        "(in pixels) of drawn shapes and of faces."
    )
    inputs = {
        "image_path": {"type": "string", "description": "path of the picture"},
        "question": {"type": "string", "description": "what to find out"},
    }

    max_chars: int = 600

    def forward(self, image_path: str, question: str) -> str:
        if question is not None and not isinstance(question, str):
            raise InputError(f"`question` must be a string, not {type(question).__name__}.")
        return self.with_count(self.tell(self.open_image(image_path), question or ""), image_path)

    def tell(self, image: Image.Image, question: str) -> str:
        """What the text and the measures of a picture say about a question."""
        asked = content_words(question)
        words = find_words(image)
        rows = join_rows(words)
        matching = [row for row in rows if asked & content_words(row)]
        if matching:
            # A label by itself among rows with numbers: its value was not read, or stands elsewhere.
            bare = all(content_words(row) <= asked for row in matching)
            if bare and sum(bool(re.search(r"\d", row)) for row in rows) > 1:
                matching.append("[no value was read beside it: it may be too small, look at a larger crop]")
            return shorten("\n".join(matching), self.max_chars)
        if rows and not asked & _MEASURED:
            # A page is its text; a photo with some lettering in it is not.
            if not question.strip() or _TEXT.search(question) or measure(image).flat:
                return shorten("\n".join(rows), self.max_chars)
        facts = look(image)
        direct = answer(question, facts)
        lines = [direct] if direct else []
        lines += [describe(facts), "Anything else in it cannot be told by this tool."]
        return shorten("\n".join(lines), self.max_chars)


class HubVisualizer(AskingTool):
    """Answers with a vision-language model; its settings are those of [`~shared_models.AskingTool`]."""

    name = Visualizer.name
    description = "Answers a question about a picture, in words."
    inputs = Visualizer.inputs

    def forward(self, image_path: str, question: str) -> str:
        if not isinstance(question, str) or not question.strip():
            raise InputError("`question` must say what to find out about the picture, as a string.")
        return self.with_count(self.ask(question, self.open_image(image_path)), image_path)
