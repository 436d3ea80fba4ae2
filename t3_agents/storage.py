"""What a run leaves on disk: content-addressed blobs, append-only JSONL shards, and the records in them.

Rows are flushed and synced one by one, blobs are written to a temporary name and renamed, so a process that is killed
at any moment loses at most the row in flight.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import IO, Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import InputError, RunFolderError


SETTINGS_FILE = "settings.json"
LOCK_FILE = ".lock"
PARTIAL = ".partial"
TAIL_BYTES = 1 << 20
LOCK_SECONDS = 2

Data = TypeVar("Data")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: a temporary file beside it is synced and renamed over it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = _locked(lambda: tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL))
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


def scratch_folder(parent: str | Path | None = None, prefix: str = "t3-scratch-") -> tempfile.TemporaryDirectory:
    """A temporary folder; those that killed processes left beside it are deleted.

    Args:
        parent (`str` or `Path`, *optional*): where to make it; by default in the folder of this process in `TMPDIR`.
        prefix (`str`, *optional*, defaults to `"t3-scratch-"`): start of its name, shared by nothing else there.
    """
    if parent is None:
        key = os.getpid(), tempfile.gettempdir()
        if key not in _scratch_roots:  # of two threads that are here at once, both take what the first one made
            _scratch_roots.setdefault(key, scratch_folder(tempfile.gettempdir()))
        return tempfile.TemporaryDirectory(dir=_scratch_roots[key].name)

    def make() -> tuple[int, tempfile.TemporaryDirectory]:
        while True:
            folder = tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True)
            with suppress(FileNotFoundError):  # another process deleted it before it was locked
                return os.open(folder.name, os.O_RDONLY | os.O_CLOEXEC), folder

    lock, folder = _locked(make)
    weakref.finalize(folder, os.close, lock)
    for other in Path(parent).glob(f"{prefix}*"):
        if str(other) != folder.name:
            _delete_if_left_behind(other)
    return folder


_scratch_roots: dict[tuple[int, str], tempfile.TemporaryDirectory] = {}
"""By process and place; a forked process has one of its own."""


def _locked(make: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
    """Make a temporary file or folder, and lock it as one whose writer lives."""
    while True:
        descriptor, made = make()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, made
        os.close(descriptor)  # another process took it for one of the dead before it was locked


def _delete_if_left_behind(path: Path) -> None:
    """Delete a file or folder of this user that no process has locked: its writer is dead.

    The lock is held until it is gone, so that nobody takes it for his own meanwhile.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_uid != os.geteuid():
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return
    finally:
        os.close(descriptor)


def sha256_of(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in parts."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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

    Settings bind as soon as there is work to lose: a run that failed before may be started again with other ones.

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
        was_run = (self.path / LOCK_FILE).exists()
        self._lock = (self.path / LOCK_FILE).open("w")
        if not _lock(self._lock):
            self._lock.close()
            raise RunFolderError(f"Another process is working in {self.path}: wait for it, or choose another folder.")
        for path in self.path.rglob(f".*{PARTIAL}"):  # of writes that were killed
            _delete_if_left_behind(path)
        settings = json.loads(json.dumps(settings))
        if not settings_file.exists() or self._compare(
            settings_file, settings, binding=not was_run or self._has_work()
        ):
            write_atomic(settings_file, json.dumps(settings, indent=2) + "\n")

    def _has_work(self) -> bool:
        """Whether a run left more than settings, hidden files and empty ones, as one that failed at once does."""
        for root, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [Path(root, name) for name in names if name != SETTINGS_FILE and not name.startswith(".")]
            if any(file.stat().st_size for file in files):
                return True
        return False

    def _compare(self, settings_file: Path, settings: dict[str, Any], binding: bool) -> bool:
        """Whether the settings differ, which is an error when they are binding."""
        try:
            found = json.loads(settings_file.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.close()
            raise RunFolderError(f"{settings_file} is not readable as settings: choose another output folder.")
        different = [key for key in sorted({*found, *settings}) if found.get(key) != settings.get(key)]
        if different and binding:
            self.close()
            key = different[0]
            raise RunFolderError(
                f"{self.path} holds a run with other settings ({key} is {found.get(key)!r} there, "
                f"{settings.get(key)!r} now): choose another output folder, or repeat the settings of that run."
            )
        return bool(different)

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()


_MISSING = object()


def require(record: Any, name: str, types: type | tuple[type, ...], owner: str, default: Any = _MISSING) -> Any:
    """Take a field of a JSON record.

    Raises:
        InputError: when the record is no object, or the field is missing (and has no default) or has another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"A {owner} must be a JSON object, not {type(record).__name__}.")
    value = record.get(name, default)
    if value is _MISSING:
        raise InputError(f"The {owner} has no field `{name}`.")
    types = types if isinstance(types, tuple) else (types,)
    if not _is_a(value, types):
        wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise InputError(f"Field `{name}` of the {owner} must be {wanted}, not {type(value).__name__}.")
    return value


def reject_unknown(record: Any, known: set[str], owner: str) -> None:
    """Refuse a record with fields that this version does not know."""
    if not isinstance(record, dict):
        raise InputError(f"A {owner} must be a JSON object, not {type(record).__name__}.")
    unknown = sorted(set(record) - known)
    if unknown:
        raise InputError(f"The {owner} has an unknown field `{unknown[0]}`; known are: {', '.join(sorted(known))}.")


def from_record(
    cls: type[Data], record: Any, owner: str, format: str | None = None, **readers: Callable[[Any], Any]
) -> Data:
    """A dataclass from a JSON object, whose fields must be of the annotated types.

    Args:
        cls (`type`): the dataclass. Fields with a default may be left out, but for those in `readers`.
        record (`dict`): read from JSON.
        owner (`str`): what it is called in messages.
        format (`str`, *optional*): what the record's field `format` must be, where it has one.
        readers: by field, what makes a nested value, or each entry of a list, from JSON.

    Raises:
        InputError: when it has another format, or naming the field that is missing, unknown or of a wrong type.
    """
    if format is not None:
        version = require(record, "format", str, owner)
        if version != format:
            raise InputError(f"The {owner} has format `{version}`; this version reads `{format}`.")
        record = {name: value for name, value in record.items() if name != "format"}
    reject_unknown(record, {f.name for f in fields(cls)}, owner)
    values = {}
    for f in fields(cls):
        has_default = f.default is not MISSING or f.default_factory is not MISSING
        if f.name not in record and has_default and f.name not in readers:
            continue
        types, sequence, entry = _json_types(cls, f.name)
        value = require(record, f.name, types, owner)
        if f.name in readers and value is not None:
            read = readers[f.name]
            value = [read(each) for each in value] if sequence else read(value)
        elif entry and not all(_is_a(each, (entry,)) for each in value or ()):
            raise InputError(f"Field `{f.name}` of the {owner} must be a list of {entry.__name__}.")
        values[f.name] = value if sequence is None or value is None else sequence(value)
    return cls(**values)


def _is_a(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


@functools.cache
def _json_types(cls: type, name: str) -> tuple[tuple[type, ...], type | None, type | None]:
    """What JSON may have in a field, and for lists the type that they become and that of their entries, if simple."""
    hint = get_type_hints(cls)[name]
    types, sequence, entry = [], None, None
    for part in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin = get_origin(part) or part
        if origin in (list, tuple):
            sequence, entry = origin, get_args(part)[0]
        types += {list: [list], tuple: [list], float: [int, float]}.get(
            origin, [dict if is_dataclass(origin) else origin]
        )
    return tuple(types), sequence, entry if entry in (str, int, bool) else None
