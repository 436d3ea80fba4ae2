"""What every tool of the project shares: a workspace to look up paths in, and settings that can be saved."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, dataclass_transform

from PIL import Image
from smolagents import Tool
from smolagents.models import Model

from ..errors import InputError
from ..media import count_frames, decode_image, to_rgb
from ..storage import scratch_folder
from ..workspace import Workspace


class _Copy(type(Path())):
    """A path that can be referred to weakly."""


@dataclass_transform(eq_default=False)
class WorkspaceTool(Tool):
    """A smolagents tool whose path arguments are workspace paths.

    Without a workspace (a tool called by itself) paths are taken as they are, relative to the working directory.
    Heavy parts (models, indexes) are loaded at the first call and shared by all instances in the process.

    Annotated attributes of a subclass are its settings, as fields of a dataclass: JSON-safe values with defaults,
    keyword arguments of the tool, saved with the agent. An agent hands each of its tools its workspace, its
    controller, and `spawn`, which makes another agent: `spawn(tools, model, prompt, **limits)`.
    """

    output_type = "string"
    version: ClassVar[str] = "1"

    def __init_subclass__(cls, **kwargs: Any):
        dataclass(eq=False, repr=False)(cls)
        super().__init_subclass__(**kwargs)

    def __post_init__(self):
        super().__init__()
        self.workspace: Workspace | None = None
        self.controller: Model | None = None
        self.spawn: Callable[..., Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to_dict(self) -> dict[str, Any]:
        """As smolagents saves a tool: code that makes it again, where this package is installed."""
        name, module = type(self).__name__, type(self).__module__
        code = (
            f"from {module} import {name} as _{name}\n\n\nclass {name}(_{name}):\n    def __init__(self):\n"
            f"        super().__init__(**{self.settings!r})\n"
        )
        return {"name": self.name, "code": code, "requirements": ["smolagents", "t3-agents"]}

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
            folder = scratch_folder()
            copy = _Copy(folder.name, PurePosixPath(path).name)
            weakref.finalize(copy, folder.cleanup)
            with copy.open("wb") as target:
                shutil.copyfileobj(source, target)
        return copy

    def open_image(self, path: str | Image.Image, frame: int = 0) -> Image.Image:
        """Decoded picture at a path argument, RGB; code in the same process may also give the picture itself."""
        return to_rgb(path) if isinstance(path, Image.Image) else decode_image(self.read_file(path), path, frame=frame)

    def count_frames(self, path: str | Image.Image) -> int:
        """Pages or frames of the picture at a path argument."""
        return 1 if isinstance(path, Image.Image) else count_frames(self.read_file(path), path)

    def with_count(self, text: str, path: str | Image.Image) -> str:
        """What a tool found in the first page or frame of a picture, with a line that says so if there are more."""
        frames = self.count_frames(path)
        return f"{text}\n[{path} has {frames} pages or frames: this is of the first]" if frames > 1 else text

    def save_image(self, image: Image.Image, stem: str) -> str:
        """Save a result picture and return the path that the model's code can use."""
        if self.workspace is not None:
            return self.workspace.save_image(image, stem)
        number = 1
        while Path(f"{stem}_{number}.png").exists():
            number += 1
        image.save(f"{stem}_{number}.png")
        return f"{stem}_{number}.png"


def fit_box(sides: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box x1, y1, x2, y2 in whole pixels, cut to a picture.

    Args:
        sides (`Sequence[float]`): the box as a model gave it.
        size (`tuple[int, int]`): width and height of the picture.

    Raises:
        InputError: when nothing of it is in the picture.
    """
    x1, y1, x2, y2 = (min(max(round(side), 0), limit) for side, limit in zip(sides, size * 2, strict=True))
    if x1 >= x2 or y1 >= y2:
        raise InputError(f"The box {list(sides)} is empty or outside the picture of {size[0]} x {size[1]} pixels.")
    return x1, y1, x2, y2
