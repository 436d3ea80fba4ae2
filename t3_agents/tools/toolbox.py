"""Toolboxes by name, and tools as records that are saved with an agent.

A toolbox is a set of tool classes, one for each tool name. Another backend of a tool (a model of the Hub, say) is
another [`WorkspaceTool`] with the same `name`, `inputs` and `output_type` in another toolbox, so an agent that was
trained with one toolbox runs with the next, and a record says which of them a tool came from.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from smolagents import Tool

from ..errors import InputError
from ..task import reject_unknown, require
from .base import WorkspaceTool
from .facedetection import FaceDetection
from .image_edit import ImageEdit
from .inspect_file_as_text import InspectFileAsText
from .objectlocation import ObjectLocation
from .search import AskSearchAgent
from .visualizer import Visualizer


TOOLBOXES: dict[str, tuple[type[WorkspaceTool], ...]] = {
    "embedded": (AskSearchAgent, Visualizer, InspectFileAsText, ObjectLocation, FaceDetection, ImageEdit),
}


def make_toolbox(name: str = "embedded") -> list[Tool]:
    """Fresh tools of a toolbox, with their default settings.

    Raises:
        InputError: when there is no toolbox of this name.
    """
    return [tool() for tool in _classes(name)]


def tool_record(tool: Tool) -> dict[str, Any]:
    """What is saved of a tool: `toolbox`, `name`, `version` and `settings`, JSON-safe.

    Raises:
        InputError: when the tool is not of a toolbox of this package.
    """
    for toolbox, classes in TOOLBOXES.items():
        if type(tool) in classes:
            return {"toolbox": toolbox, "name": tool.name, "version": tool.version, "settings": dict(tool.settings)}
    raise InputError(
        f"The tool `{tool.name}` is not of a toolbox of this package and cannot be saved with an agent: the caller "
        "passes it again when the agent is loaded."
    )


def tool_from_record(record: dict[str, Any]) -> Tool:
    """The tool that a record of [`tool_record`] describes. No code comes from the record.

    Raises:
        InputError: when the toolbox, the tool or one of its settings is unknown.
    """
    reject_unknown(record, {"toolbox", "name", "version", "settings"}, "tool record")
    name = require(record, "name", str, "tool record")
    toolbox = require(record, "toolbox", str, "tool record", default="embedded")
    settings = require(record, "settings", dict, "tool record", default={})
    version = require(record, "version", (str, type(None)), "tool record", default=None)
    tools = {tool.name: tool for tool in _classes(toolbox)}
    if name not in tools:
        raise InputError(
            f"The toolbox `{toolbox}` has no tool `{name}` (it has {', '.join(tools)}): a tool of your own must be "
            "passed by the caller."
        )
    known = set(inspect.signature(tools[name].__init__).parameters) - {"self"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"The tool `{name}` has no setting `{unknown[0]}`; its settings are: {', '.join(sorted(known)) or 'none'}."
        )
    if version not in (None, tools[name].version):
        warnings.warn(f"`{name}` was saved in version {version}; this is version {tools[name].version}.", stacklevel=2)
    return tools[name](**settings)


def _classes(toolbox: str) -> tuple[type[WorkspaceTool], ...]:
    if toolbox not in TOOLBOXES:
        raise InputError(f"There is no toolbox `{toolbox}`; there are: {', '.join(TOOLBOXES)}.")
    return TOOLBOXES[toolbox]
