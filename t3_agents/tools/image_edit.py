"""The tool `image_edit`: edits that a prompt describes, done with Pillow or with a diffusion pipeline."""

from __future__ import annotations

import re
from collections.abc import Callable

from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from ..errors import InputError
from .base import WorkspaceTool, fit_box
from .hub_models.diffusion import PicturingTool
from .local.text import put_back, take_quoted


ABILITIES = (
    "crop to [x1, y1, x2, y2] or to the left/right/top/bottom half; resize to 300x200 or to 50%; rotate 90 degrees "
    "(left or right); flip horizontally or vertically; grayscale; invert; blur (a box); brighten or darken (by 30%); "
    'draw a red box [x1, y1, x2, y2]; add the text "Hello" at 10, 20'
)
_MAX_SIDE = 8192
_VERBS = (
    "crop|cut|keep|resize|scale|shrink|enlarge|rotate|turn|flip|mirror|convert|make|gr[ae]y|blur|draw|add|write|put|"
    "brighten|darken|lighten|invert"
)
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_COLORS = "|".join(sorted(ImageColor.colormap, key=len, reverse=True))

Edit = Callable[[Image.Image, str], Image.Image]


class ImageEdit(WorkspaceTool):
    """Edits a picture with Pillow; several edits may be joined by `and`."""

    name = "image_edit"
    description = (
        "Edits a picture and returns the path of the new one: crop, resize, rotate, flip, grayscale, invert, blur, "
        "brighten, darken, draw a box, add text."
    )
    inputs = {
        "prompt": {"type": "string", "description": "the edit, e.g. 'crop to [10, 10, 90, 60]'"},
        "image_path": {"type": "string", "description": "path of the picture"},
    }

    def forward(self, prompt: str, image_path: str) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"`prompt` must say what to do: {ABILITIES}.")
        image = self.open_image(image_path)
        for step, quoted in _steps(prompt):
            edit = next((edit for pattern, edit in _EDITS if re.search(pattern, step, re.IGNORECASE)), None)
            if edit is None:
                raise InputError(f"This tool cannot do `{step.strip()}`. It can: {ABILITIES}.")
            image = edit(image, put_back(step, quoted))
        return self.save_image(image, "edit")


class HubImageEdit(PicturingTool, ImageEdit):
    """Edits a picture with a pipeline of diffusers that follows instructions, or with an image-to-image pipeline.

    Its settings are those of [`~diffusion.PicturingTool`].
    """

    description = (
        "Edits a picture as the prompt says and returns the path of the new PNG file, at most 1024 pixels a side."
    )
    inputs = {
        "prompt": {"type": "string", "description": "the edit, e.g. 'make it a night scene'"},
        "image_path": {"type": "string", "description": "path of the picture"},
    }

    model: str = "timbrooks/instruct-pix2pix"

    def forward(self, prompt: str, image_path: str) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError("`prompt` must say what to change in the picture, as a string.")
        image = self.open_image(image_path)
        return self.save_image(self.make_picture(prompt, image), "edit")


def _steps(prompt: str) -> list[tuple[str, list[str]]]:
    """The edits of a prompt, in order. Quoted text is taken out first, so that its words are no commands."""
    bare, quoted = take_quoted(prompt)
    parts = re.split(rf"(?:,?\s+(?:and|then))+\s+(?=(?:{_VERBS}))|;+|(?<!:)\n+", bare, flags=re.IGNORECASE)
    return [(part, quoted) for part in parts if part.strip()]


def _box(step: str, image: Image.Image, required: bool = True) -> tuple[int, int, int, int] | None:
    """Four numbers of a prompt as a box inside the picture; values up to 1 with a fraction are shares of its sides."""
    match = re.search(rf"[\[(]?\s*{_NUMBER}[,\s]+{_NUMBER}[,\s]+{_NUMBER}[,\s]+{_NUMBER}", step)
    if not match:
        if required:
            raise InputError("The edit needs a box such as [10, 20, 110, 80] (x1, y1, x2, y2 in pixels).")
        return None
    values = [float(value) for value in match.groups()]
    if max(values) <= 1 and any(value % 1 for value in values):
        values = [value * side for value, side in zip(values, image.size * 2, strict=True)]
    (x1, x2), (y1, y2) = sorted(values[::2]), sorted(values[1::2])
    return fit_box((x1, y1, x2, y2), image.size)


