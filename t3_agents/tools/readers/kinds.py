"""Which reader fits a file: by its first bytes, then by its extension."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import InputError
from ...media import ENCRYPTED, PICTURES, ZIPPED, is_picture_type, kind_in_zip, kind_of, media_type_of, suffix_of
from .containers import read_archive, read_mail
from .documents import document_reader, read_docx, read_html, read_rtf, with_fallback
from .media import read_sound, read_video, save_picture
from .opendocument import read_opendocument
from .pdf import read_pdf
from .records import UNPACKED_BYTES, Job, Line, Reader, Record
from .slides import read_slides
from .tables import read_csv, read_workbook, read_xml_workbook
from .texts import decode, is_binary, read_json, read_notebook, read_text, read_xml


READS = "pdf, docx, xlsx, pptx, odt, epub, csv, json, xml, html, txt, source code, eml, zip, wav, mp3, flac and mp4"
"""What the tool reads, for messages."""

_DOCUMENTS = {"pdf", "docx", "pptx", "odt", "rtf", "epub", "doc", "xls", "ppt", "ods"}
_OFFICE = {"pdf", "docx", "xlsx", "pptx", "zip", "epub", "odt", "ods", "odp", "doc", "xls", "ppt"}
_SOUNDS = {"wav", "mp3", "flac", "ogg", "aiff", "aif", "au", "caf"}
# Sound that only the video reader decodes.
_FILMED_SOUNDS = {"m4a", "aac", "wma", "opus"}
_VIDEOS = {"mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg"}


def reader_for(job: Job) -> Reader:
    """The function that reads this file.

    Raises:
        InputError: when no reader fits, or the content is not what the extension says.
    """
    name, suffix = job.name, suffix_of(job.name)
    with open(job.path, "rb") as stream:
        start = stream.read(4096)
    if is_picture(name, start):
        raise InputError(f"{name} is a picture: use visualizer(image_path, question).")
    kind = kind_of(start, suffix)
    if kind == "pdf":
        return partial(read_pdf, read=read_inside)
    if kind == "rtf":
        return read_rtf
    if kind in ("sevenzip", "rar"):
        raise InputError(
            f"{name} is a {suffix or kind} archive, which this tool cannot unpack: attach its files, or a zip."
        )
    if kind == "zip" or (suffix in _OFFICE or is_binary(start)) and zipfile.is_zipfile(job.path):
        return _zip_reader(job, suffix)
    if kind == "ole":
        return _compound_reader(job, suffix)
    if kind in _SOUNDS and suffix not in _VIDEOS or suffix in _SOUNDS:
        return read_sound
    if kind in _VIDEOS or suffix in _VIDEOS | _FILMED_SOUNDS:
        return read_video
    text = decode(start)[0] if suffix in _OFFICE and not is_binary(start) else ""
    if suffix in _OFFICE and not _is_other_text(text):
        raise InputError(f"{name} is no {suffix} file inside: it is damaged or has the wrong extension.")
    if suffix in _OFFICE:
        return _other_text(suffix, text)
    if is_binary(start):
        raise InputError(f"{name} is a binary file of unknown kind; this tool reads {READS}.")
    if suffix in _DOCUMENTS:
        return document_reader(suffix)
    readers = {
        "csv": read_csv,
        "tsv": read_csv,
        "json": read_json,
        "ipynb": read_notebook,
        "xml": read_xml,
        "html": read_html,
        "htm": read_html,
        "eml": partial(read_mail, read=read_inside),
        "mht": partial(read_mail, read=read_inside),
        "mhtml": partial(read_mail, read=read_inside),
    }
    return readers.get(suffix, read_text)


def _is_other_text(start: str) -> bool:
    """Whether a file under the name of an office document is a page, or a table as text."""
    return re.search(r"<(?:!doctype|\?xml|html|table|body|head)\b|\n.*[\t;,]", start, re.IGNORECASE) is not None


def _other_text(suffix: str, start: str) -> Reader:
    """A reader for what programs export under the name of an office document, and a note on what it is."""
    if "urn:schemas-microsoft-com:office:spreadsheet" in start:
        what, read = "XML", read_xml_workbook
    elif re.search(r"<(?:!doctype html|html|table|body|head)\b", start, re.IGNORECASE):
        what, read = "HTML", read_html
    elif start.lstrip().startswith("<?xml"):
        what, read = "XML", read_xml
    else:
        what, read = "text", read_csv if suffix in ("xls", "xlsx", "ods") else read_text

    def reader(job: Job) -> Iterator[Record]:
        yield from read(job)
        yield Line(f"[{job.name} holds {what}, not {suffix}, and was read as such]", is_note=True)

    return reader


def read_inside(job: Job) -> Iterator[Record]:
    """A file that was inside another one: a picture is kept, everything else is read."""
    path = Path(job.path)
    with path.open("rb") as stream:
        start = stream.read(4096)
    if is_picture(job.name, start):
        yield save_picture(job, path, job.name)
    else:
        yield from reader_for(job)(job)


def is_picture(name: str, start: bytes) -> bool:
    """Whether a file is a picture, by its name or its first bytes."""
    return kind_of(start) in PICTURES or is_picture_type(media_type_of(name))


def _zip_reader(job: Job, suffix: str) -> Reader:
    try:
        with zipfile.ZipFile(job.path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            kind = kind_in_zip(archive)
            manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive.namelist() else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        raise InputError(f"{job.name} is damaged: it is no complete {suffix or 'zip'} file.") from None
    if b"encryption-data" in manifest:
        raise InputError(f"{job.name} is protected with a password: ask for a copy without one.")
    if kind == "zip":
        if suffix == "xlsb":
            return document_reader(suffix)
        if suffix in ZIPPED:
            raise InputError(f"{job.name} is no {suffix} file inside: it is damaged or has the wrong extension.")
        return partial(read_archive, read=read_inside)
    if unpacked > UNPACKED_BYTES:
        limit = UNPACKED_BYTES // 2**20
        raise InputError(f"{job.name} unpacks to {unpacked / 2**20:.0f} MB, more than the {limit} MB allowed.")
    if kind in ("odt", "ods", "odp", "opendocument"):
        return read_opendocument
    office = {"xlsx": read_workbook, "pptx": read_slides, "docx": read_docx}.get(kind)
    return with_fallback(kind, office) if office else document_reader(kind)


def _compound_reader(job: Job, suffix: str) -> Reader:
    """Files of older office programs, and newer ones with a password, which are kept in the same container."""
    with open(job.path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(ENCRYPTED) >= 0:
            raise InputError(f"{job.name} is protected with a password: ask for a copy without one.")
        # A Word 97 file says so in its first bytes ([MS-DOC], 2.5.2), PowerPoint by a part.
        word = next(
            (
                place
                for place in range(512, min(len(content), 2**20), 512)
                if content[place : place + 2] == b"\xec\xa5"
            ),
            -1,
        )
        if (word > 0 and content[word + 11] & 1) or content.find("EncryptedSummary".encode("utf-16-le")) >= 0:
            raise InputError(f"{job.name} is protected with a password: ask for a copy without one.")
        inside = {"WordDocument": "doc", "Workbook": "xls", "PowerPoint Document": "ppt", "__substg1.0_": "msg"}
        kinds = [kind for stream_name, kind in inside.items() if content.find(stream_name.encode("utf-16-le")) >= 0]
    if not kinds and suffix in _DOCUMENTS:
        raise InputError(f"{job.name} is no {suffix} file inside: it is damaged or has the wrong extension.")
    if not kinds:
        raise InputError(f"{job.name} is a file of a program that this tool does not know; it reads {READS}.")
    return document_reader(suffix if suffix in kinds else kinds[0])
