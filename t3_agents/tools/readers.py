"""Files as lines of text, one function for each kind of file. Each stops early and never trusts declared sizes."""

from __future__ import annotations

import codecs
import csv
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from email import message_from_binary_file, policy
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtraError
from ..task import File, media_type_of


SCAN_CHARS = 4_000_000
"""Reading stops after this many characters of text."""

READ_SECONDS = 30
"""Reading stops after this time."""

UNPACKED_BYTES = 400 * 2**20
"""Archives that unpack to more than this are refused."""

SPEECH_SECONDS = 180
"""Only the start of a longer recording is transcribed."""

_DOCUMENTS = {"pdf", "docx", "pptx", "html", "htm", "odt", "ods", "rtf", "epub", "doc", "xls", "ppt", "ipynb"}
_AUDIO = {"wav", "mp3", "flac", "ogg"}
_VIDEO = {"mp4", "mov", "avi", "mkv", "webm"}
_MAX_LINE = 20_000
# Larger JSON files (bytes) are shown as they are.
_MAX_JSON = 16 * 2**20


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Args:
        text (`str`): the line.
        header (`str`): the header of the table that it belongs to, if any.
        is_header (`bool`): the line itself is such a header; it means nothing without rows.
    """

    text: str
    header: str = ""
    is_header: bool = False


Reader = Callable[[Path], Iterator[Line]]


def reader_for(path: Path, name: str) -> Reader:
    """The function that reads this file: by its first bytes, then by its extension.

    Args:
        path (`Path`): where it lies.
        name (`str`): how it is called in messages.

    Raises:
        InputError: when no reader fits, or the content is not what the extension says.
    """
    suffix = Path(name).suffix.lower().lstrip(".")
    with path.open("rb") as stream:
        start = stream.read(4096)
    if File(name, media_type_of(name), "").is_image or _is_picture(start):
        raise InputError(f"{name} is a picture: use visualizer(image_path, question).")
    if suffix in _VIDEO:
        raise InputError(f"{name} is a video; this tool reads text, tables, documents and speech.")
    if suffix in _AUDIO:
        return read_speech
    if start.startswith(b"%PDF"):
        return _document("pdf")
    if start.startswith(b"PK"):
        return _zip_reader(path, name, suffix)
    if suffix in ("pdf", "docx", "xlsx", "pptx", "zip", "epub", "odt", "ods"):
        raise InputError(f"{name} is no {suffix} file inside: it is damaged or has the wrong extension.")
    if suffix in _DOCUMENTS:
        return _document(suffix)
    if b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(
            f"{name} is a binary file of unknown kind; this tool reads pdf, docx, xlsx, pptx, csv, json, html, txt, "
            "eml, zip, wav and mp3."
        )
    return {"csv": read_csv, "tsv": read_csv, "json": read_json, "eml": read_mail}.get(suffix, read_text)


def _is_picture(start: bytes) -> bool:
    signatures = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
    return start.startswith(signatures) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _zip_reader(path: Path, name: str, suffix: str) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"{name} is damaged: it is no complete {suffix or 'zip'} file.") from None
    names = {member.filename for member in members}
    kinds = {"xl/workbook.xml": "xlsx", "word/document.xml": "docx", "ppt/presentation.xml": "pptx"}
    kind = next((kind for inside, kind in kinds.items() if inside in names), suffix)
    if kind == suffix and kind in kinds.values() and not names & kinds.keys():
        raise InputError(f"{name} is no {suffix} file inside: it is damaged or has the wrong extension.")
    if kind not in ("xlsx", "docx", "pptx", "epub", "odt", "ods"):
        return list_archive
    unpacked = sum(member.file_size for member in members)
    if unpacked > UNPACKED_BYTES:
        limit = UNPACKED_BYTES // 2**20
        raise InputError(f"{name} unpacks to {unpacked / 2**20:.0f} MB, more than the {limit} MB allowed.")
    return read_workbook if kind == "xlsx" else _document(kind)


def _document(kind: str) -> Reader:
    """A reader that uses kreuzberg; tables come out as `cell,cell` rows."""

    def read(path: Path) -> Iterator[Line]:
        try:
            import kreuzberg
        except ImportError:
            raise MissingExtraError("kreuzberg", "tools", "Reading documents") from None
        # Markdown keeps tables, but takes plain lines of a pdf for headings and drops the notes of a pptx.
        form = "plain" if kind in ("pdf", "pptx") else "markdown"
        config = kreuzberg.ExtractionConfig(
            use_cache=False, disable_ocr=True, output_format=form, extraction_timeout_secs=READ_SECONDS
        )
        media_type = media_type_of(f"file.{kind}")
        content = kreuzberg.extract_file_sync(path, mime_type=media_type, config=config).content
        yield from _document_lines(content)

    return read


def _document_lines(content: str) -> Iterator[Line]:
    """Lines of kreuzberg's output, where a table row is `| a | b |` in Markdown and tab-separated in plain text."""
    header = ""
    for text in content.splitlines():
        if not text.strip() or set(text) == {"-"}:
            continue
        if text.startswith("|") and text.endswith("|") and len(text) > 1:
            cells = [cell.strip().replace("\0", "|") for cell in text[1:-1].replace("\\|", "\0").split("|")]
            if all(set(cell) <= set("-: ") and cell for cell in cells):
                continue
        elif "\t" in text:
            cells = text.split("\t")
        else:
            header = ""
            yield Line(text.strip())
            continue
        row = _row(cells)
        yield Line(row, header, is_header=not header)
        header = header or row


