"""The tool `segmentation`: what belongs to an object, painted over the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import InputError
from .base import WorkspaceTool, fit_box
from .hub_models.sam import all_masks, masks_in_boxes, named_masks
from .local.masks import box_masks, salient_mask, shape_masks


# Masks of large pictures take much memory and show no more.
MAX_SIDE, MAX_BOXES = 2048, 64
_BOXES_WANTED = "a list of boxes [[x1, y1, x2, y2], ...] in pixels, as objectlocation and facedetection return them"
_PALETTE = (
    *((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230)),
    *((210, 245, 60), (0, 128, 128), (170, 110, 40), (128, 0, 0), (128, 128, 0)),
)


class Segmentation(WorkspaceTool):
    """Finds masks with classical means: drawn shapes, GrabCut in boxes of a photo, and a small network for the salient
    object where there is no box."""

    name = "segmentation"
    description = (
        "Marks the exact area of objects in a picture and returns the path of a new PNG file: each object in a colour "
        "of its own with a number, in the order of the boxes. Without boxes it marks the shapes of a drawing, or what "
        "stands out in a photo. At most 2048 pixels a side."
    )
    inputs = {
        "image_path": {"type": "string", "description": "path of the picture"},
        "prompt": {
            "type": "array",
            "description": "boxes [[x1, y1, x2, y2], ...] in pixels of the objects to mark",
            "nullable": True,
        },
    }

    def forward(self, image_path: str, prompt: list | None = None) -> str:
        if isinstance(prompt, str):
            raise InputError(f"`prompt` must be {_BOXES_WANTED}; this tool finds nothing by its name.")
        image, boxes = _fitted(self.open_image(image_path), prompt)
        if boxes:
            masks = box_masks(image, boxes)
        else:
            masks = shape_masks(image)
            masks = [salient_mask(image)] if masks is None else masks
        return self.save_image(overlay(image, masks), "segmentation")


class HubSegmentation(Segmentation):
    """Finds masks with Segment Anything: SAM 2 for boxes and for everything, SAM 3 for words.

    Args:
        model (`str`, *optional*, defaults to `"facebook/sam2.1-hiera-large"`): Hub id or folder of a SAM 2.
        text_model (`str`, *optional*, defaults to `"facebook/sam3"`): Hub id or folder of a SAM 3.
        device (`str`, *optional*): the best one that torch finds, by default.
        dtype (`str`, *optional*): the checkpoint's own by default, `float32` on a CPU.
    """

    description = (
        "Marks the exact area of objects in a picture and returns the path of a new PNG file: each object in a colour "
        "of its own with a number, in the order of the boxes. Without a prompt it marks everything. At most 2048 "
        "pixels a side."
    )
    inputs = {
        "image_path": Segmentation.inputs["image_path"],
        "prompt": {
            "type": "array",
            "description": "boxes [[x1, y1, x2, y2], ...] in pixels of the objects to mark, or their name as a string",
            "nullable": True,
        },
    }

    model: str = "facebook/sam2.1-hiera-large"
    text_model: str = "facebook/sam3"
    device: str | None = None
    dtype: str | None = None

    def forward(self, image_path: str, prompt: list | None = None) -> str:
        image = self.open_image(image_path)
        placement = {"device": self.device, "dtype": self.dtype}
        name = prompt.strip() if isinstance(prompt, str) else ""
        image, boxes = _fitted(image, None if name else prompt)
        if name:
            masks = named_masks(image, name, self.text_model, **placement)
        elif boxes:
            masks = masks_in_boxes(image, boxes, self.model, **placement)
        else:
            masks = all_masks(image, self.model, **placement)
        return self.save_image(overlay(image, masks), "segmentation")


def read_boxes(prompt: Any, size: tuple[int, int]) -> list[list[int]]:
    """The boxes that a model gave, inside a picture of `size` (width, height); one box may come without its list.

    Raises:
        InputError: when it is something else, or a box lies outside the picture.
    """
    if prompt is None or prompt == "":
        return []
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        raise InputError(f"`prompt` must be {_BOXES_WANTED}, not {type(prompt).__name__}.")
    boxes = [prompt] if len(prompt) == 4 and all(isinstance(side, int | float) for side in prompt) else list(prompt)
    if len(boxes) > MAX_BOXES:
        raise InputError(f"`prompt` has {len(boxes)} boxes; give at most {MAX_BOXES} in one call.")
    read = []
    for box in boxes:
        numbers = list(box) if isinstance(box, Sequence) and not isinstance(box, str) else []
        if len(numbers) != 4 or not all(isinstance(side, int | float) and math.isfinite(side) for side in numbers):
            raise InputError(f"`prompt` must be {_BOXES_WANTED}; {box!r} is no such box.")
        read.append(list(fit_box(numbers, size)))
    return read


def _fitted(image: Image.Image, prompt: Any) -> tuple[Image.Image, list[list[int]]]:
    """A picture of at most `MAX_SIDE` pixels and the boxes in it."""
    boxes = read_boxes(prompt, image.size)
    if max(image.size) <= MAX_SIDE:
        return image, boxes
    small = ImageOps.contain(image, (MAX_SIDE, MAX_SIDE))
    across, down = small.width / image.width, small.height / image.height
    # A box of a few pixels of a large picture keeps at least one.
    corners = [(min(int(x * across), small.width - 1), min(int(y * down), small.height - 1)) for x, y, _, _ in boxes]
    ends = [(math.ceil(x * across), math.ceil(y * down)) for _, _, x, y in boxes]
    return small, [[*corner, *end] for corner, end in zip(corners, ends, strict=True)]


def overlay(image: Image.Image, masks: Sequence) -> Image.Image:
    """A picture with each mask in a color: half transparent inside, with an outline, and its number on it.

    Args:
        image (`PIL.Image.Image`): RGB.
        masks (`Sequence[numpy.ndarray]`): of shape `(height, width)` and type `bool`; empty ones are passed over.

    Raises:
        InputError: when no mask has a pixel.
    """
    import numpy as np

    if not any(mask.any() for mask in masks):
        raise InputError("No object was found in this picture: give boxes, for example those of objectlocation.")
    pixels = np.array(image)
    labels = []
    for number, mask in enumerate(masks, 1):
        if not mask.any():
            continue
        color = np.array(_PALETTE[(number - 1) % len(_PALETTE)])
        pixels[mask] = (pixels[mask] * 0.5 + color * 0.5).astype(np.uint8)
        edge = mask.copy()
        edge[1:-1, 1:-1] &= ~(mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:])
        pixels[edge] = color
        labels.append((str(number), tuple(color.tolist()), _inside(mask)))
    painted = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(painted)
    font = ImageFont.load_default(max(10, min(image.size) // 25))
    for text, color, place in labels:
        x1, y1, x2, y2 = canvas.textbbox(place, text, font=font, anchor="mm")
        canvas.rectangle((x1 - 3, y1 - 2, x2 + 3, y2 + 2), fill=color)
        canvas.text(place, text, font=font, fill="white" if sum(color) < 420 else "black", anchor="mm")
    return painted


def _inside(mask) -> tuple[int, int]:
    """A place on a mask for its number: the middle of its longest run in the row at its center of mass."""
    import numpy as np

    rows, _ = np.nonzero(mask)
    row = int(rows[np.abs(rows - rows.mean()).argmin()])
    columns = np.flatnonzero(mask[row])
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    longest = max(runs, key=len)
    return int(longest[len(longest) // 2]), row
