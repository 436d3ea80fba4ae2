"""What a run leaves on disk: content-addressed blobs and append-only JSONL shards.

Rows are flushed and synced one by one, blobs are written to a temporary name and renamed, so a process that is killed
at any moment loses at most the row in flight.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import InputError, RunFolderError


SETTINGS_FILE = "settings.json"
LOCK_FILE = ".lock"
TAIL_BYTES = 1 << 20
LOCK_SECONDS = 2


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: a temporary file beside it is synced and renamed over it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256_of(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


class BlobStore:
    """Files by the SHA-256 of their content, under `root/<first two digits>/<digest>`."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def path(self, sha256: str) -> Path:
        """Where the blob with this digest lies, whether or not it is there yet."""
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise InputError(f"`{sha256}` is not a SHA-256 digest.")
        return self.root / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Store `data` once and return its digest."""
        digest = sha256_of(data)
        target = self.path(digest)
        if not target.exists():
            write_atomic(target, data)
        return digest

    def get(self, sha256: str) -> bytes:
        """The bytes of a blob.

        Raises:
            InputError: when the blob is not in the store.
        """
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise InputError(f"Blob {sha256[:12]}… is missing from {self.root.name}/.") from None


def _lock(stream: IO) -> bool:
    """Lock a file for this process alone; `False` when another one holds it.

    What a killed process had just forked shares its lock until it becomes another program, so a lock that is held is
    tried again for `LOCK_SECONDS`.
    """
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)


class Shard:
    """One append-only JSONL file with a single writer.

    Opening it drops a last line that a killed process left torn; the rows before it are in `rows`.

    Args:
        path (`str` or `Path`): the JSONL file, made when missing.
        keep (`Callable`, *optional*): what to hold of a row in `rows`, where whole rows would fill the memory.

    Raises:
        RunFolderError: when another process holds the shard open.
        InputError: when a line other than the last is not JSON.
    """

    def __init__(self, path: str | Path, keep: Callable[[dict[str, Any]], Any] = lambda row: row):
        self.path = Path(path)
        self._keep = keep
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("a+b", buffering=0)
        if not _lock(self._stream):
            self._stream.close()
            raise RunFolderError(
                f"Another process is writing to {self.path.name}: wait for it, or choose another output folder."
            )
        self._drop_torn_line()
        try:
            self.rows: list[Any] = [keep(row) for row in read_rows(self.path)]
        except InputError:
            self.close()
            raise

    def _drop_torn_line(self) -> None:
        """Read backwards from the end, because a shard may be larger than the memory."""
        end = position = self._stream.seek(0, os.SEEK_END)
        while position:
            start = max(0, position - TAIL_BYTES)
            self._stream.seek(start)
            newline = self._stream.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            self._stream.truncate(position)

    def append(self, row: dict[str, Any]) -> None:
        """Write one row and wait until it is on disk. A row that does not fit leaves nothing behind."""
        # ASCII, because a lone surrogate in a model's text cannot be encoded.
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        end = self._stream.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(end)
            raise
        self.rows.append(self._keep(row))

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the complete rows of a shard; a torn last line is passed over.

    Raises:
        InputError: when a line other than the last is not a JSON object.
    """
    with Path(path).open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(
                    f"Line {number} of {Path(path).name} is not JSON: restore the file or delete it."
                ) from None
            if not isinstance(row, dict):
                raise InputError(f"Line {number} of {Path(path).name} is not a JSON object.")
            yield row


class RunFolder:
    """An output folder that belongs to one run: its settings are pinned and one process at a time works in it.

    Args:
        path (`str` or `Path`): the folder, made when missing.
        settings (`dict`): JSON-safe settings that decide the content of the run.

    Raises:
        RunFolderError: when the folder holds another run's settings or files, or is in use.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file: name a folder for the output.")
        settings_file = self.path / SETTINGS_FILE
        # A process that was killed at once leaves its lock and perhaps a temporary file of its settings.
        own = (LOCK_FILE, f".{SETTINGS_FILE}.")
        if (
            not settings_file.exists()
            and self.path.exists()
            and not all(p.name.startswith(own) for p in self.path.iterdir())
        ):
            raise RunFolderError(
                f"{self.path} is not empty and holds no run of this command: choose another output folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / LOCK_FILE).open("w")
        if not _lock(self._lock):
            self._lock.close()
            raise RunFolderError(f"Another process is working in {self.path}: wait for it, or choose another folder.")
        settings = json.loads(json.dumps(settings))
        if settings_file.exists():
            self._compare(settings_file, settings)
        else:
            write_atomic(settings_file, json.dumps(settings, indent=2) + "\n")

    def _compare(self, settings_file: Path, settings: dict[str, Any]) -> None:
        try:
            found = json.loads(settings_file.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.close()
            raise RunFolderError(f"{settings_file} is not readable as settings: choose another output folder.")
        different = [key for key in sorted({*found, *settings}) if found.get(key) != settings.get(key)]
        if different:
            self.close()
            key = different[0]
            raise RunFolderError(
                f"{self.path} holds a run with other settings ({key} is {found.get(key)!r} there, "
                f"{settings.get(key)!r} now): choose another output folder, or repeat the settings of that run."
            )

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()
