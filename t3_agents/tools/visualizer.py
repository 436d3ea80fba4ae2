"""The tool `visualizer`: answers about a picture, from the text in it or from what can be measured."""

from __future__ import annotations

import re

from ..errors import InputError
from .base import WorkspaceTool
from .hub_models.shared_models import CONTROLLER, ask, choose_model
from .local.picture_facts import answer, describe, look
from .local.shapes import COLOUR_NAMES, KIND_NAMES, PEOPLE, measure
from .local.text import content_words, shorten, stem
from .ocr import find_words, join_rows


# Words of a question that measurements answer and text does not.
_MEASURED = {
    *COLOUR_NAMES,
    *KIND_NAMES,
    *PEOPLE,
    *map(stem, "colour color size width height resolution pixel".split()),
}
_TEXT = re.compile(
    r"\b(texts?|words?|read|says?|written|write|title|label|sign|caption|number|extract|transcri\w+)\b", re.I
)


class Visualizer(WorkspaceTool):
    """Reads the text of a picture with OCR, counts and places its shapes and faces, and measures its colours.

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
    output_type = "string"

    def __init__(self, max_chars: int = 600):
        super().__init__(max_chars=max_chars)

    def forward(self, image_path: str, question: str) -> str:
        if question is not None and not isinstance(question, str):
            raise InputError(f"`question` must be a string, not {type(question).__name__}.")
        image = self.open_image(image_path)
        asked = content_words(question or "")
        words = find_words(image)
        rows = join_rows(words)
        matching = [row for row in rows if asked & content_words(row)]
        if matching:
            return shorten("\n".join(matching), self.settings["max_chars"])
        if rows and not asked & _MEASURED:
            # A page is its text; a photo with some lettering in it is not.
            if not (question or "").strip() or _TEXT.search(question) or measure(image).flat:
                return shorten("\n".join(rows), self.settings["max_chars"])
        findings = look(image)
        direct = answer(question or "", findings)
        lines = [direct] if direct else []
        lines += [describe(findings), "Anything else in it cannot be told by this tool."]
        return shorten("\n".join(lines), self.settings["max_chars"])


class HubVisualizer(WorkspaceTool):
    """Answers with a vision-language model: the agent's own, one of the Hub, or one at an OpenAI-compatible endpoint.

    Args:
        model (`str`, *optional*, defaults to `"controller"`): the agent's own model, or Hub id, folder or name at an
            endpoint, see [`~shared_models.choose_model`].
        api_base (`str`, *optional*): URL of an OpenAI-compatible server.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that an answer may have.
        device (`str`, *optional*), dtype (`str`, *optional*): of a local model.
    """

    name = Visualizer.name
    description = "Answers a question about a picture, in words."
    inputs = Visualizer.inputs
    output_type = Visualizer.output_type

    def __init__(
        self,
        model: str = CONTROLLER,
        api_base: str | None = None,
        max_new_tokens: int = 512,
        device: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(model=model, api_base=api_base, max_new_tokens=max_new_tokens, device=device, dtype=dtype)

    def forward(self, image_path: str, question: str) -> str:
        if not isinstance(question, str) or not question.strip():
            raise InputError("`question` must say what to find out about the picture, as a string.")
        image = self.open_image(image_path)
        return ask(choose_model(self.controller, **self.settings), question, [image])
