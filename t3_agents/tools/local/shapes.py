"""What can be measured in a picture without a model: colors, and shapes on flat drawings."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from PIL import Image

from t3_agents.errors import needs_extra


Box = tuple[int, int, int, int]

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "gray", "white")
KINDS = tuple("circle ellipse triangle square rectangle diamond pentagon hexagon star line shape".split())

# Words, as stems, for kinds of shapes, colors and people.
KIND_NAMES = {
    **{kind: (kind,) for kind in KINDS},
    **dict.fromkeys(("disc", "disk", "dot", "ball"), ("circle",)),
    **dict.fromkeys(("rectangle", "box"), ("rectangle", "square")),
    "bar": ("rectangle", "square", "line"),
    "oval": ("ellipse",),
    **dict.fromkeys(("shape", "object", "figure", "region", "area", "thing"), KINDS),
}
COLOR_NAMES = {**{color: color for color in COLORS}, "grey": "gray", "violet": "purple", "magenta": "pink"}
PEOPLE = frozenset("face person people man men woman women human head child children boy girl".split())

# Upper hue bounds in degrees.
_HUES = (
    *((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (195, "cyan")),
    *((260, "blue"), (305, "purple"), (340, "pink"), (361, "red")),
)

# Colors closer than this (Euclidean, RGB 0-255) count as one, which absorbs JPEG noise.
_SAME_COLOR = 48
_MAX_COLORS = 16
# Pictures are reduced to this side (pixels) before they are measured.
_SIDE = 1200


@dataclass(frozen=True)
class Shape:
    """A drawn shape.

    Args:
        kind (`str`): one of `KINDS`.
        color (`str`): one of `COLORS`.
        box (`tuple`): x1, y1, x2, y2 in pixels.
        outline (`tuple`): its corners as (x, y) in pixels, in order.
    """

    kind: str
    color: str
    box: Box
    outline: tuple[tuple[int, int], ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Drawing:
    """Measurements of one picture.

    Args:
        flat (`bool`): whether it is a drawing of even colors, not a photo; shapes are looked for in drawings only.
        colors (`tuple`): color names with their shares of the area (0-1), the largest first.
        shapes (`tuple[Shape, ...]`): from top to bottom.
    """

    flat: bool
    colors: tuple[tuple[str, float], ...]
    shapes: tuple[Shape, ...]


def covered(inner: Sequence[int], outer: Sequence[int]) -> float:
    """Share of one box that lies in another."""
    wide = max(0, min(inner[2], outer[2]) - max(inner[0], outer[0]))
    high = max(0, min(inner[3], outer[3]) - max(inner[1], outer[1]))
    return wide * high / max(1, (inner[2] - inner[0]) * (inner[3] - inner[1]))


def chosen(shapes: Sequence[Shape], names: Set[str]) -> list[Shape]:
    """The shapes whose kind and color are among some words (stems); words that name neither do not count."""
    kinds = {kind for name in names for kind in KIND_NAMES.get(name, ())}
    colors = {COLOR_NAMES[name] for name in names & COLOR_NAMES.keys()}
    return [shape for shape in shapes if (not kinds or shape.kind in kinds) and (not colors or shape.color in colors)]


def color_name(rgb) -> str:
    """English name of an RGB color (0-255)."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(channel) / 255 for channel in rgb))
    if value < 0.16:
        return "black"
    if saturation < 0.13 or (saturation < 0.25 and value < 0.3):
        return "white" if value > 0.9 else "black" if value < 0.2 else "gray"
    name = next(name for bound, name in _HUES if hue * 360 < bound)
    if name in ("red", "orange") and hue * 360 < 45 and value < 0.68 and (name == "orange" or saturation < 0.75):
        return "brown"
    if name == "red" and saturation < 0.45 and value > 0.8:
        return "pink"
    return name


def measure(image: Image.Image) -> Drawing:
    """Colors and shapes of an RGB picture.

    Raises:
        MissingExtraError: when OpenCV is not installed.
    """
    with needs_extra("opencv-python-headless", "tools", "Measuring pictures"):
        import cv2
        import numpy as np

    scale = min(1.0, _SIDE / max(image.size))
    # Nearest keeps a drawing's colors pure.
    size = [max(1, round(side * scale)) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.NEAREST) if scale < 1 else image)
    flat = _is_flat(pixels)
    labels, centers = _main_colors(pixels)
    shares: dict[str, float] = {}
    for index, center in enumerate(centers):
        name = color_name(center)
        shares[name] = shares.get(name, 0.0) + float((labels == index).mean())
    colors = tuple(sorted(shares.items(), key=lambda item: -item[1]))
    if not flat:
        return Drawing(False, colors, ())

    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    background = np.bincount(border + 1).argmax() - 1
    found: list[tuple[float, Shape]] = []
    smallest = max(40, 0.0004 * labels.size)
    for index, center in enumerate(centers):
        if index == background:
            continue
        mask = (labels == index).astype(np.uint8)
        for contour in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
            x, y, width, height = cv2.boundingRect(contour)
            area = cv2.contourArea(contour)
            if area < smallest and max(width, height) < 0.1 * max(labels.shape):
                continue
            if _is_fringe(labels, index, (x, y, x + width, y + height)):
                continue
            box = tuple(round(side / scale) for side in (x, y, x + width, y + height))
            outline = tuple((round(px / scale), round(py / scale)) for px, py in contour[:, 0].tolist())
            found.append((width * height, Shape(_kind(contour), color_name(center), box, outline)))
    return Drawing(True, colors, tuple(_without_outlines(found)))


