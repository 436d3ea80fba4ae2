"""The 14 tools of the GTA benchmark, thin over the other tools of this package.

Names, inputs and forms of boxes and answers are those of GTA (https://github.com/open-compass/GTA, Apache-2.0:
`agentlego/benchmark.py` and the tools that it imports); pictures are workspace paths. A box is the text
`(x1, y1, x2, y2)` in pixels.
"""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image, ImageColor, ImageDraw, ImageFont
from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError

from ..errors import InputError
from ..sandbox import SandboxExecutor, SandboxLimits
from ..storage import scratch_folder
from ..workspace import Workspace
from .base import WorkspaceTool, fit_box
from .image_edit import HubImageEdit, ImageEdit
from .image_generator import HubImageGenerator, ImageGenerator
from .local.arithmetic import calculate
from .objectlocation import HubObjectLocation, ObjectLocation
from .ocr import HubOcr, Ocr, text_with_boxes
from .visualizer import HubVisualizer, Visualizer
from .web.engines import ENGINES, check_engine


GTA_TO_PAPER: dict[str, tuple[str, ...]] = {
    "OCR": ("visualizer", "ocr"),
    "ImageDescription": ("visualizer",),
    "RegionAttributeDescription": ("visualizer",),
    "TextToBbox": ("objectlocation", "facedetection"),
    "CountGivenObject": ("objectlocation", "facedetection", "visualizer"),
    "MathOCR": ("visualizer", "ocr"),
    "GoogleSearch": ("ask_search_agent",),
    "Calculator": (),
    "Solver": (),
    "Plot": (),
    "DrawBox": ("image_edit",),
    "AddText": ("image_edit",),
    "TextToImage": ("image_generator",),
    "ImageStylization": ("image_edit",),
}
"""The paper's tools that can do the work of each of GTA's; none where an agent writes Python instead."""

_IMAGE = {"type": "string", "description": "path of the picture"}
_BBOX = {"type": "string", "description": "the box as `(x1, y1, x2, y2)` in pixels"}
_NUMBER = r"-?\d+(?:\.\d+)?"


class GtaTool(WorkspaceTool):
    """A GTA tool that hands its work to another tool.

    Args:
        backend (`str`, *optional*, defaults to `"embedded"`): `embedded` needs nothing but installed packages, `hub`
            uses models of the Hub or the agent's own.
        part (`dict`, *optional*): settings of the tool that does the work.
    """

    parts: ClassVar[dict[str, type[WorkspaceTool]]]

    backend: str = "embedded"
    part: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if self.backend not in self.parts:
            raise InputError(f"`{self.name}` has no backend `{self.backend}`; choose one of: {', '.join(self.parts)}.")
        try:
            self._part = self.parts[self.backend](**self.part)
        except TypeError as error:
            raise InputError(f"`part` holds the settings of the tool behind `{self.name}`: {error}.") from None

    def ask_part(self, *arguments: Any) -> Any:
        """Call the part on paths of the workspace."""
        self._part.workspace, self._part.controller = self.workspace, self.controller
        return self._part(*arguments)

    def ask_about(self, image: Image.Image, *arguments: Any) -> Any:
        """Call the part on a picture that is no file of the workspace, so that it is not shown as a result."""
        with scratch_folder() as folder:
            path = str(Path(folder) / "picture.png")
            image.save(path)
            self._part.workspace, self._part.controller = None, self.controller
            return self._part(path, *arguments)


class OCR(GtaTool):
    """Reads text with its places; a Hub model gives the text alone."""

    name = "OCR"
    description = "Reads all text of a picture. Returns one piece a line: `(x1, y1, x2, y2) text`, boxes in pixels."
    inputs = {"image": _IMAGE}
    parts = {"embedded": Ocr, "hub": HubOcr}

    def forward(self, image: str) -> str:
        if self.backend == "embedded":
            return self.with_count(text_with_boxes(self.open_image(image)) or "No text found.", image)
        return self.ask_part(image)


class ImageDescription(GtaTool):
    """Describes a picture."""

    name = "ImageDescription"
    description = "Describes a picture in words."
    inputs = {"image": _IMAGE}
    parts = {"embedded": Visualizer, "hub": HubVisualizer}

    def forward(self, image: str) -> str:
        return self.ask_part(image, "Describe the image, its objects and their colours in detail.")


class RegionAttributeDescription(GtaTool):
    """Describes an attribute of a part of a picture."""

    name = "RegionAttributeDescription"
    description = "Describes one attribute (colour, text, kind ...) of a region of a picture."
    inputs = {
        "image": _IMAGE,
        "bbox": _BBOX,
        "attribute": {"type": "string", "description": "the attribute to describe"},
    }
    parts = {"embedded": Visualizer, "hub": HubVisualizer}

    def forward(self, image: str, bbox: str, attribute: str) -> str:
        picture = self.open_image(image)
        return self.ask_about(picture.crop(read_box(bbox, picture.size)), f"Describe the {attribute} in detail.")