def _row(cells: Any) -> str:
    """A compact comma-separated row; empty cells at the end are dropped."""
    texts = [_cell(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return ",".join(f'"{text}"' if "," in text else text for text in texts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return " ".join(str(value).split())


def read_workbook(path: Path) -> Iterator[Line]:
    """All sheets of an Excel file. A formula that no program has computed yet is shown as formula."""
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError("openpyxl", "tools", "Reading Excel files") from None
    # A stream, because openpyxl refuses names with another extension.
    with path.open("rb") as first, path.open("rb") as second:
        values = openpyxl.load_workbook(first, read_only=True, data_only=True)
        formulas = openpyxl.load_workbook(second, read_only=True) if _has_formulas(path) else None
        for number, sheet in enumerate(values.worksheets):
            title, header = f"Sheet {sheet.title}:", ""
            for cells in _sheet_rows(sheet, formulas.worksheets[number] if formulas else None):
                row = _row(cells)
                if not row:
                    continue
                if not header:
                    yield Line(title, is_header=True)
                yield Line(row, f"{title}\n{header}" if header else "", is_header=not header)
                header = header or row


def _sheet_rows(sheet: Any, formulas: Any) -> Iterator[list[Any]]:
    # Declared dimensions may be wrong, or span millions of empty cells.
    sheet.reset_dimensions()
    if formulas is None:
        yield from sheet.iter_rows(values_only=True)
        return
    formulas.reset_dimensions()
    for cells, sources in zip(sheet.iter_rows(values_only=True), formulas.iter_rows(values_only=True), strict=True):
        yield [source if cell is None else cell for cell, source in zip(cells, sources, strict=True)]


def _has_formulas(path: Path) -> bool:
    """Whether a second pass for formulas is worth its time."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with archive.open(name) as stream:
                    tail = b""
                    while chunk := stream.read(2**20):
                        if b"<f>" in tail + chunk or b"<f " in tail + chunk:
                            return True
                        tail = chunk[-3:]
    return False


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        sample = stream.read(2**20)
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        # A sign may be cut at the end of the sample, but not at the end of the file.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) < 2**20)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _decoded(path: Path) -> Iterator[str]:
    """Lines of a text file, in the encoding that fits its bytes; overlong lines are broken."""
    with path.open(encoding=_encoding(path), errors="replace", newline=None) as stream:
        while line := stream.readline(_MAX_LINE):
            yield line.rstrip("\n")


def read_text(path: Path) -> Iterator[Line]:
    """A text file as it is."""
    for text in _decoded(path):
        yield Line(text.rstrip())


def read_csv(path: Path) -> Iterator[Line]:
    """A delimited table; the delimiter is found in its first lines."""
    sample = "\n".join(islice(_decoded(path), 20))
    delimiter = max(",;\t|", key=sample.count)
    header = ""
    for cells in csv.reader(_decoded(path), delimiter=delimiter):
        row = _row(cells)
        if row:
            yield Line(row, header, is_header=not header)
            header = header or row


def read_json(path: Path) -> Iterator[Line]:
    """JSON, one line per value with its place: `people[0].name: Ada`."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError
        lines = list(_json_lines("", json.loads(path.read_text(encoding=_encoding(path)))))
    except (ValueError, RecursionError):
        lines = _decoded(path)
    yield from map(Line, lines)


def _json_lines(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        if not any(isinstance(item, dict | list) for item in value.values()):
            fields = ", ".join(f"{key}: {_json_value(item)}" for key, item in value.items())
            yield f"{place}: {fields}" if place else fields
            return
        for key, item in value.items():
            yield from _json_lines(f"{place}.{key}" if place else str(key), item)
    elif isinstance(value, list) and value:
        if not any(isinstance(item, dict | list) for item in value):
            yield f"{place or 'list'}: {', '.join(map(_json_value, value))}"
            return
        for number, item in enumerate(value):
            yield from _json_lines(f"{place}[{number}]", item)
    else:
        yield f"{place}: {_json_value(value)}" if place else _json_value(value)


def _json_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_mail(path: Path) -> Iterator[Line]:
    """Headers, body and the names of the attachments of an e-mail."""
    with path.open("rb") as stream:
        mail = message_from_binary_file(stream, policy=policy.default)
    for name in ("From", "To", "Cc", "Date", "Subject"):
        if mail[name]:
            yield Line(f"{name}: {mail[name]}")
    body = mail.get_body(("plain", "html"))
    if body is not None:
        content = body.get_content()
        if body.get_content_type() == "text/html":
            import kreuzberg

            content = kreuzberg.extract_bytes_sync(content.encode(), "text/html").content
        yield from map(Line, content.splitlines())
    for part in mail.iter_attachments():
        yield Line(f"Attachment: {part.get_filename() or 'without name'} ({part.get_content_type()})")


def list_archive(path: Path) -> Iterator[Line]:
    """Names and sizes of an archive's files; nothing is unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield Line(f"{member.filename} {member.file_size} bytes")


def read_speech(path: Path) -> Iterator[Line]:
    """English speech, transcribed with pocketsphinx."""
    try:
        import soundfile
        from pocketsphinx import Decoder
    except ImportError as error:
        raise MissingExtraError(error.name or "pocketsphinx", "tools", "Transcribing speech") from None
    import numpy as np

    with soundfile.SoundFile(str(path)) as sound:
        rate, seconds = sound.samplerate, sound.frames / sound.samplerate
        samples = sound.read(int(min(seconds, SPEECH_SECONDS) * rate), dtype="float32", always_2d=True).mean(axis=1)
    audio = _resample(samples, rate, 16000)
    peak = float(np.abs(audio).max(initial=0.0))
    # The decoder hears words in silence.
    if peak < 0.003:
        yield Line("No speech was recognised in it.")
        return
    decoder = Decoder(samprate=16000, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw((audio / peak * 30000).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    text = hypothesis.hypstr if hypothesis else ""
    yield Line(f"Transcript (may hold mistakes): {text}" if text else "No speech was recognised in it.")
    if seconds > SPEECH_SECONDS:
        yield Line(f"[only the first {SPEECH_SECONDS} of {seconds:.0f} seconds were transcribed]")


def _resample(samples: Any, rate: int, target: int) -> Any:
    """Change the sample rate in the frequency domain, which removes what the new rate cannot hold."""
    import numpy as np

    if rate == target or not len(samples):
        return samples
    length = max(1, round(len(samples) * target / rate))
    spectrum = np.fft.rfft(samples)
    bins = length // 2 + 1
    spectrum = spectrum[:bins] if len(spectrum) >= bins else np.pad(spectrum, (0, bins - len(spectrum)))
    return np.fft.irfft(spectrum, length) * (length / len(samples))