def _crop(image: Image.Image, step: str) -> Image.Image:
    width, height = image.size
    box = _box(step, image, required=False)
    if box is None:
        side = re.search(r"\b(left|right|top|upper|bottom|lower|cent(?:er|re)|middle)\b", step, re.IGNORECASE)
        if not side:
            raise InputError(
                "Crop needs a box such as [10, 20, 110, 80], or the left/right/top/bottom half or the centre."
            )
        part = 3 if re.search(r"\bthird\b", step) else 4 if re.search(r"\bquarter\b", step) else 2
        wide, high = max(1, width // part), max(1, height // part)
        box = {
            "left": (0, 0, wide, height),
            "right": (width - wide, 0, width, height),
            "top": (0, 0, width, high),
            "upper": (0, 0, width, high),
            "bottom": (0, height - high, width, height),
            "lower": (0, height - high, width, height),
        }.get(side.group(1).lower(), (width // 4, height // 4, width - width // 4, height - height // 4))
    return image.crop(box)


def _resize(image: Image.Image, step: str) -> Image.Image:
    size = re.search(rf"{_NUMBER}\s*(?:x|×|by|,)\s*{_NUMBER}", step)
    percent = re.search(rf"{_NUMBER}\s*(?:%|percent)", step)
    times = re.search(rf"{_NUMBER}\s*(?:times|x\b)", step)
    side = re.search(rf"\b(width|height|wide|high)\b(?:\s+(?:of|to))?\s*{_NUMBER}", step)
    if size:
        width, height = float(size.group(1)), float(size.group(2))
    elif side:
        scale = float(side.group(2)) / (image.width if side.group(1)[0] == "w" else image.height)
        width, height = image.width * scale, image.height * scale
    else:
        named = 0.5 if re.search(r"\bhalf\b", step) else 2.0 if re.search(r"\bdouble|twice\b", step) else None
        scale = float(percent.group(1)) / 100 if percent else float(times.group(1)) if times else named
        if scale is None:
            raise InputError("Resize needs a size such as 300x200, or a scale such as 50%.")
        width, height = image.width * scale, image.height * scale
    if not (1 <= round(width) <= _MAX_SIDE and 1 <= round(height) <= _MAX_SIDE):
        raise InputError(f"The new size must be between 1 and {_MAX_SIDE} pixels a side.")
    return image.resize((round(width), round(height)), Image.Resampling.LANCZOS)


def _rotate(image: Image.Image, step: str) -> Image.Image:
    degrees = re.search(_NUMBER, step)
    angle = float(degrees.group(1)) if degrees else 180.0 if "upside" in step.lower() else 90.0
    # Pillow turns counter-clockwise. Without a direction the turn is clockwise, as people expect.
    left = re.search(r"\b(left|counter-?\s?clockwise|anti-?\s?clockwise)\b", step, re.IGNORECASE)
    return image.rotate(angle if left else -angle, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)


def _flip(image: Image.Image, step: str) -> Image.Image:
    return ImageOps.flip(image) if re.search(r"vertical|upside|top", step, re.IGNORECASE) else ImageOps.mirror(image)


def _blur(image: Image.Image, step: str) -> Image.Image:
    box = _box(step, image, required=False) or (0, 0, *image.size)
    region = image.crop(box)
    image.paste(region.filter(ImageFilter.GaussianBlur(max(4, max(region.size) / 20))), box[:2])
    return image


def _brightness(image: Image.Image, step: str) -> Image.Image:
    match = re.search(_NUMBER, step)
    share = (abs(float(match.group(1))) / 100 if match else 0.3) or 0.3
    darker = re.search(r"dark|dim", step, re.IGNORECASE)
    return ImageEnhance.Brightness(image).enhance(max(0.0, 1 - share) if darker else 1 + share)


def _color(step: str, default: str) -> str:
    match = re.search(rf"\b({_COLORS})\b", step, re.IGNORECASE)
    return match.group(1).lower() if match else default


def _draw_box(image: Image.Image, step: str) -> Image.Image:
    box = _box(step, image)
    color = _color(step, "red")
    if re.search(r"\bfill", step, re.IGNORECASE):
        ImageDraw.Draw(image).rectangle(box, fill=color)
    else:
        ImageDraw.Draw(image).rectangle(box, outline=color, width=max(2, max(image.size) // 200))
    return image


def _add_text(image: Image.Image, step: str) -> Image.Image:
    match = re.search(r"\"([^\"]*)\"|“([^”]*)”|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))*)'", step)
    if not match:
        raise InputError('The text to add must stand in quotes: add the text "Hello" at 10, 20.')
    text = next(group for group in match.groups() if group is not None)
    rest = step[: match.start()] + step[match.end() :]
    font = ImageFont.load_default(max(12, min(image.size) // 12))
    draw = ImageDraw.Draw(image)
    x1, y1, x2, y2 = draw.textbbox((0, 0), text, font=font)
    wide, high, margin = x2 - x1, y2 - y1, max(4, min(image.size) // 40)
    place = re.search(rf"\bat\b\D*?{_NUMBER}[,\s]+{_NUMBER}", rest)
    if place:
        x, y = float(place.group(1)), float(place.group(2))
    else:
        x = margin if "left" in rest else image.width - wide - margin if "right" in rest else (image.width - wide) / 2
        y = margin if "top" in rest else (image.height - high) / 2 if "cent" in rest else image.height - high - margin
    draw.text((x - x1, y - y1), text, font=font, fill=_color(rest, "red"))
    return image


# The first pattern that is found decides; text and boxes come first because they may name other words.
_EDITS: tuple[tuple[str, Edit], ...] = (
    (r"\b(add|write|put|draw|place)\b.*(\btext\b|\bcaption\b|\blabel\b|\btitle\b|\bword|<\d+>)", _add_text),
    (r"\b(draw|add|put|mark)\b.*\b(box|rectangle|frame|border)\b", _draw_box),
    (r"\b(crop|cut|keep)\b", _crop),
    (r"\b(resize|scale|shrink|enlarge)\b(?!.*gr[ae]y)", _resize),
    (r"\b(rotate|turn)\b(?!.*\b(gr[ae]y|into|dark|bright))", _rotate),
    (r"\b(flip|mirror)\b", _flip),
    (r"gr[ae]y|black[- ]and[- ]white|monochrome", lambda image, step: ImageOps.grayscale(image).convert("RGB")),
    (r"\b(invert|negative)\b", lambda image, step: ImageOps.invert(image)),
    (r"\bblur", _blur),
    (r"\b(bright|dark|light)(en|er)?\b|\bdim\b", _brightness),
)
