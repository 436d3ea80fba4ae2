"""Plain text in the encoding that it declares or that its bytes show, and JSON and XML as lines."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import needs_extra
from .records import Job, Line


_MAX_LINE = 20_000
# Larger JSON files (bytes) are shown as they are.
_MAX_JSON = 16 * 2**20
# Longer lines of XML (characters) are broken between elements.
_MAX_XML_LINE = 500
# Signs that text does not hold, apart from the zero byte and the escape, which begins a character set of ISO 2022.
_CONTROLS = bytes([*range(1, 8), *range(14, 27), *range(28, 32), 127])

# Zero bytes and page breaks.
_DROPPED = {0: None, 12: None}

# How XML, HTML, CSS, Python (PEP 263), gettext and mail declare their encoding near their start.
_DECLARATION = re.compile(
    rb"""<\?xml[^>]{1,200}?encoding\s*=\s*["']([\w.:-]+)|<meta[^>]{1,200}?charset\s*=\s*["']?([\w.:-]+)"""
    rb"""|\A@charset "([\w.:-]+)"|\A(?:\#[^\n]*\n)?[ \t]*\#[^\n]*?coding[:=][ \t]*([\w.-]+)"""
    rb"""|content-type:[^\n]{1,80}charset=["']?([\w.-]+)""",
    re.IGNORECASE,
)
# What programs mean by a name is more than its standard: see https://encoding.spec.whatwg.org.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874"}
_MEANT |= {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs"}
# Within a word, Latin letters beside those of another alphabet or beside a sign; Chinese and such stand beside them.
_MIXED = re.compile("[A-Za-z][\u0250-\u200f\u2070-\u2e7f]|[\u0250-\u200f\u2070-\u2e7f][A-Za-z]")
# Text in these that is also valid UTF-8, or ASCII, is not so rare that it may be taken for it.
_MULTIBYTE = re.compile("gb|big5|euc|cp9|shift|johab|iso2022|hz|utf-?7|utf-?16|utf-?32")


def is_binary(sample: bytes) -> bool:
    """Whether the first bytes of a file are no text in any encoding."""
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


def codec_of(name: str) -> str | None:
    """Python's codec for a declared character set, such as `cp1252` for `latin-1` and `cp850` for `cp-850`."""
    name = re.split(r"[;,\s]", name.strip("\"' "))[0].lower()
    number = re.fullmatch(r"(?:x-)?(?:windows|win|cp|ibm|dos|ms)[-_ ]?(\d{3,5})", name)
    for candidate in (f"cp{number[1]}" if number else name, name.removeprefix("x-"), name.removesuffix("-i")):
        try:
            "".encode(candidate)  # refuses codecs such as `base64`, which give no text
            found = codecs.lookup(candidate).name
        except (LookupError, ValueError):
            continue
        return _MEANT.get(found, found)
    return None


def decode(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """Text from bytes, and what has to be said about it.

    A byte order mark counts most, then whether the bytes are UTF-8, then what is declared, then what chardet finds.

    Args:
        data (`bytes`): the text.
        declared (`str`, *optional*): name of its character set, by default the one that stands in it.

    Returns:
        `tuple`: the text, and a note, which is empty where nothing is uncertain.
    """
    if declared is None and (match := _DECLARATION.search(data[:2048])):
        declared = next(filter(None, match.groups())).decode("ascii", "replace")
    codec = codec_of(declared) if declared else "iso2022_jp_2" if b"\x1b$" in data[:4096] else None
    wide = wide_encoding(data[:4096])
    for candidate in (wide, codec if codec and _MULTIBYTE.match(codec) else None, "utf-8-sig"):
        if candidate:
            try:
                text = data.decode(candidate)
            except ValueError:
                continue
            unknown = declared and not codec and candidate == "utf-8-sig" and not data.isascii()
            return text, f"{declared[:40]!r} is no known character set: read as UTF-8" if unknown else ""
    text = data.decode(wide or "utf-8-sig", "replace")
    bad = text.count("�")
    if wide or bad * 4 <= len(text) - len(text.encode("ascii", "ignore")) - bad:
        return text, _undecoded(bad, wide or "UTF-8")
    if codec and codec != "utf-8":
        text = data.decode(codec, "replace")
        bad = text.count("�")
        return text, _undecoded(bad, declared) if bad else ""
    name, confidence = _detected(data)
    why = f"it is not in {declared[:40]}" if declared else "its character set is not declared"
    return data.decode(name, "replace"), f"{why}: read as {name}, found with confidence {confidence:.2f} of 1"


def _undecoded(places: int, name: str) -> str:
    return f"bytes that are no {name[:40]} are shown as � ({places} in all)"


def _detected(data: bytes) -> tuple[str, float]:
    """The most likely encoding of bytes that are not UTF-8, and chardet's confidence, which is low for short texts."""
    with needs_extra("chardet", "tools", "Reading text that is not UTF-8"):
        from chardet import EncodingEra, detect_all
    first = re.search(rb"[\x80-\xff]", data).start()
    sample = data[data.rfind(b"\n", 0, first) + 1 :][: 2**18]
    western = sample.decode("cp1252", "replace")
    if not any((sign.isalpha() and sign not in "µªº") or sign == "�" for sign in western if sign > "\x7f"):
        return "Windows-1252", 1.0  # signs such as ° and € in a text without accents
    todays = detect_all(sample, encoding_era=EncodingEra.MODERN_WEB | EncodingEra.LEGACY_ISO)[:8]

    def weight(found: dict[str, Any]) -> float:
        text = sample.decode(found["encoding"], "replace")
        # Encodings of DOS and of the first Macs only where they fit better; the most common one sooner.
        factor = 1.3 if found["encoding"] == "Windows-1252" else 1 if found in todays else 0.8
        return found["confidence"] * factor * (0.1 if "�" in text else 0.2 if _MIXED.search(text) else 1)

    best = max(todays + detect_all(sample)[:8], key=weight)
    return best["encoding"], best["confidence"]


def text_of(job: Job) -> tuple[str, list[Line]]:
    """The text of a file, and notes on how it was decoded."""
    text, note = decode(Path(job.path).read_bytes())
    return text, [Line(f"[{job.name}: {note}]", is_note=True)] if note else []


def split_lines(text: str) -> Iterator[str]:
    """Lines without their ends; overlong lines are broken."""
    stream = io.StringIO(text, newline=None)
    while line := stream.readline(_MAX_LINE):
        # Bold and underlined letters of a terminal are struck twice.
        yield re.sub(".\b", "", line.rstrip("\n").translate(_DROPPED))


def read_text(job: Job) -> Iterator[Line]:
    """A text file as it is."""
    text, notes = text_of(job)
    yield from notes
    yield from (Line(line.rstrip()) for line in split_lines(text))


def read_xml(job: Job) -> Iterator[Line]:
    """XML as it is written: no entity is expanded and nothing is loaded. Long lines are broken between elements."""
    text, notes = text_of(job)
    yield from notes
    for line in split_lines(text):
        parts = re.split(r"(?<=>)\s*(?=<)", line) if len(line) > _MAX_XML_LINE else [line]
        for part in parts:
            yield Line(part.rstrip())


def read_json(job: Job) -> Iterator[Line]:
    """JSON, one line per value with its place: `people[0].name: Ada`. What cannot be parsed is shown as it is."""
    text, notes = text_of(job)
    yield from notes
    try:
        if Path(job.path).stat().st_size > _MAX_JSON:
            raise ValueError
        # Numbers as they are written: a double has 16 digits, and drops zeros at the end.
        lines = list(_json_lines("", json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_all_pairs)))
    except (ValueError, RecursionError, MemoryError):
        lines = split_lines(text)
    yield from map(Line, lines)


def read_notebook(job: Job) -> Iterator[Line]:
    """Cells of a Jupyter notebook (nbformat 4) with what they printed."""
    text, notes = text_of(job)
    yield from notes
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"], 1):
        yield Line(f"Cell {number} ({cell['cell_type']}):", is_header=True)
        yield from map(Line, _joined(cell["source"]).splitlines())
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", "")
            yield from (Line(f"> {line}") for line in _joined(text).splitlines())


def _all_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice: a dict would keep one value")
    return fields


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
