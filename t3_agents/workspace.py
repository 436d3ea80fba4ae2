"""One scratch folder per run: attachments go in, artefacts come out, and code sees relative paths only."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from .errors import InputError
from .task import File, check_workspace_path, decode_image, media_type_of


OUTPUTS = "outputs"

# The working directory belongs to the whole process, so code steps of concurrent runs take turns.
_directory_lock = threading.RLock()
_active: Path | None = None


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
            self._temporary.cleanup()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def add(self, file: File) -> None:
        """Copy an attachment to its workspace path."""
        target = self.root / check_workspace_path(file.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
        self._mark(target)

    def resolve(self, path: str, must_exist: bool = True) -> Path:
        """The real location of a workspace path.

        Raises:
            InputError: when the path leaves the workspace, or nothing is there and `must_exist` is set. The message
                lists the files that are there, so that a model can correct itself.
        """
        target = self.root / check_workspace_path(str(path))
        if not target.resolve().is_relative_to(self.root):
            raise InputError(f"`{path}` leads out of the workspace.")
        if must_exist and not target.is_file():
            raise InputError(f"There is no file `{path}`. Files here: {', '.join(self.list()) or 'none'}.")
        return target

    def list(self) -> list[str]:
        """Workspace paths of all files, sorted."""
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())

    def new_path(self, stem: str, suffix: str) -> str:
        """A workspace path under `outputs/` that is not taken yet, for example `outputs/edit_1.png`."""
        number = 1
        while (self.root / f"{OUTPUTS}/{stem}_{number}{suffix}").exists():
            number += 1
        (self.root / OUTPUTS).mkdir(exist_ok=True)
        return f"{OUTPUTS}/{stem}_{number}{suffix}"

    def save_image(self, image: Image.Image, stem: str = "image") -> str:
        """Save a picture as PNG under `outputs/` and return its workspace path."""
        path = self.new_path(stem, ".png")
        image.save(self.root / path)
        return path

    def new_images(self) -> list[File]:
        """Pictures written or changed since the last call, oldest first, with a copy of their bytes.

        Files that cannot be decoded as a picture are passed over.
        """
        changed = []
        for path in self.list():
            target = self.root / path
            if not File(path, media_type_of(path), "").is_image or target.is_symlink():
                continue
            if self._seen.get(path) != self._stamp(target):
                changed.append(target)
        images = []
        for target in sorted(changed, key=lambda p: p.stat().st_mtime_ns):
            self._mark(target)
            path = target.relative_to(self.root).as_posix()
            data = target.read_bytes()
            try:
                decode_image(data, path)
            except InputError:
                continue
            images.append(File.from_bytes(data, path))
        return images

    def _stamp(self, target: Path) -> tuple[int, int]:
        status = target.stat()
        return status.st_mtime_ns, status.st_size

    def _mark(self, target: Path) -> None:
        self._seen[target.relative_to(self.root).as_posix()] = self._stamp(target)

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
        """Copy what the run wrote under `outputs/` to a folder and return the file names."""
        source = self.root / OUTPUTS
        if not source.is_dir():
            return []
        shutil.copytree(source, target, dirs_exist_ok=True)
        return sorted(p.name for p in source.iterdir())
