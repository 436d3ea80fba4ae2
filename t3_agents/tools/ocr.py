"""The tool `ocr`: text in pictures, with PP-OCR models from the `rapidocr` wheel or with a model of the Hub."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image, ImageOps

from ..errors import needs_extra
from .base import WorkspaceTool
from .hub_models.shared_models import AskingTool, onnx_threads
from .local.text import shorten


Box = tuple[int, int, int, int]

# Detection takes about 1 s per megapixel on two cores; smaller pictures than MIN_SIDE (pixels) are enlarged first.
MAX_SIDE, MIN_SIDE = 1600, 320
_KEPT_PICTURES = 64
_SURE_OF_ONE_SIGN = 0.75
# Mean certainty of text that stands upright; on its head it is about 0.8.
_READ_RIGHT = 0.9
_MAX_PAGES = 5

_COPY_TEXT = (
    "Copy all the text in this picture, row by row from top to bottom, exactly as it is written. Write nothing else."
)

_lock = threading.Lock()
_recent: OrderedDict[str, tuple[Word, ...]] = OrderedDict()


@dataclass(frozen=True)
class Word:
    """A piece of text in a picture, as the detector cut it: often a cell or a short line.

    Args:
        text (`str`): what was read.
        box (`tuple`): x1, y1, x2, y2 in pixels.
        level (`tuple`, *optional*, defaults to `box`): x1, y1, x2, y2 after a turn that makes the text of the picture
            upright and level, for what stands in one row.
    """

    text: str
    box: Box
    level: Box = ()

    def __post_init__(self):
        object.__setattr__(self, "level", self.level or self.box)

    @property
    def height(self) -> int:
        return self.level[3] - self.level[1]

    @property
    def middle(self) -> float:
        return (self.level[1] + self.level[3]) / 2


@functools.cache
def _engine():
    """Made once; who calls it holds `_lock`."""
    with needs_extra("rapidocr", "tools", "Reading text in pictures"):
        from rapidocr import RapidOCR
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            # The angle classifier is for lines that stand on their head; it costs a model call per line.
            "Global.use_cls": False,
            "Global.max_side_len": MAX_SIDE,
            "Det.limit_type": "min",
            "Det.limit_side_len": MIN_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": onnx_threads(),
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def warm_up() -> None:
    """Load what reads text, so that the first picture need not wait for it.

    Raises:
        MissingExtraError: when `rapidocr` is not installed.
    """
    with _lock:
        _engine()


def find_words(image: Image.Image) -> tuple[Word, ...]:
    """All readable text of an RGB picture. The last pictures are remembered, so a second question costs nothing.

    Raises:
        MissingExtraError: when `rapidocr` is not installed.
    """
    import numpy as np

    width = image.width
    if max(image.size) > MAX_SIDE:
        image = ImageOps.contain(image, (MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    key = hashlib.sha256(f"{width} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()
    with _lock:
        if key not in _recent:
            _recent[key] = _read(pixels, width / image.width)
            if len(_recent) > _KEPT_PICTURES:
                _recent.popitem(last=False)
        _recent.move_to_end(key)
        return _recent[key]


def _read(pixels, scale: float) -> tuple[Word, ...]:
    # A picture of a few pixels holds no text, and the detector cannot scale a line of pixels.
    if min(pixels.shape[:2]) < 8 or max(pixels.shape[:2]) > 50 * min(pixels.shape[:2]):
        return ()
    import numpy as np

    found, turn = _recognize(pixels), 0
    long = [piece for piece in found if len(piece[1]) > 1]
    tall = sum(len(text) for corners, text, _ in long if np.ptp(corners[:, 1]) > 1.5 * np.ptp(corners[:, 0]))
    sure = _sureness(long) > _READ_RIGHT * sum(len(text) for _, text, _ in long)
    if long and (not sure or tall > 0.5 * sum(len(text) for _, text, _ in long)):
        # The recognizer turns tall pieces to the left, so where it reads them well, the picture lies to the right.
        other = 2 if tall <= 0.5 * sum(len(text) for _, text, _ in long) else 1 if sure else 3
        turned = _recognize(np.rot90(pixels, other))
        if _sureness(turned) >= 0.98 * _sureness(found) if other % 2 else _sureness(turned) > _sureness(found):
            found, turn = turned, other
    angle = _slope([corners for corners, _, _ in found])
    level = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    words = []
    for corners, text, score in found:
        # The detector takes some drawn shapes for single signs.
        if any(sign.isalnum() for sign in text) and (len(text) > 1 or score > _SURE_OF_ONE_SIGN):
            boxes = (_turned_back(corners, turn, pixels.shape), corners @ level)
            words.append(
                Word(text, *(tuple(round(float(side) * scale) for side in (*b.min(0), *b.max(0))) for b in boxes))
            )
    return tuple(words)


def _recognize(pixels) -> list[tuple]:
    """Corners (clockwise from the top left), text and certainty of each piece of text."""
    import numpy as np

    result = _engine()(np.ascontiguousarray(pixels[:, :, ::-1]))
    if result.boxes is None or result.txts is None:
        return []
    texts = (text.strip() for text in result.txts)
    return list(zip(map(np.asarray, result.boxes), texts, map(float, result.scores), strict=True))


def _sureness(found: list[tuple]) -> float:
    return sum(len(text) * score for _, text, score in found)


def _slope(boxes: list) -> float:
    """How far the lines of a picture are turned, in radians: the median of long pieces, up to 20 degrees."""
    import numpy as np

    edges = np.array([box[1] - box[0] + box[2] - box[3] for box in boxes if np.ptp(box[:, 0]) > 2 * np.ptp(box[:, 1])])
    if not len(edges):
        edges = np.array([box[1] - box[0] + box[2] - box[3] for box in boxes]).reshape(-1, 2)
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    order = np.argsort(angles)
    weights = np.cumsum(np.square(edges).sum(1)[order])
    angle = float(angles[order][np.searchsorted(weights, weights[-1] / 2)]) if len(order) else 0.0
    return angle if 0.01 < abs(angle) < 0.35 else 0.0


def _turned_back(corners, turn: int, shape: tuple[int, ...]):
    """Corners in a picture of some shape from those in the picture that `numpy.rot90` made of it."""
    import numpy as np

    height, width = shape[:2]
    x, y = corners[:, 0], corners[:, 1]
    return np.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][turn], axis=1)


def join_rows(words: tuple[Word, ...]) -> list[str]:
    """Words as lines of text, top to bottom: what stands at one height becomes one row, cells from left to right."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda w: w.middle):
        # A word belongs to the row above it where the middles are closer than half the smaller height.
        if rows and abs(word.middle - rows[-1][-1].middle) < 0.5 * min(word.height, rows[-1][-1].height):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [" ".join(word.text for word in sorted(row, key=lambda w: w.level[0])) for row in rows]


