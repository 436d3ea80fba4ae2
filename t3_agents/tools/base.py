"""What every tool of the project shares: a workspace to look up paths in, and settings that can be saved."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from PIL import Image
from smolagents import Tool
from smolagents.models import Model

from ..errors import InputError
from ..media import decode_image
from ..workspace import Workspace


class _Copy(type(Path())):
    """A path that can be referred to weakly."""


class WorkspaceTool(Tool):
    """A smolagents tool whose path arguments are workspace paths.

    Without a workspace (a tool called by itself) paths are taken as they are, relative to the working directory.
    Heavy parts (models, indexes) are loaded at the first call and shared by all instances in the process.

    Keyword arguments of `__init__` are the tool's settings: JSON-safe values, kept in `settings` and saved with the
    agent. An agent hands each of its tools its workspace, its controller, and `spawn`, which makes another agent:
    `spawn(tools, model, prompt, **limits)`.
    """

    version: ClassVar[str] = "1"

    def __init__(self, **settings: Any):
        super().__init__()
        self.settings = settings
        self.workspace: Workspace | None = None
        self.controller: Model | None = None
        self.spawn: Callable[..., Any] | None = None

    def read_file(self, path: str) -> bytes:
        """Content of the file at a path argument.

        Raises:
            InputError: when there is no such file in the workspace; the message lists what is there.
        """
        if self.workspace is not None:
            return self.workspace.read_bytes(path)
        if not Path(str(path)).is_file():
            raise InputError(f"There is no file `{path}`.")
        return Path(str(path)).read_bytes()

    def find_file(self, path: str, max_megabytes: float | None = None) -> Path:
        """A copy of the file at a path argument, for what reads from a path: what lies in the workspace may be swapped
        for something else at any moment. It keeps the name, and is deleted when nobody holds the path any more.

        Raises:
            InputError: see [`read_file`]; when the file has more than `max_megabytes` MiB.
        """
        if self.workspace is None and not Path(str(path)).is_file():
            raise InputError(f"There is no file `{path}`.")
        with open(path, "rb", opener=self.workspace.open if self.workspace else None) as source:
            size = os.fstat(source.fileno()).st_size
            if max_megabytes is not None and size > max_megabytes * 2**20:
                raise InputError(
                    f"{path} has {size / 2**20:.0f} MB; this tool reads up to {max_megabytes} MB: read it in parts "
                    "with code."
                )
            if self.workspace is None:
                return Path(path)
            folder = tempfile.mkdtemp(prefix="t3-copy-")
            copy = _Copy(folder, PurePosixPath(path).name)
            weakref.finalize(copy, shutil.rmtree, folder, ignore_errors=True)
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target)
        return copy

    def open_image(self, path: str) -> Image.Image:
        """Decoded picture at a path argument, RGB."""
        return decode_image(self.read_file(path), path)

    def save_image(self, image: Image.Image, stem: str) -> str:
        """Save a result picture and return the path that the model's code can use."""
        if self.workspace is not None:
            return self.workspace.save_image(image, stem)
        number = 1
        while Path(f"{stem}_{number}.png").exists():
            number += 1
        image.save(f"{stem}_{number}.png")
        return f"{stem}_{number}.png"
