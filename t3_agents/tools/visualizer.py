"""The tool `visualizer`: answers about a picture, from the text in it or from what can be measured."""

from __future__ import annotations

from collections import Counter

from PIL import Image

from ..errors import InputError, T3Error
from .base import WorkspaceTool
from .facedetection import find_faces
from .ocr import find_words, join_rows
from .shapes import COLOURS, KINDS, Drawing, measure
from .shared_models import CONTROLLER, ask, choose_model
from .text import content_words, shorten, stem


# Words of a question that measurements answer and text does not.
_MEASURED = {
    *COLOURS,
    *KINDS,
    *map(stem, "grey colour color face people person size width height object pixel".split()),
}


class Visualizer(WorkspaceTool):
    """Reads the text of a picture with OCR; a picture without text is described by measurements.

    Args:
        max_chars (`int`, *optional*, defaults to 600): longest answer, in characters.
    """

    name = "visualizer"
    description = "Answers a question about a picture: reads its text, or measures its colours, shapes and faces."
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
            return shorten("\n".join(rows), self.settings["max_chars"])
        text = f"Text: {' / '.join(rows)}" if rows else "No readable text."
        measured = describe(image, tuple(word.box for word in words))
        answer = f"{measured}\n{text}\nAnything else in it cannot be told by this tool."
        return shorten(answer, self.settings["max_chars"])


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


def describe(image: Image.Image, text_boxes: tuple = ()) -> str:
    """Size, colours, shapes and faces of a picture, one line each. Letters do not count as shapes."""
    drawing = measure(image)
    lines = [f"Size: {image.width} x {image.height} pixels."]
    colours = ", ".join(f"{name} {share:.0%}" for name, share in drawing.colours[:5] if share >= 0.005)
    lines.append(f"Colours: {colours}.")
    lines.append(f"Shapes: {_shapes(drawing, text_boxes)}.")
    try:
        lines.append(f"Faces: {len(find_faces(image))}.")
    except T3Error as error:
        lines.append(f"Faces: not counted ({error})")
    return "\n".join(lines)


def _shapes(drawing: Drawing, text_boxes: tuple) -> str:
    if not drawing.flat:
        return "not counted, this is a photo and no flat drawing"
    counts = Counter(str(shape) for shape in drawing.shapes if not is_lettering(shape.box, text_boxes))
    return (
        ", ".join(f"{count} {name if count == 1 else name + 's'}" for name, count in counts.most_common(12)) or "none"
    )


def is_lettering(box: tuple, text_boxes: tuple) -> bool:
    """Whether a shape's box lies within a text's box, so that the shape is a letter."""
    for x1, y1, x2, y2 in text_boxes:
        wide = max(0, min(box[2], x2) - max(box[0], x1)) * max(0, min(box[3], y2) - max(box[1], y1))
        if wide > 0.7 * (box[2] - box[0]) * (box[3] - box[1]):
            return True
    return False
