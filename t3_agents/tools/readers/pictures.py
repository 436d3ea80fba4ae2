"""Pictures that are inside other files, kept for the tools that look at pictures."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ...media import decode_image
from .records import Job, Picture


_MAX_SIDE = 1280


def save_picture(job: Job, source: Path | Image.Image, caption: str) -> Picture:
    """Write a picture as PNG to the scratch folder; its longer side gets at most 1280 pixels.

    Raises:
        InputError: when it cannot be decoded.
    """
    image = decode_image(source.read_bytes(), caption) if isinstance(source, Path) else source.convert("RGB")
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    path = job.new_file(".png")
    image.save(path)
    return Picture(str(path), caption)
