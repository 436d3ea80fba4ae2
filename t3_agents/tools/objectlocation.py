"""The tool `objectlocation`: boxes of what is named, by measurements and OCR or with an open-vocabulary detector."""

from __future__ import annotations

import re

from ..errors import InputError
from .base import WorkspaceTool
from .facedetection import find_faces
from .hub_models.detection import DetectingTool
from .local.picture_facts import is_lettering
from .local.shapes import COLOR_NAMES, KIND_NAMES, PEOPLE, chosen, measure
from .local.text import stem, words_of
from .ocr import Word, find_words


_TEXT = {"text", "word", "number", "lettering"}
_FILLER = set("the a an all every each any of in picture image and label big small large colored coloured".split())
# Detectors read 16 to 256 tokens.
_MAX_NAME = 200
ABILITIES = (
    'shapes ("red circle", "squares"), colours ("blue object"), faces or persons, and words in quotes ("Total")'
)


class ObjectLocation(WorkspaceTool):
    """Finds flat shapes by kind and color, faces with CenterFace, and words with OCR."""

    name = "objectlocation"
    description = (
        "Finds shapes, colours, faces or words in a picture. Returns a list of boxes [x1, y1, x2, y2] in pixels."
    )
    inputs = {
        "object": {"type": "string", "description": "what to find, e.g. 'red circle', 'face', '\"Total\"'"},
        "image_path": {"type": "string", "description": "path of the picture"},
    }
    output_type = "array"

    def forward(self, object: str, image_path: str) -> list:
        if not isinstance(object, str) or not object.strip():
            raise InputError(f"`object` must name what to find: {ABILITIES}.")
        image = self.open_image(image_path)
        quoted = re.search(r"[\"“‘']([^\"”’']+)[\"”’']", object)
        if quoted:
            return find_text(quoted.group(1), find_words(image))
        names = {stem(word) for word in re.findall(r"[^\W\d_]+", object.lower())} - _FILLER
        if names and names <= KIND_NAMES.keys() | COLOR_NAMES.keys():
            words = find_words(image)
            drawing = measure(image)
            if not drawing.flat:
                raise InputError(f"{image_path} is a photo; shapes and colours are found in flat drawings only.")
            boxes = tuple(word.box for word in words)
            return [list(s.box) for s in chosen(drawing.shapes, names) if not is_lettering(s.box, boxes)]
        if names & PEOPLE and names <= PEOPLE:
            return find_faces(image)
        words = find_words(image)
        if names and names <= _TEXT:
            return [list(word.box) for word in words]
        found = find_text(object, words)
        if found:
            return found
        raise InputError(f"`{object}` cannot be located; this tool finds {ABILITIES}. Otherwise ask visualizer.")


class HubObjectLocation(DetectingTool, ObjectLocation):
    """Finds anything that words can name, with an open-vocabulary detector such as OWLv2 or Grounding DINO.

    Its settings are those of [`~detection.DetectingTool`].
    """

    description = (
        "Finds objects in a picture. Returns a list of boxes [x1, y1, x2, y2] in pixels, the most certain first; an "
        "empty list where there is none."
    )
    inputs = {
        "object": {"type": "string", "description": "what to find, in a few words, e.g. 'red apple'"},
        "image_path": {"type": "string", "description": "path of the picture"},
    }

    def forward(self, object: str, image_path: str) -> list:
        if not isinstance(object, str) or not object.strip(" ,") or len(object) > _MAX_NAME:
            raise InputError("`object` must name what to find in a few words, such as 'red apple' or 'cat, dog'.")
        labels = [label.strip() for label in object.split(",") if label.strip()]
        return self.detect(image_path, labels)


def find_text(text: str, words: tuple[Word, ...]) -> list[list[int]]:
    """Boxes of a text in a picture; where it is a part of a longer piece, its share of that piece's width."""
    wanted = " ".join(words_of(text))
    boxes = []
    for word in words:
        line = word.text.lower()
        at = line.find(text.strip().lower())
        if f" {wanted} " not in f" {' '.join(words_of(word.text))} ":
            continue
        x1, y1, x2, y2 = word.box
        if at >= 0 and len(line) > len(text.strip()):
            # Letters have about one width.
            per_letter = (x2 - x1) / len(line)
            x1, x2 = round(x1 + at * per_letter), round(x1 + (at + len(text.strip())) * per_letter)
        boxes.append([x1, y1, x2, y2])
    return boxes