class MathOCR(GtaTool):
    """Reads a formula: as LaTeX with a Hub model, as plain text otherwise."""

    name = "MathOCR"
    description = "Reads the mathematical expression in a picture and returns it, as LaTeX where possible."
    inputs = {"image": _IMAGE}
    parts = {"embedded": Ocr, "hub": HubVisualizer}

    def forward(self, image: str) -> str:
        if self.backend == "embedded":
            return self.ask_part(image) or "No text found."
        return self.ask_part(image, "Write the mathematical expressions of the image as LaTeX, and nothing else.")


class TextToBbox(GtaTool):
    """Finds an object."""

    name = "TextToBbox"
    description = "Finds what a text describes. Returns a box `(x1, y1, x2, y2)` in pixels a line, best first."
    inputs = {
        "image": _IMAGE,
        "text": {"type": "string", "description": "what to find, in English"},
        "top1": {"type": "boolean", "description": "only the best box (default), else all", "nullable": True},
    }
    parts = {"embedded": ObjectLocation, "hub": HubObjectLocation}

    def forward(self, image: str, text: str, top1: bool | None = True) -> str:
        boxes = self.ask_part(text, image)
        lines = [f"({', '.join(str(round(value)) for value in box)})" for box in boxes]
        return "\n".join(lines[:1] if top1 is not False else lines) or "No object found."


class CountGivenObject(GtaTool):
    """Counts objects; one is in a region when its middle is."""

    name = "CountGivenObject"
    description = "Counts the objects that a text describes, in a picture or a region of it. Returns a whole number."
    inputs = {
        "image": _IMAGE,
        "text": {"type": "string", "description": "what to count, in English"},
        "bbox": {**_BBOX, "nullable": True},
    }
    output_type = "integer"
    parts = {"embedded": ObjectLocation, "hub": HubObjectLocation}

    def forward(self, image: str, text: str, bbox: str | None = None) -> int:
        boxes = self.ask_part(text, image)
        if bbox is None:
            return len(boxes)
        left, top, right, bottom = read_box(bbox, self.open_image(image).size)
        middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]
        return sum(left <= x <= right and top <= y <= bottom for x, y in middles)


class TextToImage(GtaTool):
    """Makes a picture."""

    name = "TextToImage"
    description = "Makes a picture from keywords and returns its path."
    inputs = {"keywords": {"type": "string", "description": "keywords separated by commas"}}
    parts = {"embedded": ImageGenerator, "hub": HubImageGenerator}

    def forward(self, keywords: str) -> str:
        return self.ask_part(keywords)


class ImageStylization(GtaTool):
    """Changes a picture."""

    name = "ImageStylization"
    description = "Changes a picture as an instruction says and returns the path of the new one."
    inputs = {"image": _IMAGE, "instruction": {"type": "string", "description": "what to change"}}
    parts = {"embedded": ImageEdit, "hub": HubImageEdit}

    def forward(self, image: str, instruction: str) -> str:
        return self.ask_part(instruction, image)


class GoogleSearch(WorkspaceTool):
    """Searches with one of the engines of [`web_engines`].

    Args:
        engine (`str`, *optional*, defaults to `"offline"`): name of the engine.
        corpus (`str`, *optional*): a folder of texts for the offline engine.
    """

    name = "GoogleSearch"
    description = "Searches the web and returns the first results, one a paragraph."
    inputs = {
        "query": {"type": "string", "description": "what to search for"},
        "k": {"type": "integer", "description": "number of results, 10 by default", "nullable": True},
    }

    engine: str = "offline"
    corpus: str | None = None

    def __post_init__(self):
        super().__post_init__()
        check_engine(self.engine)

    def forward(self, query: str, k: int | None = 10) -> str:
        if not isinstance(query, str) or not query.strip():
            raise InputError("`query` must be a few words to search for.")
        engine = ENGINES[self.engine](self.corpus)
        results = engine.search(query, max(1, min(int(k or 10), 20)), 15)
        lines = [f"{number} - {result.title}: {result.snippet}" for number, result in enumerate(results, start=1)]
        return "\n\n".join(lines) or f"Nothing was found for `{query}`: use fewer or other words."


class Calculator(WorkspaceTool):
    """Computes an expression, see [`~arithmetic.calculate`]."""

    name = "Calculator"
    description = "Computes one Python expression of numbers; functions of `math` need no import."
    inputs = {"expression": {"type": "string", "description": "the expression, such as `round(75 / 4, 2)`"}}

    def forward(self, expression: str) -> str:
        return str(calculate(expression))


class Solver(WorkspaceTool):
    """Runs code that solves equations with sympy, in the sandbox."""

    name = "Solver"
    description = "Runs Python code whose function `solution()` solves equations with sympy and returns a string."
    inputs = {"command": {"type": "string", "description": "Python code, also as a Markdown block"}}

    def forward(self, command: str) -> str:
        logs, _ = run_solution(command, "print(solution())")
        return logs.strip() or "The code returned nothing."


