"""Kinds of files, by name and by content, and the one way from bytes to pixels."""

from __future__ import annotations

import base64
import csv
import io
import json
import mimetypes
import re
import stat
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from .errors import InputError


PICTURES = frozenset({"png", "jpg", "gif", "tiff", "webp", "bmp", "avif"})
"""Kinds of [`kind_of`] that are pictures."""

MAX_PIXELS = 10**8
"""Pixels of a picture that is decoded where nothing less is said; as RGB they take 300 MB."""

# What `mimetypes` of some machines calls an image and Pillow only announces, or gives to a program.
_NO_PIXELS = re.compile(
    "svg|postscript|eps|djvu|dwg|dxf|emf|wmf|hdf|grib|fits|xcf|photoshop|ms-modi|cgm|x-raw|step|stl"
)
# What cameras, scanners, browsers and plots write. Pillow knows more formats: some run programs (EPS, WMF), others are
# hardly ever met but by those who look for a fault in a decoder.
_FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "DIB", "AVIF", "ICO", "PPM", "TGA")
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
# Modes that Pillow converts only to these.
_ODD_MODES = {"La": "LA", "RGBa": "RGBA", "I;16B": "I", "I;16L": "I", "I;16N": "I"}
# A progressive JPEG has about ten scans. Each goes over all pixels again, however few bytes it has.
_MAX_SCANS = 100

_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MEDIA_TYPES = {".jsonl": "application/jsonl", ".md": "text/markdown", ".webp": "image/webp", ".flac": "audio/flac"}
# First bytes by kind. `ole` holds files of older office programs, and newer ones with a password.
_SIGNATURES = {
    "png": rb"\x89PNG\r\n\x1a\n",
    "jpg": rb"\xff\xd8\xff",
    "gif": rb"GIF8[79]a",
    "tiff": rb"II[*+]\0|MM\0[*+]",
    "webp": rb"RIFF....WEBP",
    "bmp": rb"BM....\0\0\0\0",
    "avif": rb"....ftyp(?:avi[fs]|hei[cx]|mif1)",
    "pdf": rb"%PDF-",
    "zip": rb"PK(?:\x03\x04|\x05\x06|\x07\x08)",
    "ole": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "rtf": rb"(?:\xef\xbb\xbf)?\s*\{\\rtf",
    "wav": rb"(?:RIFF|RIFX|RF64|BW64)....WAVE",
    "flac": rb"fLaC",
    "ogg": rb"OggS",
    "mp3": rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]",
    "mp4": rb"....(?:ftyp|moov|mdat|wide|skip|free)",
    "avi": rb"RIFF....AVI ",
    "mkv": rb"\x1a\x45\xdf\xa3",
    "sevenzip": rb"7z\xbc\xaf\x27\x1c",
    "rar": rb"Rar!\x1a\x07",
}
_SIGNATURE = re.compile(b"|".join(b"(?P<%s>%s)" % (k.encode(), v) for k, v in _SIGNATURES.items()), re.DOTALL)
_IN_ZIP = {"word/document.xml": "docx", "xl/workbook.xml": "xlsx", "ppt/presentation.xml": "pptx"}
_DECLARED = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
}
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""Bytes in an office document with a password ([MS-OFFCRYPTO], 2.3.4.4)."""

ZIPPED = frozenset({*_IN_ZIP.values(), *_DECLARED.values()})
"""Kinds of documents that are zip archives."""


class HugePicture(InputError):
    """A picture has more pixels than allowed."""


def suffix_of(name: str) -> str:
    """Extension of a file's name, in lower case and without its dot."""
    return PurePosixPath(name).suffix.lower().lstrip(".")


