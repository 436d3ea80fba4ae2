"""Rows of a JSON file, one by one: an array, JSON Lines, a single document, or a folder of documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from t3_agents.errors import InputError


CHUNK = 2**20
MAX_ROW_CHARACTERS = 64 * 2**20
"""A row above this size is refused; memory holds about two of them."""
# What the decoder needs behind a value to know that it has ended, and longest literal that may be cut by a chunk.
_MARGIN = 16


@dataclass(frozen=True)
class InputRow:
    """One row as it was read.

    Args:
        file (`str`): name of the file.
        number (`int`): place in the file, from 1.
        record (`Any`): the JSON value.
        problem (`str`, *optional*): why it cannot be used; `record` is then what was understood of it, or `None`.
    """

    file: str
    number: int
    record: Any
    problem: str | None = None


def read_json_rows(path: str | Path, chunk: int = CHUNK) -> Iterator[InputRow]:
    """Yield the rows of a file without holding more than one of them.

    A line of JSON Lines that is not JSON is a row with a `problem`. In an array nobody can tell where a broken row
    ends, so reading stops there.

    Args:
        path (`str` or `Path`): `.jsonl` or `.ndjson` with a row a line; another file with an array of rows, a single
            row, or a row a line; or a folder, whose `.json` files are then rows, in the order of their names.
        chunk (`int`, *optional*, defaults to `CHUNK`): characters that are read at a time.

    Raises:
        InputError: naming the file and the row, when it cannot be read on.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    if path.is_dir():
        documents = sorted(path.glob("*.json"))
        if not documents:
            raise InputError(f"{path} holds no .json file: name the file or the folder with the rows.")
        for document in documents:
            yield from read_json_rows(document, chunk)
        return
    try:
        with path.open(encoding="utf-8-sig") as stream:
            if path.suffix in (".jsonl", ".ndjson"):
                yield from _read_lines(path, stream)
                return
            start = _Buffer(path, stream, chunk)
            if start.peek() == "[":
                yield from _read_array(start)
                return
            value, first_problem = start.value(1)
            if not start.peek():
                yield InputRow(path.name, 1, value, first_problem)
                return
        with path.open(encoding="utf-8-sig") as stream:
            yield from _read_lines(path, stream)
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start} of a block).") from None


def _read_lines(path: Path, stream: TextIO) -> Iterator[InputRow]:
    number = 0
    while line := stream.readline(MAX_ROW_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_ROW_CHARACTERS:
            raise InputError(f"Row {number} of {path.name} has more than {MAX_ROW_CHARACTERS} characters.")
        if not line.strip():
            continue
        decoder = _Decoder()
        try:
            value = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            yield InputRow(path.name, number, None, f"The line is not JSON ({error}).")
        else:
            yield InputRow(path.name, number, value, decoder.problem)


def _read_array(buffer: _Buffer) -> Iterator[InputRow]:
    buffer.take("[")
    number = 0
    while buffer.peek() != "]":
        number += 1
        if number > 1:
            buffer.take(",", number)
        value, problem = buffer.value(number)
        yield InputRow(buffer.path.name, number, value, problem)
    buffer.take("]")
    if buffer.peek():
        raise InputError(f"{buffer.path.name} goes on after its array has ended (row {number}): cut off the rest.")


class _Decoder(json.JSONDecoder):
    """Notes numbers that JSON does not have, instead of taking them."""

    def __init__(self):
        super().__init__(parse_constant=self._note)
        self.problem: str | None = None

    def _note(self, name: str) -> None:
        self.problem = f"The row has {name}, which is not JSON."


class _Buffer:
    """Text of a file of which values are taken from the front."""

    def __init__(self, path: Path, stream: TextIO, chunk: int):
        self.path, self.stream, self.chunk = path, stream, chunk
        self.text, self.place, self.ended = "", 0, False

    def fill(self) -> None:
        """Read on: as much again as there is, so that a long row is not tried too often."""
        more = self.stream.read(max(self.chunk, len(self.text) - self.place))
        self.ended = not more
        self.text, self.place = self.text[self.place :] + more, 0

    def peek(self) -> str:
        """The next character that is no space; nothing at the end of the file."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self.fill()

    def take(self, mark: str, number: int = 1) -> None:
        if self.peek() != mark:
            found = self.peek() or "the end of the file"
            raise InputError(f"{self.path.name} has {found!r} before row {number} where `{mark}` belongs.")
        self.place += 1

    def value(self, number: int) -> tuple[Any, str | None]:
        """The next value, and what is wrong with it."""
        self.peek()
        while True:
            decoder = _Decoder()
            try:
                value, end = decoder.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _MARGIN
                if self.ended or not cut:
                    raise InputError(f"Row {number} of {self.path.name} is not JSON ({error.msg}).") from None
            except RecursionError:
                raise InputError(f"Row {number} of {self.path.name} is nested too deep.") from None
            else:
                if end < len(self.text) - _MARGIN or self.ended:
                    self.place = end
                    return value, decoder.problem
            if len(self.text) - self.place > MAX_ROW_CHARACTERS:
                raise InputError(
                    f"Row {number} of {self.path.name} has more than {MAX_ROW_CHARACTERS} characters."
                ) from None
            self.fill()