class Plot(WorkspaceTool):
    """Runs code that draws with matplotlib, in the sandbox."""

    name = "Plot"
    description = (
        "Runs Python code with a function `solution()` that draws with matplotlib and returns the figure; returns the "
        "path of the picture."
    )
    inputs = {"command": {"type": "string", "description": "Python code, also as a Markdown block"}}

    def forward(self, command: str) -> str:
        _, pictures = run_solution(command, "solution().savefig('plot.png')")
        if not pictures:
            raise InputError("`solution()` must return a matplotlib figure.")
        return self.save_image(pictures[0], "plot")


class DrawBox(WorkspaceTool):
    """Draws a box with a note above it."""

    name = "DrawBox"
    description = "Draws a red box on a picture, with a note above it if given; returns the path of the new one."
    inputs = {
        "image": _IMAGE,
        "bbox": _BBOX,
        "annotation": {"type": "string", "description": "note above the box", "nullable": True},
    }

    def forward(self, image: str, bbox: str, annotation: str | None = None) -> str:
        picture = self.open_image(image)
        box = read_box(bbox, picture.size)
        shade = Image.new("RGBA", picture.size)
        ImageDraw.Draw(shade).rectangle(
            box, fill=(255, 0, 0, 64), outline="red", width=max(2, max(picture.size) // 300)
        )
        picture = Image.alpha_composite(picture.convert("RGBA"), shade).convert("RGB")
        if annotation:
            font = _font(picture)
            top = max(box[1] - 5, font.size)
            ImageDraw.Draw(picture).text((box[0], top), str(annotation), "red", font, anchor="lb")
        return self.save_image(picture, "box")


class AddText(WorkspaceTool):
    """Writes on a picture."""

    name = "AddText"
    description = "Writes a text on a picture and returns the path of the new one."
    inputs = {
        "image": _IMAGE,
        "text": {"type": "string", "description": "what to write"},
        "position": {
            "type": "string",
            "description": "lower left corner as `(x, y)`, or l, m or r with t, m or b: `mt` is middle top",
        },
        "color": {"type": "string", "description": "name of a colour, red by default", "nullable": True},
    }

    def forward(self, image: str, text: str, position: str, color: str | None = "red") -> str:
        picture = self.open_image(image)
        if str(color or "red").lower() not in ImageColor.colormap:
            raise InputError(f"`{color}` is no name of a colour; use red, blue, white ...")
        width, height = picture.size
        margin = width // 20
        place = str(position).strip().lower()
        if re.fullmatch("[lmr][tmb]", place):
            x = {"l": margin, "m": width // 2, "r": width - margin}[place[0]]
            y = {"t": margin, "m": height // 2, "b": height - margin}[place[1]]
            anchor = place
        else:
            numbers = re.findall(_NUMBER, place)
            if len(numbers) != 2:
                raise InputError(f"`{position}` is no position: use `(x, y)`, or two letters such as `mt` or `lb`.")
            (x, y), anchor = map(float, numbers), "lb"
        ImageDraw.Draw(picture).text((x, y), str(text), str(color or "red").lower(), _font(picture), anchor=anchor)
        return self.save_image(picture, "text")


def read_box(bbox: Any, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of a call, cut to the picture.

    Args:
        bbox (`str` or `list`): `(x1, y1, x2, y2)` in pixels.
        size (`tuple[int, int]`): width and height of the picture.

    Raises:
        InputError: when it is no box, or lies outside of the picture.
    """
    numbers = [float(number) for number in re.findall(_NUMBER, str(bbox))]
    if len(numbers) != 4:
        raise InputError(f"`{str(bbox)[:60]}` is no box: write `(x1, y1, x2, y2)` in pixels.")
    return fit_box(numbers, size)


def _font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(max(12, picture.height * 18 // 336))


_SECONDS = 20
_IMPORTS = ["sympy", "numpy", "matplotlib"]


def run_solution(command: str, call: str) -> tuple[str, list[Image.Image]]:
    """Run a program and then one more line, in a sandbox and a workspace of their own.

    Args:
        command (`str`): Python code, also as a Markdown block.
        call (`str`): the line.

    Returns:
        `tuple[str, list[PIL.Image.Image]]`: what was printed, and the picture files that were written, oldest first.

    Raises:
        InputError: when the program defines no `solution`, or fails; the message says how.
        SandboxError: when there is no sandbox here: such code never runs in this process.
    """
    block = re.search(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", str(command), re.DOTALL)
    code = block.group(1) if block else str(command)
    if not re.search(r"^def solution\(\s*\)", code, re.MULTILINE):
        raise InputError("`command` must be Python code that defines a function `solution()` without arguments.")
    with Workspace() as workspace:
        executor = SandboxExecutor(_IMPORTS, workspace, SandboxLimits(time_limit=_SECONDS))
        try:
            executor.send_tools({})
            result = executor(f"{code}\n{call}")
        except (InterpreterError, ExecutionTimeoutError) as error:
            raise InputError(f"The code failed: {str(error)[:500]}") from None
        finally:
            executor.cleanup()
        return result.logs, [file.open_image() for file in workspace.new_images()]
