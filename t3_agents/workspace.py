"""One scratch folder per run: attachments go in, artefacts come out, and code sees relative paths only.

What lies in the folder was written by code that nobody has checked. So everything here goes from folder to folder
without following symbolic links out, opens regular files only, reads bounded amounts, and passes over what it cannot
use. A sandboxed process is stopped while the agent or a tool looks at the folder, so nothing is swapped meanwhile.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from .errors import InputError, T3Error
from .media import decode_image, encode_image, is_picture_type, media_type_of
from .task import File, check_workspace_path


OUTPUTS = "outputs"
MAX_DEPTH = 32
"""Folders within folders."""

MAX_READ = 512 * 2**20
"""Bytes of a file that are read from a workspace."""

MAX_PIXELS = 2**25
"""Pixels of a picture that is shown to the controller without being asked for."""

_MAX_NEW_IMAGES = 32

# The working directory belongs to the whole process, so code steps of concurrent runs take turns.
_directory_lock = threading.RLock()
_active: Path | None = None


class WorkspaceFullError(T3Error):
    """The workspace holds more, or deeper, than it may; the message says what."""


class Workspace:
    """A run's folder: `root` is what the model's code sees.

    Args:
        folder (`str` or `Path`, *optional*): where to put it; a temporary folder by default.
    """

    def __init__(self, folder: str | Path | None = None):
        self._temporary = tempfile.TemporaryDirectory(prefix="t3-") if folder is None else None
        self.root = Path(folder if folder is not None else self._temporary.name).resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self._seen: dict[str, tuple[int, int]] = {}

    def close(self) -> None:
        """Delete the folder if it is a temporary one."""
        if self._temporary:
            self.keep_only({})
            self._temporary.cleanup()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Reading and writing

    def add(self, file: File) -> None:
        """Copy an attachment to its workspace path.

        Raises:
            InputError: when an earlier run left a link or a folder there that leads out of the workspace.
        """
        data = file.read_bytes()
        target = self._place(file.path)
        if target.is_symlink():
            target.unlink()
        self._write(target, data, os.O_TRUNC)
        self._mark(file.path)

    def resolve(self, path: str, must_exist: bool = True) -> Path:
        """The real location of a workspace path.

        Raises:
            InputError: when the path leaves the workspace, or no regular file is there and `must_exist` is set. The
                message lists the files that are there, so that a model can correct itself.
        """
        target = self.root / check_workspace_path(str(path))
        try:
            real = target.resolve()
            if not real.is_relative_to(self.root):
                raise InputError(f"`{path}` leads out of the workspace.")
            is_folder, missing = real.is_dir(), must_exist and not real.is_file()
        except (OSError, RuntimeError):  # a loop of links, a name that is too long, a folder without permission
            raise InputError(f"`{str(path)[:200]}` is not a path that can be opened.") from None
        if missing:
            what = f"There is no file `{path}`" + (", it is a folder" if is_folder else "")
            raise InputError(f"{what}. Files here: {', '.join(self.list()) or 'none'}.")
        return real

    def read_bytes(self, path: str) -> bytes:
        """Content of a regular file.

        Raises:
            InputError: when there is none, it leads out of the workspace, is too large, or cannot be opened.
        """
        target = self.resolve(path)
        try:
            # A pipe or a file with a lease must not keep the reader waiting.
            handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"`{path}` cannot be opened ({error.strerror}).") from None
        with open(handle, "rb") as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_READ:
                raise InputError(f"`{path}` is no regular file of at most {MAX_READ // 2**20} MiB.")
            return stream.read(MAX_READ)

    def open_image(self, path: str) -> Image.Image:
        """Decoded picture at a workspace path, RGB.

        Raises:
            InputError: when there is none.
        """
        return decode_image(self.read_bytes(path), path)

    def new_path(self, stem: str, suffix: str) -> str:
        """A workspace path under `outputs/` that is not taken yet, for example `outputs/edit_1.png`."""
        number = 1
        while os.path.lexists(self._place(f"{OUTPUTS}/{stem}_{number}{suffix}")):
            number += 1
        return f"{OUTPUTS}/{stem}_{number}{suffix}"

    def save_image(self, image: Image.Image, stem: str = "image") -> str:
        """Save a picture as PNG under `outputs/` and return its workspace path."""
        path = self.new_path(stem, ".png")
        self._write(self._place(path), encode_image(image), os.O_EXCL)
        return path

    def _place(self, path: str) -> Path:
        """Where a file is to be written; its folders are made.

        Raises:
            InputError: when one of the folders is a link or a file.
        """
        *folders, name = Path(check_workspace_path(path)).parts
        place = self.root
        for folder in folders:
            place /= folder
            try:
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise InputError(f"`{place.relative_to(self.root)}` is no folder ({error.strerror}).") from None
            if place.is_symlink():
                raise InputError(f"`{place.relative_to(self.root)}` is a link: remove it, or use another folder.")
        return place / name

    def _write(self, target: Path, data: bytes, flag: int) -> None:
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | flag, 0o666)
        except OSError as error:
            raise InputError(f"`{target.name}` cannot be written ({error.strerror}).") from None
        with open(handle, "wb") as stream:
            stream.write(data)

    # What is there

    def list(self) -> list[str]:
        """Workspace paths of all files, sorted. Links to folders and names that cannot be shown are left out."""
        return sorted(path for path, entry in self._walk() if not entry.is_dir(follow_symlinks=False))

    def _walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Entries with names that can be shown, down to `MAX_DEPTH`, files and links to files."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(self.root / folder))
            except OSError:
                continue
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not _can_be_shown(path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield path, entry
                    if path.count("/") < MAX_DEPTH:
                        folders.append(path)
                elif _is_file(entry):
                    yield path, entry

    def measure(self) -> dict[str, int]:
        """Size on disk of every file and folder, bytes by path.

        Raises:
            WorkspaceFullError: when folders are nested too deeply or cannot be looked into.
        """
        sizes: dict[str, int] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            if folder.count("/") > MAX_DEPTH:
                raise WorkspaceFullError(f"it nested folders deeper than {MAX_DEPTH}")
            try:
                for entry in os.scandir(self.root / folder):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    sizes[path] = entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
            except FileNotFoundError:  # deleted meanwhile
                continue
            except OSError as error:
                raise WorkspaceFullError(f"a folder cannot be looked into ({error.strerror})") from None
        return sizes

    def keep_only(self, paths: dict[str, int]) -> None:
        """Delete everything that is not listed and what has grown since. Nothing else may use the folder meanwhile.

        Args:
            paths (`dict[str, int]`): sizes as [`measure`] gave them earlier.
        """
        waste = Path(tempfile.mkdtemp(prefix=".t3-waste-", dir=self.root))
        folders, number = [("", self.root)], 0
        while folders:
            inside, folder = folders.pop()
            for entry in os.scandir(folder):
                path = f"{inside}/{entry.name}" if inside else entry.name
                if Path(entry.path) == waste:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    if path in paths:
                        folders.append((path, Path(entry.path)))
                    else:  # moved up, since paths of deep folders become too long to name
                        number += 1
                        os.rename(entry.path, waste / str(number))
                elif entry.stat(follow_symlinks=False).st_blocks * 512 > paths.get(path, -1):
                    os.unlink(entry.path)
        while any(waste.iterdir()):
            for folder in list(waste.iterdir()):
                for entry in os.scandir(folder):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)
                        number += 1
                        os.rename(entry.path, waste / str(number))
                    else:
                        os.unlink(entry.path)
                folder.rmdir()
        waste.rmdir()

    def new_images(self) -> list[File]:
        """Pictures written or changed since the last call, oldest first, with a copy of their bytes.

        Files that cannot be decoded as a picture, that are links, or that have more than `MAX_PIXELS` are passed over.
        """
        changed = []
        for path, entry in self._walk():
            if entry.is_symlink() or not is_picture_type(media_type_of(path)):
                continue
            status = entry.stat(follow_symlinks=False)
            if self._seen.get(path) != _stamp(status):
                self._seen[path] = _stamp(status)
                changed.append((status.st_mtime_ns, path))
        images = []
        for _, path in sorted(changed)[:_MAX_NEW_IMAGES]:
            try:
                data = self.read_bytes(path)
                decode_image(data, path, MAX_PIXELS)
            except InputError:
                continue
            images.append(File.from_bytes(data, path))
        return images

    def _mark(self, path: str) -> None:
        self._seen[path] = _stamp((self.root / path).lstat())

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make the workspace the working directory, so that code opens `files/table.csv` as it stands.

        A run inside a run (a managed agent) may activate the same workspace again from another thread.
        """
        global _active
        if _active == self.root:
            yield
            return
        with _directory_lock:
            previous, before = _active, os.getcwd()
            os.chdir(self.root)
            _active = self.root
            try:
                yield
            finally:
                _active = previous
                os.chdir(before)

    def copy_outputs(self, target: str | Path) -> list[str]:
        """Copy the files that the run wrote under `outputs/`, without links, and return their names."""
        copied = []
        for path, entry in self._walk():
            if path.startswith(f"{OUTPUTS}/") and not entry.is_dir(follow_symlinks=False) and not entry.is_symlink():
                name = path.removeprefix(f"{OUTPUTS}/")
                place = Path(target) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self.read_bytes(path))
                copied.append(name)
        return sorted(copied)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


def _can_be_shown(path: str) -> bool:
    """Whether a path is one that `File` takes and that is text."""
    try:
        check_workspace_path(path).encode()
    except (InputError, UnicodeEncodeError):
        return False
    return True


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False
