"""Plain text in the encoding that its bytes show, and JSON and XML as lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .records import Job, Line


_MAX_LINE = 20_000
# Larger JSON files (bytes) are shown as they are.
_MAX_JSON = 16 * 2**20
# Longer lines of XML (characters) are broken between elements.
_MAX_XML_LINE = 500
# Signs that text does not hold, apart from the zero byte.
_CONTROLS = bytes([*range(1, 8), *range(14, 27), *range(28, 32), 127])

# Zero bytes and page breaks.
_DROPPED = {0: None, 12: None}


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are no text in any encoding that [`encoding_of`] knows."""
    if wide_encoding(sample):
        return False
    strange = len(sample) - len(sample.translate(None, _CONTROLS + b"\0"))
    return strange > 0.05 * len(sample)


def wide_encoding(sample: bytes) -> str | None:
    """The encoding of text in units of two or four bytes: by its mark, or by where its zero bytes are."""
    if sample.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = sample[::2], sample[1::2]
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        # Zero bytes at every second place only, as in Western text.
        if zeros.count(0) > 0.7 * len(zeros) and others.count(0) < 0.05 * len(others):
            controls = len(others) - len(others.translate(None, _CONTROLS))
            return name if controls < 0.05 * len(others) else None
    return None


def encoding_of(path: str | Path) -> str:
    """Name of the encoding of a text file: UTF-16 or UTF-32, else UTF-8 where it is valid, else Windows-1252."""
    with open(path, "rb") as stream:
        sample = stream.read(2**20)
    wide = wide_encoding(sample[:4096])
    if wide:
        return wide
    try:
        # A sign may be cut at the end of the sample, but not at the end of the file.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=len(sample) < 2**20)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def decoded(path: str | Path) -> Iterator[str]:
    """Lines of a text file without their ends; overlong lines are broken."""
    with open(path, encoding=encoding_of(path), errors="replace", newline=None) as stream:
        while line := stream.readline(_MAX_LINE):
            # Bold and underlined letters of a terminal are struck twice.
            yield re.sub(".\b", "", line.rstrip("\n").translate(_DROPPED))


def read_text(job: Job) -> Iterator[Line]:
    """A text file as it is."""
    for text in decoded(job.path):
        yield Line(text.rstrip())


def read_xml(job: Job) -> Iterator[Line]:
    """XML as it is written: no entity is expanded and nothing is loaded. Long lines are broken between elements."""
    for text in decoded(job.path):
        parts = re.split(r"(?<=>)\s*(?=<)", text) if len(text) > _MAX_XML_LINE else [text]
        for part in parts:
            yield Line(part.rstrip())


def read_json(job: Job) -> Iterator[Line]:
    """JSON, one line per value with its place: `people[0].name: Ada`. What cannot be parsed is shown as it is."""
    path = Path(job.path)
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError
        lines = list(_json_lines("", json.loads(path.read_text(encoding=encoding_of(path)))))
    except (ValueError, RecursionError, MemoryError):
        lines = decoded(path)
    yield from map(Line, lines)


def read_notebook(job: Job) -> Iterator[Line]:
    """Cells of a Jupyter notebook (nbformat 4) with what they printed."""
    notebook = json.loads(Path(job.path).read_text(encoding=encoding_of(job.path)))
    for number, cell in enumerate(notebook["cells"], 1):
        yield Line(f"Cell {number} ({cell['cell_type']}):", is_header=True)
        yield from map(Line, _joined(cell["source"]).splitlines())
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", "")
            yield from (Line(f"> {line}") for line in _joined(text).splitlines())


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


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
