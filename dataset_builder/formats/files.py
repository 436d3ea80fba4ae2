"""Where the pictures and files of rows are: a folder or a zip archive to read from, a folder to copy to."""

from __future__ import annotations

import lzma
import mimetypes
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from t3_agents.errors import InputError
from t3_agents.media import zip_entries
from t3_agents.storage import sha256_of, write_atomic
from t3_agents.task import File, check_workspace_path


MAX_FILE_BYTES = 100 * 2**20
"""A file above this size is refused before it is read."""
MAX_UNPACKED = 200
"""An archive that unpacks to more than this many times its own size is refused: pictures and documents do not."""
MIN_REFUSED = 2**30
"""Archives that unpack to less (bytes) are not judged by `MAX_UNPACKED`."""

# Damaged, encrypted, or packed in a way that Python cannot unpack.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


class FileSource(ABC):
    """Files by the path that a row gives.

    The path in the row need not begin where the source does: of `data/coco/a.jpg` the places `data/coco/a.jpg`,
    `coco/a.jpg` and `a.jpg` are tried, in this order.
    """

    def find(self, path: str) -> bytes | None:
        """The bytes of a file, `None` when it is not there.

        Raises:
            InputError: when the path leaves the source, or the file is too large or cannot be read.
        """
        for place in _places(path):
            data = self._read(place)
            if data is not None:
                return data
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    @abstractmethod
    def _read(self, place: str) -> bytes | None:
        """The bytes at a path of the source itself."""

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def open_source(path: str | Path) -> FileSource:
    """The source for a folder or a zip archive.

    Raises:
        InputError: when it is neither, or the archive is one that nobody packs in good faith.
    """
    path = Path(path)
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return ZipSource(path)
    raise InputError(f"{path} is neither a folder nor a zip archive: name where the pictures of the rows are.")


class FolderSource(FileSource):
    """A folder. Links that lead out of it are refused."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def _read(self, place: str) -> bytes | None:
        try:
            found = (self.folder / place).resolve()
            if not found.is_file():
                return None
            size = found.stat().st_size
        except (OSError, RuntimeError, ValueError):  # no name for this file system; links in a circle
            return None
        if not found.is_relative_to(self.folder):
            raise InputError(f"{place} is a link out of the folder of the pictures: copy the file there.")
        _check_size(place, size)
        return found.read_bytes()

    def close(self) -> None:
        """Nothing stays open between two files."""


class ZipSource(FileSource):
    """A zip archive. Nothing is unpacked to disk.

    Args:
        path (`Path`): the archive.

    Raises:
        InputError: when an entry is a link, leaves the archive or is there twice, or the archive is a bomb.
    """

    def __init__(self, path: Path):
        self.name = path.name
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise InputError(f"{path.name} is not a zip archive that can be read ({error}).") from None
        try:
            self._entries = self._check(path.stat().st_size)
        except InputError:
            self._archive.close()
            raise

    def _check(self, size: int) -> dict[str, zipfile.ZipInfo]:
        entries = zip_entries(self._archive, self.name)
        unpacked = sum(entry.file_size for entry in entries.values())
        if unpacked > max(MIN_REFUSED, MAX_UNPACKED * size):
            raise InputError(
                f"{self.name} has {size / 2**20:.1f} MiB and unpacks to {unpacked / 2**30:.1f} GiB: unpack it "
                "yourself if you trust it, and name the folder."
            )
        return entries

    def _read(self, place: str) -> bytes | None:
        entry = self._entries.get(place)
        if entry is None:
            return None
        _check_size(place, entry.file_size)
        try:
            # Not more than the entry says is read, and a wrong checksum is an error.
            return self._archive.read(entry)
        except _UNREADABLE as error:
            raise InputError(f"{place} in {self.name} cannot be read ({error}).") from None

    def close(self) -> None:
        self._archive.close()


def _check_size(place: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise InputError(f"{place} has {size / 2**20:.0f} MiB; the limit is {MAX_FILE_BYTES // 2**20} MiB.")


def _places(path: str) -> Iterator[str]:
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    if ".." in parts or "\\" in path or any(ord(character) < 32 for character in path):
        raise InputError(f"{path[:120]!r} is not a path inside the folder of the pictures.")
    for first in range(len(parts)):
        yield "/".join(parts[first:])


class FileCopies:
    """Files beside the rows of an export: pictures in `images/`, others in `files/`, by their content.

    Args:
        folder (`Path`): folder of the export.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._digests: dict[str, str] = {}

    def add(self, file: File, place: str | None = None) -> str:
        """Copy a file and return its path in the export.

        Args:
            file ([`~t3_agents.task.File`]): the file, with its bytes.
            place (`str`, *optional*): where it has to be; by default a name made of its digest.

        Raises:
            InputError: when the place leads out of the export or holds another file, or the bytes are not at hand or
                damaged.
        """
        place = check_workspace_path(place or _place_of(file))
        if self._digests.setdefault(place, file.sha256) != file.sha256:
            raise InputError(f"Another row has another file at `{place}`.")
        target = self.folder / place
        if not target.exists():
            try:
                data = file.read_bytes()
            except FileNotFoundError:
                raise InputError(f"The bytes of `{file.path}` are not in the run's blobs.") from None
            if sha256_of(data) != file.sha256:
                raise InputError(f"The bytes of `{file.path}` are damaged.")
            write_atomic(target, data)
        return place


def _place_of(file: File) -> str:
    suffix = PurePosixPath(file.path).suffix.lower() or mimetypes.guess_extension(file.media_type) or ""
    return f"{'images' if file.is_image else 'files'}/{file.sha256[:32]}{suffix}"
