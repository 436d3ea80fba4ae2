"""What every tool of the project shares: a workspace to look up paths in, and settings that can be saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from smolagents import Tool
from smolagents.models import Model

from ..errors import InputError
from ..media import decode_image
from ..workspace import Workspace


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

    def find_file(self, path: str) -> Path:
        """Location of a path argument.

        Raises:
            InputError: when there is no such file in the workspace; the message lists what is there.
        """
        if self.workspace is not None:
            return self.workspace.resolve(path)
        if not Path(str(path)).is_file():
            raise InputError(f"There is no file `{path}`.")
        return Path(str(path))

    def open_image(self, path: str) -> Image.Image:
        """Decoded picture at a path argument, RGB."""
        return decode_image(self.find_file(path).read_bytes(), path)

    def save_image(self, image: Image.Image, stem: str) -> str:
        """Save a result picture and return the path that the model's code can use."""
        if self.workspace is not None:
            return self.workspace.save_image(image, stem)
        number = 1
        while Path(f"{stem}_{number}.png").exists():
            number += 1
        image.save(f"{stem}_{number}.png")
        return f"{stem}_{number}.png"
