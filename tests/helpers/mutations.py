"""Damaged files: small ones of every kind, with bytes changed, cut out, doubled or swapped by a seed."""

from __future__ import annotations

import io
import random
import struct

from PIL import Image

from tests.helpers import DATA


PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "ICO", "PPM", "TGA", "MPO")
OTHER_FORMATS = ("DDS", "SPIDER", "IM", "PCX", "SGI", "JPEG2000", "XBM", "MSP", "BLP", "QOI")
"""Pillow writes them; they are not read."""


def pictures() -> dict[str, bytes]:
    """A small picture of each format that Pillow writes, by its name; some in several modes."""
    found = {}
    for form in (*PICTURE_FORMATS, *OTHER_FORMATS):
        for mode in ("RGB", "RGBA", "P", "L", "I;16", "CMYK", "1", "F"):
            image = Image.linear_gradient("L").resize((24, 20)).convert("RGB" if mode == "RGBA" else "L")
            image = image.convert(mode) if mode != "I;16" else Image.new("I;16", (24, 20), 40_000)
            buffer = io.BytesIO()
            try:
                image.save(buffer, form, **({"save_all": True} if form in ("GIF", "MPO", "TIFF") else {}))
            except (OSError, KeyError, ValueError):  # a mode that the format does not have
                continue
            found[f"{form}-{mode}"] = buffer.getvalue()
    progressive = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(progressive, "JPEG", progressive=True)
    return found | {"JPEG-progressive": progressive.getvalue()}


def documents() -> dict[str, bytes]:
    """The documents, tables, archives, sounds and clips that other programs made, by file name."""
    files = sorted((DATA / "made_by_others").glob("[!R]*.*"))
    return {path.name: path.read_bytes() for path in files}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight changes; numbers at the limits of their types are among them."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        # Headers decide more than what they describe.
        place = rng.randrange(min(len(changed), 256) if rng.random() < 0.5 else len(changed)) if changed else 0
        length = rng.choice((1, 2, 4, 8, 32))
        kind = rng.randrange(7)
        if kind == 0:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 1:
            changed[place : place + 1] = bytes([(changed[place] if changed else 0) ^ 1 << rng.randrange(8)])
        elif kind == 2:
            number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            changed[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), number)
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length] * rng.choice((1, 2, 50))
        elif kind == 5:
            del changed[place:]
        else:
            other = rng.randrange(len(changed)) if changed else 0
            changed[place : place + length], changed[other : other + length] = (
                changed[other : other + length],
                changed[place : place + length],
            )
    return bytes(changed)