def media_type_of(name: str) -> str:
    """Media type by file name; `application/octet-stream` when the extension says nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def is_picture_type(media_type: str) -> bool:
    """Whether files of a media type are pictures, not drawings, pages or data that only their program opens."""
    return media_type.startswith("image/") and not _NO_PIXELS.search(media_type)


def kind_of(data: bytes, suffix: str = "") -> str | None:
    """Kind of a file by its first bytes, such as `pdf`; `None` for text and what is not known.

    Args:
        data (`bytes`): content; 1100 bytes are enough, but for a `zip` behind a program.
        suffix (`str`, *optional*): what its name says. Where such files may begin with something else, that is
            passed over: 1024 bytes before a PDF, a program before a ZIP archive (APPNOTE 4.1.9), tags before FLAC.
    """
    match = _SIGNATURE.match(data)
    kind = match.lastgroup if match else None
    if suffix == "pdf" and kind is None and b"%PDF-" in data[:1029]:
        return "pdf"
    if suffix == "flac" and data.startswith(b"ID3") and len(data) > 10:
        # Seven bits a byte, see https://id3.org/id3v2.4.0-structure.
        size = sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(data[6:10]))
        return "flac" if len(data) <= size + 10 or data[size + 10 :].lstrip(b"\0").startswith(b"fLaC") else kind
    if suffix in ZIPPED | {"zip"} and kind is None and zipfile.is_zipfile(io.BytesIO(data)):
        return "zip"
    return kind


def kind_in_zip(archive: zipfile.ZipFile) -> str:
    """What an archive is: a document such as `docx`, `opendocument` for one of another kind, else `zip`."""
    members = set(archive.namelist())
    for member, kind in _IN_ZIP.items():
        if member in members:
            return kind
    declared = archive.read("mimetype")[:100].decode("latin-1").strip() if "mimetype" in members else ""
    other = "opendocument" if declared.startswith("application/vnd.oasis.opendocument") else "zip"
    return _DECLARED.get(declared, other)


def zip_entries(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files in an archive by their paths.

    Args:
        archive (`ZipFile`): not from this machine.
        name (`str`): how it is called in messages.

    Raises:
        InputError: when an entry leads out of the archive, is a link or is there twice.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        # The name as it stands in the archive; `filename` is already cut at a NUL.
        path = entry.orig_filename
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\\" in path or ":" in path[:2] or "\0" in path:
            raise InputError(f"{name} has the entry {path[:80]!r}, which leads out of it: pack it again.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{name} has the link {path[:80]!r}: pack it again with the files themselves.")
        path = "/".join(parts)
        if path in entries:
            raise InputError(f"{name} has the entry {path[:80]!r} twice: pack it again.")
        if not entry.is_dir():
            entries[path] = entry
    return entries


def check_kind(data: bytes, name: str) -> None:
    """Refuse content that is not what the extension says: pictures are decoded, others judged by their first bytes.

    Raises:
        InputError: when it is something else, or an office document with a password.
    """
    suffix = suffix_of(name)
    kind = kind_of(data, suffix)
    if is_picture_type(media_type_of(name)):
        decode_image(data, name)
    elif kind == "ole" and ENCRYPTED in data:
        raise InputError(f"{name} is protected with a password: save a copy without one.")
    elif suffix in ZIPPED | {"pdf", "zip", "flac", "wav"}:
        if kind != ("zip" if suffix in ZIPPED else suffix):
            said = f" but {kind}" if kind else " but text" if b"\0" not in data[:4096] else ""
            raise InputError(
                f"{name} does not hold what its extension .{suffix} says{said}: give it the right extension."
            )
    elif kind in PICTURES:
        raise InputError(f"{name} holds a {kind.upper()} image: give it the extension of its content.")


def check_form(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a file that is not in every way what its extension says: text and archives are parsed.

    Raises:
        InputError: saying what is wrong.
    """
    suffix = suffix_of(name)
    wrong = InputError(f"{name} does not hold what its extension .{suffix} says.")
    try:
        if suffix in PICTURES:
            decode_image(data, name, max_pixels)
            if kind_of(data) != suffix:
                raise InputError(f"{name} holds a picture of another format than {suffix}.")
        elif suffix in ZIPPED or suffix == "zip":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if suffix not in ("zip", kind_in_zip(archive)):
                    raise wrong
        elif suffix in _SIGNATURES:
            if kind_of(data) != suffix or (suffix == "pdf" and b"%%EOF" not in data[-1024:]):
                raise wrong
        elif suffix == "json":
            json.loads(data)
        elif suffix == "xml":
            # Entities are refused: a few bytes of them may stand for gigabytes.
            if b"<!ENTITY" in data:
                raise InputError(f"{name} defines entities: write the text itself.")
            ElementTree.fromstring(data)
        elif suffix == "csv":
            widths = [len(row) for row in csv.reader(io.StringIO(data.decode())) if row]
            if len(set(widths)) > 1:
                raise InputError(
                    f"{name} has rows of {min(widths)} to {max(widths)} columns: quote values with commas."
                )
            if len(widths) < 2:
                raise InputError(f"{name} is a table without rows.")
        else:
            data.decode()
    except InputError:
        raise
    except (zipfile.BadZipFile, ElementTree.ParseError, ValueError, RecursionError, OSError, csv.Error) as error:
        raise InputError(f"{name} is no {suffix} file ({type(error).__name__}: {str(error)[:200]}).") from None


