"""Pictures of a report: shrunk, drawn anew without metadata, and within a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image

from ..errors import InputError
from ..media import data_url, encode_image
from ..task import File


MAX_BYTES = 16 * 2**20
"""Pictures (bytes) in one page: more would make it slow to open on a phone."""
SIDES = (800, 512, 320, 200)
"""Longest side (pixels): the first one at which all pictures fit the budget is taken."""
MAX_DRAWING_COLOURS = 1024
"""A picture with more colours than that is kept as a photograph."""


def shrunk(file: File, side: int) -> Image.Image | None:
    """A picture with at most `side` pixels along its longest side, RGB; `None` when it cannot be read."""
    try:
        image = file.open_image()
    except (InputError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


@dataclass(frozen=True)
class Picture:
    """A picture in a page: its data URL and its size in pixels."""

    url: str
    width: int
    height: int


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    """PNG for drawings, which have few colours, JPEG for photographs."""
    if image.getcolors(MAX_DRAWING_COLOURS) is not None:
        return "png", encode_image(image)
    return "jpeg", encode_image(image, "JPEG", quality=80)


def _encode_all(files: Mapping[str, File], side: int) -> dict[str, tuple[tuple[int, int], str, bytes]]:
    """Size, format and bytes of the pictures that can be read."""
    images = ((sha256, shrunk(file, side)) for sha256, file in files.items())
    return {sha256: (image.size, *_encoded(image)) for sha256, image in images if image is not None}


class Pictures:
    """The pictures of a page by the digest of their content.

    Args:
        files (`Iterable[File]`): every picture of the page, in order of appearance; equal ones are kept once.
        max_bytes (`int`, *optional*, defaults to 16 MiB): budget. Where even the smallest size does not fit, the last
            pictures are left out.
    """

    def __init__(self, files: Iterable[File], max_bytes: int = MAX_BYTES):
        wanted = {file.sha256: file for file in files}
        encoded = _encode_all(wanted, SIDES[0])
        self.side = SIDES[0]
        for side in SIDES[1:]:
            size = sum(len(data) for _, _, data in encoded.values())
            # Bytes go with the area: a size that cannot fit is passed over without encoding it.
            if size <= max_bytes or (side != SIDES[-1] and size * (side / self.side) ** 2 > 1.5 * max_bytes):
                continue
            self.side, encoded = side, _encode_all(wanted, side)
        self.left_out: set[str] = set()
        self._pictures: dict[str, Picture] = {}
        for sha256, ((width, height), kind, data) in encoded.items():
            max_bytes -= len(data)
            if max_bytes < 0:
                self.left_out.add(sha256)
                continue
            self._pictures[sha256] = Picture(data_url(data, f"image/{kind}"), width, height)

    def get(self, file: File) -> Picture | None:
        """The picture; `None` when it cannot be read or was left out."""
        return self._pictures.get(file.sha256)