def text_with_boxes(image: Image.Image) -> str:
    """The text of an RGB picture with its places, one piece a line: `(x1, y1, x2, y2) text`, in reading order."""
    words = sorted(find_words(image), key=lambda word: (word.level[1], word.level[0]))
    return "\n".join(f"({', '.join(map(str, word.box))}) {word.text}" for word in words)


class Ocr(WorkspaceTool):
    """Reads text with PP-OCR.

    Args:
        max_chars (`int`, *optional*, defaults to 4000): longest answer, in characters.
    """

    name = "ocr"
    description = (
        "Reads the text of a picture. Returns a string with one row of the picture a line, top to bottom, cells of a "
        "row from left to right; an empty string where there is no text."
    )
    inputs = {"image_path": {"type": "string", "description": "path of the picture"}}

    max_chars: int = 4000

    def forward(self, image_path: str) -> str:
        frames = self.count_frames(image_path)
        lines = join_rows(find_words(self.open_image(image_path)))
        if frames > 1:
            lines = [f"Page 1 of {frames}:", *lines]
        for frame in range(1, min(frames, _MAX_PAGES)):
            lines += [f"Page {frame + 1}:", *join_rows(find_words(self.open_image(image_path, frame)))]
        if frames > _MAX_PAGES:
            lines.append(f"[{frames - _MAX_PAGES} more pages or frames were not read]")
        return shorten("\n".join(lines), self.max_chars)


class HubOcr(AskingTool):
    """Reads text with a vision-language model that is asked to copy it.

    Args:
        max_new_tokens (`int`, *optional*, defaults to 1024): tokens that an answer may have; the other settings are
            those of [`~shared_models.AskingTool`].
    """

    name = Ocr.name
    description = Ocr.description
    inputs = Ocr.inputs

    max_new_tokens: int = 1024

    def forward(self, image_path: str) -> str:
        return self.with_count(self.ask(_COPY_TEXT, self.open_image(image_path)), image_path)