def _is_flat(pixels) -> bool:
    """Most neighboring pixels of a drawing are equal, even after JPEG (over 60 %); of photos it is 1-5 %."""
    import numpy as np

    if min(pixels.shape[:2]) < 2:
        return True
    values = pixels.astype(np.int16)
    steps = np.abs(np.diff(values, axis=1)).max(axis=2)[:-1] + np.abs(np.diff(values, axis=0)).max(axis=2)[:, :-1]
    return float((steps == 0).mean()) > 0.5


def _main_colors(pixels):
    """Index of the nearest main color for each pixel (-1: none), and the main colors, the most frequent first."""
    import numpy as np

    bins = (pixels >> 3).astype(np.int32)
    codes = (bins[..., 0] << 10) | (bins[..., 1] << 5) | bins[..., 2]
    counts = np.bincount(codes.ravel(), minlength=1 << 15)
    centers: list = []
    for code in counts.argsort()[::-1]:
        if counts[code] < max(20, 0.0005 * codes.size) and centers or len(centers) == _MAX_COLORS:
            break
        center = pixels[codes == code].mean(axis=0)
        if all(np.linalg.norm(center - other) > _SAME_COLOR for other in centers):
            centers.append(center)
    nearest = np.full(1 << 15, -1, dtype=np.int32)
    used = np.flatnonzero(counts)
    values = np.stack([(used >> 10) & 31, (used >> 5) & 31, used & 31], axis=1) * 8 + 4
    distances = np.linalg.norm(values[:, None, :] - np.array(centers)[None], axis=2)
    nearest[used] = np.where(distances.min(axis=1) < _SAME_COLOR * 1.2, distances.argmin(axis=1), -1)
    return nearest[codes], centers


def _is_fringe(labels, index: int, box: Box) -> bool:
    """Whether a thin region lies between two others: a mixed color at an edge, or the border of a filled shape."""
    import cv2
    import numpy as np

    x1, y1 = max(0, box[0] - 4), max(0, box[1] - 4)
    around = labels[y1 : box[3] + 4, x1 : box[2] + 4]
    mask = (around == index).astype(np.uint8)
    square = np.ones((3, 3), np.uint8)
    # A region of 4 or more pixels in width survives being eaten from both sides.
    if cv2.erode(mask, square, iterations=2).any():
        return False
    ring = around[(cv2.dilate(mask, square, iterations=3) > 0) & (mask == 0)]
    counts = np.bincount(ring[ring >= 0]) if (ring >= 0).any() else np.zeros(1)
    return counts.max() < 0.85 * max(1, counts.sum())


def _kind(contour) -> str:
    import cv2

    (_, _), (a, b), _ = cv2.minAreaRect(contour)
    long, short = max(a, b), max(1.0, min(a, b))
    if long / short > 8:
        return "line"
    hull = cv2.convexHull(contour)
    area, hull_area = cv2.contourArea(contour), cv2.contourArea(hull)
    perimeter = cv2.arcLength(hull, True)
    if area < 1 or perimeter < 1:
        return "line"
    solidity = area / hull_area
    corners = len(cv2.approxPolyDP(hull, 0.04 * perimeter, True))
    if solidity < 0.85:
        points = len(cv2.approxPolyDP(contour, 0.03 * perimeter, True))
        return "star" if 0.3 < solidity < 0.7 and points in (8, 10) else "shape"
    fill = hull_area / (long * short)
    # A disc fills 79 % of its rectangle, a triangle 50 %, a square all of it.
    if corners == 3 and fill < 0.62:
        return "triangle"
    if fill > 0.9:
        x, y, width, height = cv2.boundingRect(contour)
        even = long / short < 1.12
        upright = area > 0.8 * width * height
        return ("square" if upright else "diamond") if even else "rectangle"
    finer = len(cv2.approxPolyDP(hull, 0.025 * perimeter, True))
    roundness = 12.566 * hull_area / perimeter**2
    if roundness > 0.89 and 0.74 < fill < 0.85 and finer > 6:
        return "circle" if long / short < 1.12 else "ellipse"
    if 0.74 < fill < 0.83 and finer > 6 and long / short >= 1.12:
        return "ellipse"
    return {4: "diamond" if fill < 0.7 else "shape", 5: "pentagon", 6: "hexagon"}.get(finer, "shape")


def _without_outlines(found: list[tuple[float, Shape]]) -> list[Shape]:
    """Drop a border that was drawn around a filled shape; the fill is what people name."""
    kept = []
    for area, shape in found:
        nested = (other for size, other in found if 0.6 * area < size < area and _inside(other.box, shape.box))
        if not any(other.kind == shape.kind for other in nested):
            kept.append(shape)
    return sorted(kept, key=lambda s: (s.box[1], s.box[0]))


def _inside(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
