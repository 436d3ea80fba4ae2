"""One scratch folder per run: attachments go in, artifacts come out, and code sees relative paths only.

What lies in the folder was written by code that nobody has checked, and that may swap a folder for a link at any
moment. So nothing here hands out a path to be opened later: a file is opened from the descriptor of its folder, which
was reached folder by folder and through no link, is regular, and is read in bounded amounts. What cannot be used is
passed over.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import secrets
import stat
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath

from PIL import Image

from .errors import InputError, T3Error
from .media import decode_image, encode_image, is_picture_type, media_type_of
from .storage import scratch_folder
from .task import File, check_workspace_path


OUTPUTS = "outputs"
MAX_DEPTH = 32
"""Folders within folders."""

MAX_READ = 512 * 2**20
"""Bytes of a file that are read from a workspace."""

MAX_PIXELS = 2**25
"""Pixels of a picture that is shown to the controller without being asked for."""

_MAX_NEW_IMAGES = 32
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Where the working directory belongs to the whole process, code steps of concurrent runs take turns.
_directory_lock = threading.RLock()
_active: Path | None = None
_CLONE_FS = 0x200


class _Thread(threading.local):
    is_own: bool | None = None  # whether it has a working directory of its own; None until that was tried
    outside: str | None = None  # where it works without a workspace


_thread = _Thread()


def _has_own_directory() -> bool:
    """Give this thread a working directory of its own (`unshare(2)`), if it is not the main one, and say whether it
    has one."""
    if _thread.is_own is None:
        can = sys.platform == "linux" and threading.current_thread() is not threading.main_thread()
        _thread.is_own = can and ctypes.CDLL(None).unshare(_CLONE_FS) == 0
    return _thread.is_own


class WorkspaceFullError(T3Error):
    """The workspace holds more, or deeper, than it may; the message says what."""


class Workspace:
    """A run's folder: `root` is what the model's code sees.

    Args:
        folder (`str` or `Path`, *optional*): where to put it; a temporary folder by default.
    """

    def __init__(self, folder: str | Path | None = None):
        self._temporary = scratch_folder() if folder is None else None
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
        """Copy an attachment to its workspace path, in place of what lies there.

        Raises:
            InputError: when a folder lies there, or one of its folders is a link or a file.
        """
        data = file.read_bytes()
        with self._folder_of(file.path, make=True) as (folder, name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        self._write(file.path, data)
        with self._folder_of(file.path) as (folder, name):
            self._seen[file.path] = _stamp(os.lstat(name, dir_fd=folder))
            # A name from macOS has its accents apart; models write them as one letter, and the other way round.
            for form in {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name}:
                with suppress(FileExistsError, OSError):
                    os.symlink(name, form, dir_fd=folder)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a regular file; works as `opener` of the built-in `open`.

        Args:
            path (`str`): workspace path.
            flags (`int`, *optional*, defaults to `os.O_RDONLY`): as of `os.open`; folders are made for a file that is
                written.

        Returns:
            `int`: the descriptor.

        Raises:
            InputError: when the path leaves the workspace or leads through a link, or there is no regular file. The
                message lists the files that are there, so that a model can correct itself.
        """
        if not flags & os.O_CREAT:
            path = self._through_links(path)
        # A pipe or a file with a lease must not keep the reader waiting.
        flags |= os.O_NONBLOCK | os.O_CLOEXEC
        with self._folder_of(path, make=bool(flags & os.O_CREAT)) as (folder, name):
            handle = os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        mode = os.fstat(handle).st_mode
        if stat.S_ISREG(mode):
            return handle
        os.close(handle)
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise InputError(f"There is no file `{path}`, it is {what}. {self._files_here()}")

    def read_bytes(self, path: str) -> bytes:
        """Content of a regular file.

        Raises:
            InputError: see [`open`]; when it is larger than `MAX_READ`.
        """
        with open(path, "rb", opener=self.open) as stream:
            if os.fstat(stream.fileno()).st_size > MAX_READ:
                raise InputError(f"`{path}` has more than {MAX_READ // 2**20} MiB.")
            return stream.read(MAX_READ)

    def open_image(self, path: str) -> Image.Image:
        """Decoded picture at a workspace path, RGB.

        Raises:
            InputError: when there is none.
        """
        return decode_image(self.read_bytes(path), path)

    def save_image(self, image: Image.Image, stem: str = "image") -> str:
        """Save a picture as PNG under `outputs/` and return its workspace path."""
        data = encode_image(image)
        for number in itertools.count(1):
            path = f"{OUTPUTS}/{stem}_{number}.png"
            with suppress(FileExistsError):
                self._write(path, data)
                return path

    def _write(self, path: str, data: bytes) -> None:
        """Write a new file; raises `FileExistsError` when something lies there."""
        with open(path, "xb", opener=self.open) as stream:
            stream.write(data)

    @contextmanager
    def _folder(self, path: str = "", make: bool = False) -> Iterator[int]:
        """Descriptor of a folder, opened folder by folder."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in PurePosixPath(path).parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                inner = os.open(part, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    def _through_links(self, path: str) -> str:
        """Where a path leads at this moment, through links within the workspace; what opens it follows none."""
        rest, place = [*reversed(PurePosixPath(check_workspace_path(str(path))).parts)], []
        for _ in range(1000):
            if not rest:
                return "/".join(place)
            part = rest.pop()
            if part == "..":
                if not place:
                    break
                place.pop()
                continue
            try:
                with self._folder("/".join(place)) as folder:
                    target = PurePosixPath(os.readlink(part, dir_fd=folder))
            except OSError:  # no link, or nothing at all
                place.append(part)
                continue
            if target.is_absolute():
                break
            rest += reversed(target.parts)
        raise InputError(f"`{path}` leads out of the workspace: use a file in it.")

    @contextmanager
    def _folder_of(self, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """Descriptor of the folder of a workspace path, and the name in it; what fails is one sentence."""
        place = PurePosixPath(check_workspace_path(str(path)))
        try:
            with self._folder(str(place.parent), make) as folder:
                yield folder, place.name
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise InputError(f"There is no file `{path}`. {self._files_here()}") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise InputError(f"`{path}` is a link, or leads out of the workspace: use the file itself.") from None
            if error.errno == errno.EISDIR:
                raise InputError(f"`{path}` is a folder. {self._files_here()}") from None
            raise InputError(f"`{str(path)[:200]}` cannot be opened ({error.strerror}).") from None

    def _files_here(self) -> str:
        return f"Files here: {', '.join(self.list()) or 'none'}."

    # What is there

    def list(self) -> list[str]:
        """Workspace paths of all regular files, sorted. Names that cannot be shown are left out."""
        return sorted(path for path, status in self._walk() if stat.S_ISREG(status.st_mode))

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything with a name that can be shown, down to `MAX_DEPTH`."""
        folders = [""]
        while folders:
            inside = folders.pop()
            try:
                with self._folder(inside) as folder:
                    entries = _entries(folder)
            except OSError:
                continue
            for name, status in entries:
                path = f"{inside}/{name}" if inside else name
                if _can_be_shown(path):
                    yield path, status
                    if stat.S_ISDIR(status.st_mode) and path.count("/") < MAX_DEPTH:
                        folders.append(path)

    def measure(self) -> dict[str, int]:
        """Size on disk of every file and folder, bytes by path.

        Raises:
            WorkspaceFullError: when folders are nested too deeply or cannot be looked into.
        """
        sizes: dict[str, int] = {}
        folders = [""]
        while folders:
            inside = folders.pop()
            if inside.count("/") > MAX_DEPTH:
                raise WorkspaceFullError(f"it nested folders deeper than {MAX_DEPTH}")
            try:
                with self._folder(inside) as folder:
                    entries = _entries(folder)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # deleted or swapped meanwhile
                    continue
                raise WorkspaceFullError(f"a folder cannot be looked into ({error.strerror})") from None
            for name, status in entries:
                path = f"{inside}/{name}" if inside else name
                sizes[path] = status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
        return sizes

    def keep_only(self, paths: dict[str, int]) -> None:
        """Delete everything that is not listed and what has grown since.

        Args:
            paths (`dict[str, int]`): sizes as [`measure`] gave them earlier.
        """
        waste, numbers = f".t3-waste-{secrets.token_hex(8)}", itertools.count()
        with self._folder() as root:
            os.mkdir(waste, 0o700, dir_fd=root)
            with self._folder(waste) as bin:
                folders = [""]
                while folders:
                    inside = folders.pop()
                    with self._folder(inside) as folder:
                        for name, status in _entries(folder):
                            path = f"{inside}/{name}" if inside else name
                            if path == waste:
                                continue
                            if not stat.S_ISDIR(status.st_mode):
                                if status.st_blocks * 512 > paths.get(path, -1):
                                    os.unlink(name, dir_fd=folder)
                            elif path in paths:
                                _unlock(name, folder)
                                folders.append(path)
                            else:  # moved up, since a deep folder cannot be reached by its path
                                os.rename(name, str(next(numbers)), src_dir_fd=folder, dst_dir_fd=bin)
                while names := os.listdir(bin):
                    for name in names:
                        _unlock(name, bin)
                        folder = os.open(name, _FOLDER, dir_fd=bin)
                        try:
                            for inner, status in _entries(folder):
                                if stat.S_ISDIR(status.st_mode):
                                    _unlock(inner, folder)
                                    os.rename(inner, str(next(numbers)), src_dir_fd=folder, dst_dir_fd=bin)
                                else:
                                    os.unlink(inner, dir_fd=folder)
                        finally:
                            os.close(folder)
                        os.rmdir(name, dir_fd=bin)
            os.rmdir(waste, dir_fd=root)

    def new_images(self) -> list[File]:
        """Pictures written or changed since the last call, oldest first, with a copy of their bytes.

        Files that cannot be decoded as a picture, that are links, or that have more than `MAX_PIXELS` are passed over.
        """
        changed = []
        for path, status in self._walk():
            if not stat.S_ISREG(status.st_mode) or not is_picture_type(media_type_of(path)):
                continue
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

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make the workspace the working directory, so that code opens `files/table.csv` as it stands.

        On Linux that of this thread alone, unless it is the main thread or the system does not allow it; else that of
        the process, and concurrent runs take turns. A run inside a run (a managed agent) may activate the same
        workspace again from another thread.
        """
        global _active
        is_own = _has_own_directory()
        if not is_own and _active == self.root:
            yield
            return
        with nullcontext() if is_own else _directory_lock:
            previous, before, outside = _active, os.getcwd(), _thread.outside
            os.chdir(self.root)
            _thread.outside = outside or before
            if not is_own:
                _active = self.root
            try:
                yield
            finally:
                if not is_own:
                    _active = previous
                _thread.outside = outside
                os.chdir(before)

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Within [`activate`], work for a while where the process does: a tool of the user finds its own files, and
        an agent within the tool does not wait for the turn of this one."""
        global _active
        outside, inside = _thread.outside, os.getcwd()
        if not outside:  # another thread of the run activated it
            yield
            return
        is_own = _has_own_directory()
        os.chdir(outside)
        if not is_own:
            _active, active = None, _active
            _directory_lock.release()
        _thread.outside = None
        try:
            yield
        finally:
            if not is_own:
                _directory_lock.acquire()
                _active = active
            _thread.outside = outside
            os.chdir(inside)

    def copy_outputs(self, target: str | Path) -> list[str]:
        """Copy the files that the run wrote under `outputs/`, without links, and return their names."""
        copied = []
        for path in self.list():
            if path.startswith(f"{OUTPUTS}/"):
                name = path.removeprefix(f"{OUTPUTS}/")
                place = Path(target) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(self.read_bytes(path))
                copied.append(name)
        return copied


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_size


def _can_be_shown(path: str) -> bool:
    """Whether a path is one that `File` takes and that is text."""
    try:
        check_workspace_path(path).encode()
    except (InputError, UnicodeEncodeError):
        return False
    return True


def _entries(folder: int) -> list[tuple[str, os.stat_result]]:
    """Names in an open folder with their status, of links that of the link itself."""
    found = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # deleted meanwhile
            found.append((name, os.lstat(name, dir_fd=folder)))
    return found


def _unlock(name: str, folder: int) -> None:
    """Let the owner into a folder that code has locked; what was swapped for a link is left alone."""
    handle = os.open(name, _FOLDER | getattr(os, "O_PATH", 0), dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{handle}" if hasattr(os, "O_PATH") else handle, 0o700)
    finally:
        os.close(handle)
