"""Whether a file that somebody's code made is what its name says."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

from t3_agents.errors import InputError
from t3_agents.media import PICTURES, check_form, suffix_of
from t3_agents.task import File
from t3_agents.tools.local.text import shorten
from t3_agents.tools.readers.process import read_file
from t3_agents.tools.readers.records import Job, Line


PLACES = threading.BoundedSemaphore(2 * len(os.sched_getaffinity(0)))
"""Held while a program or a parser runs; never two by one thread. Hundreds of candidates may be under way, nearly all
of them waiting for a reply: programs and parsers take turns, so that memory stays bounded and a limit of seconds means
the same with one candidate and with hundreds."""
MAX_BYTES = 16 * 2**20
"""Size of a made file."""
MAX_PIXELS = 2**24
EXCERPT_CHARS = 3000
"""Characters of a file that a verifier is shown."""

_KEPT = 256


def check_made_file(data: bytes, name: str) -> str:
    """Open a file with the parsers that a tool would use.

    Args:
        data (`bytes`): its content.
        name (`str`): its name; the extension says what it must be.

    Returns:
        `str`: what can be read in it, at most `EXCERPT_CHARS` characters; empty for pictures.

    Raises:
        InputError: when it is not what it should be; the message says what is wrong.
    """
    if not data:
        raise InputError(f"{name} is empty.")
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} has {len(data) / 2**20:.0f} MB, more than the {MAX_BYTES // 2**20} MB allowed.")
    check_form(data, name, MAX_PIXELS)
    if suffix_of(name) in PICTURES:
        return ""
    lines = _lines_of(data, name)
    text = "\n".join(lines)
    # A reader gives the header of a table with its first row, so one line is a table without rows.
    if suffix_of(name) == "xlsx" and len(lines) < 2:
        raise InputError(f"{name} is a table without rows.")
    if not text.strip():
        raise InputError(f"{name} opens, but there is nothing to read in it.")
    return shorten(text, EXCERPT_CHARS)


class _Excerpts:
    """What was read of the last files: both verifiers show the same files to the teacher."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: File) -> str:
        key = file.sha256, Path(file.path).name
        with self._lock:
            if key in self._texts:
                return self._texts[key]
        text = shorten("\n".join(_lines_of(file.read_bytes(), key[1])), EXCERPT_CHARS)
        with self._lock:
            self._texts[key] = text
            if len(self._texts) > _KEPT:
                self._texts.popitem(last=False)
        return text


_excerpts = _Excerpts()


def excerpt_of(file: File) -> str:
    """The start of what can be read in a file of a task; empty for pictures."""
    return "" if file.is_image else _excerpts.get(file)


def _lines_of(data: bytes, name: str) -> list[str]:
    with TemporaryDirectory(prefix="t3-made-") as folder:
        path, scratch = Path(folder, name), Path(folder, "scratch")
        path.write_bytes(data)
        scratch.mkdir()
        with PLACES:
            records = list(read_file(Job(str(path), name, str(scratch))))
    # Pictures and sounds inside a file count as content; a note is about what could not be read.
    return [
        record.text if isinstance(record, Line) else f"[{type(record).__name__.lower()}]"
        for record in records
        if not (isinstance(record, Line) and record.is_note)
    ]