def open_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header of a picture: its size and format; pixels come from [`decode_image`].

    Args:
        data (`bytes`): content of a file.
        name (`str`): its name, for messages.
        max_pixels (`int`, *optional*, defaults to `MAX_PIXELS`): pixels above which it is refused, before decoding.

    Raises:
        InputError: when it is none of the formats that are read here, or would take too long to decode.
        HugePicture: when there are more pixels.
    """
    with _readable(name):
        Image.init()
        if kind_of(data) == "png":
            # Pillow refuses a picture for a text of more than 1 MB beside it.
            data = _png_without(data, _PNG_TEXTS)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.format in ("JPEG", "MPO", "TIFF"):
            # A TIFF has a JPEG for each of its strips or tiles (tags 273 and 324). In compressed data the marker of a
            # scan cannot occur by chance: a zero byte follows each 0xFF.
            parts = image.tag_v2.get(273) or image.tag_v2.get(324) or () if image.format == "TIFF" else ()
            if data.count(b"\xff\xda") > _MAX_SCANS + len(parts):
                raise InputError(f"{name} has more than {_MAX_SCANS} scans: save it again as PNG or JPEG.")
        if image.width * image.height > max_pixels:
            raise HugePicture(f"{name} has {image.width} x {image.height} pixels: make it smaller.")
        return image


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS, frame: int = 0) -> Image.Image:
    """Decode a picture, see [`open_picture`] for the arguments and [`to_rgb`] for the result.

    Args:
        frame (`int`, *optional*, defaults to 0): which page or frame, see [`count_frames`].

    Raises:
        InputError: when Pillow cannot decode it.
    """
    with _readable(name):
        image = open_picture(data, name, max_pixels)
        if frame:
            image.seek(frame)
            if image.width * image.height > max_pixels:
                raise HugePicture(f"{name} has {image.width} x {image.height} pixels: make it smaller.")
        return to_rgb(image)


def count_frames(data: bytes, name: str) -> int:
    """Pages of a scan, or frames of an animation. The second picture in a photo of a phone is no page."""
    with _readable(name):
        image = open_picture(data, name)
        return getattr(image, "n_frames", 1) if image.format in ("TIFF", "GIF", "PNG", "WEBP", "AVIF") else 1


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise HugePicture(f"{name} has too many pixels (DecompressionBombError): make it smaller.") from None
    except Exception as error:  # decoders raise what they like: AttributeError, struct.error, RuntimeError
        raise InputError(
            f"{name} is not a readable image ({type(error).__name__}): save it again as PNG or JPEG."
        ) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture as people see it: RGB, upright as the camera noted it, on white where it is transparent; of an
    animation the first frame."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _ODD_MODES:
        image = image.convert(_ODD_MODES[image.mode])
    if image.mode.startswith(("I", "F")):
        # Scans have 16 bits or fractions, which Pillow would cut off at 255.
        highest = image.getextrema()[1]
        factor = (
            255 / highest
            if highest > 65535
            else 1 / 257
            if highest > 255
            else 255
            if image.mode == "F" and highest <= 1
            else 1
        )
        image = image.convert("F").point(lambda value: value * factor + 0).convert("L")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return image.convert("RGB")


def encode_image(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file; `kind` and `options` are Pillow's. What a PNG cannot hold becomes RGB."""
    if kind == "PNG" and (image.mode not in _PNG_MODES or image.getexif().get(0x0112, 1) != 1):
        image = to_rgb(image)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def without_metadata(data: bytes) -> bytes:
    """A picture without what is written beside its pixels: EXIF, XMP, comments, texts. Other files stay as they are.

    PNG and JPEG keep their pixels to the bit, unless EXIF says how to turn them; other formats are written anew.
    """
    try:
        image = open_picture(data, "picture")
        exif = image.getexif()
        turned = exif.get(0x0112, 1) != 1
        if image.format == "PNG" and not turned:
            return _png_without(data, (*_PNG_TEXTS, b"eXIf", b"tIME"))
        if image.format in ("JPEG", "MPO") and not turned:
            return _jpeg_without_texts(data)
        if not (turned or exif or {"comment", "exif", "xmp", "photoshop"} & image.info.keys()):
            return data
        kind = {"MPO": "JPEG"}.get(image.format, image.format)
        image = to_rgb(image)
        image.info = {}
        return encode_image(image, kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}))
    except (InputError, IndexError, OSError, ValueError):
        return data


def _png_without(data: bytes, chunks: tuple[bytes, ...]) -> bytes:
    """Chunks as section 5.3 of the PNG specification has them: length, type, content, check sum."""
    kept, place = [data[:8]], 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] not in chunks:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _jpeg_without_texts(data: bytes) -> bytes:
    """Segments as ITU T.81, annex B, has them: marker, length, content. What lies behind the end goes too."""
    kept, place = [data[:2]], 2
    while (marker := data[place + 1]) != 0xDA:  # the first scan; pixels follow
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        # APP0 (JFIF), APP2 (colors) and APP14 (Adobe) say how to read the pixels; FE is a comment.
        if marker in (0xE0, 0xE2, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[place:end])
        place = end
    last = data.find(b"\xff\xd9", place)
    return b"".join([*kept, data[place : last + 2] if last > 0 else data[place:]])


def data_url(data: bytes, media_type: str) -> str:
    """Content as a URL that holds it (RFC 2397)."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
