"""What a reader hands over of a file, piece by piece, and the limits that all readers keep."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints


SCAN_CHARS = 4_000_000
"""Reading stops after this many characters of text."""

READ_SECONDS = 8
"""Reading stops after this time, with what has been read until then."""

KILL_SECONDS = 9
"""A reader that is still busy after this time is killed."""

MEMORY_BYTES = 768 * 2**20
"""Memory that a reader may have."""

DISK_BYTES = 256 * 2**20
"""Size of the largest file that a reader may write to its scratch folder."""

UNPACKED_BYTES = 400 * 2**20
"""Archives that unpack to more than this are not unpacked."""


class Line(NamedTuple):
    """One line of a file.

    Args:
        text (`str`): the line.
        header (`str`): the header of the table that it belongs to, if any.
        is_header (`bool`): the line itself is such a header; it means nothing without rows.
        is_note (`bool`): the line says what was not read; it belongs to every answer about the file.
    """

    text: str
    header: str = ""
    is_header: bool = False
    is_note: bool = False


class Picture(NamedTuple):
    """A picture that was inside a file: a frame of a video, a member of an archive.

    Args:
        path (`str`): where its PNG lies in the scratch folder.
        caption (`str`): what it is.
    """

    path: str
    caption: str


class Scan(NamedTuple):
    """A page that is a picture: its text is read by the tool, in its own process.

    Args:
        path (`str`): where its PNG lies in the scratch folder.
        place (`str`): which page it is.
    """

    path: str
    place: str


class Sound(NamedTuple):
    """The sound of a file, decoded.

    Args:
        path (`str`): its samples in the scratch folder, 16-bit little-endian mono at 16 kHz.
        seconds (`float`): length of the whole recording, of which the samples may be the start only.
    """

    path: str
    seconds: float


Record = Line | Picture | Scan | Sound

_KINDS = {kind.__name__: kind for kind in (Line, Picture, Scan, Sound)}
_TYPES = {
    name: [(int, float) if hint is float else hint for hint in get_type_hints(kind).values()]
    for name, kind in _KINDS.items()
}


def to_json(record: Record) -> str:
    """A record as one line of JSON."""
    return json.dumps([type(record).__name__, *record])


def from_fields(kind: str, fields: list[Any]) -> Record:
    """The record of a line of [`to_json`]: its first value, and the others.

    Raises:
        ValueError: when it is none.
    """
    types = _TYPES.get(kind, [])
    if not types or len(types) != len(fields) or not all(map(isinstance, fields, types)):
        raise ValueError(f"{kind} is no record")
    return _KINDS[kind](*fields)


@dataclass(frozen=True)
class Job:
    """One file to read.

    Args:
        path (`str`): where it lies.
        name (`str`): how it is called in messages; its extension counts.
        scratch (`str`): folder for pictures, sound and unpacked files, emptied by the caller.
        sound_seconds (`int`): longest sound that is decoded.
        depth (`int`): how many files it is inside of: an archive in an archive is only listed.
    """

    path: str
    name: str
    scratch: str
    sound_seconds: int = 180
    depth: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def new_file(self, suffix: str) -> Path:
        """An empty file in the scratch folder, with a name that no other had or will have."""
        handle, path = tempfile.mkstemp(suffix, dir=self.scratch)
        os.close(handle)
        return Path(path)


Reader = Callable[[Job], Iterator[Record]]


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in words, from what a parser raised."""
    text = str(error).lower()
    if "password" in text or "encrypt" in text:
        return "it is protected with a password"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "timed out" in text or "timeout" in text:
        return "it takes too long"
    if isinstance(error, MemoryError) or any(word in text for word in ("bomb", "too large", "limit", "exceed")):
        return "it unpacks to too much data"
    if "unsupported" in text:
        return "this file format is not supported"
    return "it is damaged or is not what its extension says"
