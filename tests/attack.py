"""Swap a folder for a link out while every tool reads or writes there: `python -m tests.attack --seconds 600`.

The attacker is a process that is never stopped, which is more than code in the sandbox can be. What lies outside is
of another kind than what lies inside, so a hit shows in what a tool reads, says or writes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from t3_agents.task import File
from t3_agents.tools.base import WorkspaceTool
from t3_agents.tools.toolbox import TOOLBOXES
from t3_agents.workspace import Workspace


SWAPPER = """
import ctypes, os, sys
libc, (one, two) = ctypes.CDLL(None), [path.encode() for path in sys.argv[1:]]
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1000):
        libc.syscall(316 if os.uname().machine == "x86_64" else 276, -100, one, -100, two, 2)  # RENAME_EXCHANGE
"""
MARK = "PLANTED"
ARGUMENTS = {
    "question": "What is written?",
    "object": "circle",
    "prompt": "a blue circle",
    "bbox": "(0, 0, 60, 60)",
    "attribute": "color",
    "text": "circle",
    "instruction": "gray",
    "annotation": "x",
    "position": "mt",
    "top1": True,
}


def plant(folder: Path, word: str, color: str) -> None:
    """A text and a picture with a word and of a color."""
    folder.mkdir()
    (folder / "text.txt").write_text(f"{word} words")
    image = Image.new("RGB", (240, 120), color)
    ImageDraw.Draw(image).text((20, 40), word, fill="white", font_size=40)
    image.save(folder / "picture.png")


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def is_hit(result: Any, workspace: Workspace) -> bool:
    """Whether something of the outside shows: its word, or its red in a picture that was made."""
    if MARK.lower() in str(result).lower():
        return True
    if isinstance(result, str) and result.endswith(".png"):
        try:
            red, _, blue = np.asarray(workspace.open_image(result), float).mean((0, 1))
        except Exception:  # the folder of the outputs is swapped as well
            return False
        return red > blue + 60
    return False


def tools_with_paths() -> list[WorkspaceTool]:
    """A tool of each kind that takes or makes a file, but those that need a model of the Hub."""
    names = {tool.__name__: tool for toolbox in ("embedded", "gta-embedded") for tool in TOOLBOXES[toolbox]}
    return [tool() for tool in names.values() if tool.output_type == "string" or paths_of(tool)]


def paths_of(tool: Any) -> list[str]:
    return [name for name in tool.inputs if name in ("image", "image_path", "file_path")]


def attack(seconds: float, tools: Sequence[WorkspaceTool]) -> Counter[str]:
    """How often each tool was called, and what came of the calls; a hit is an `AssertionError`.

    Args:
        seconds (`float`): how long, all tools together.
        tools (`Sequence[WorkspaceTool]`): each is called in turn.
    """
    calls: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder, "workspace"), Path(folder, "outside")
        root.mkdir()
        plant(root / "a", "harmless", "navy")
        plant(outside, MARK, "red")
        (root / "b").symlink_to(outside)
        (outside / "out").mkdir()
        (root / "outputs").mkdir()
        (root / "elsewhere").symlink_to(outside / "out")
        before = state(outside)
        pairs = [("a", "b"), ("outputs", "elsewhere")]
        swappers = [
            subprocess.Popen([sys.executable, "-c", SWAPPER, *(str(root / name) for name in pair)]) for pair in pairs
        ]
        workspace = Workspace(root)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end or not calls:
                for tool in tools:
                    tool.workspace = workspace
                    calls[tool.name] += 1
                    try:
                        result = tool(**_arguments(tool))
                        calls["done"] += 1
                    except Exception as error:  # refusals are what is hoped for
                        result = error
                        calls["refused"] += 1
                    assert not is_hit(result, workspace), f"{tool.name}: {result}"
                    assert state(outside) == before, f"{tool.name} wrote outside"
                for path in ("a/text.txt", "a/new.txt"):
                    try:
                        workspace.add(File.from_bytes(b"harmless", path))
                        assert MARK not in workspace.read_bytes(path).decode(errors="replace")
                    except AssertionError:
                        raise
                    except Exception:  # as above
                        calls["refused"] += 1
                assert all(MARK not in str(image.read_bytes()) for image in workspace.new_images())
                workspace.measure()
                assert state(outside) == before, "an attachment was written outside"
            workspace.keep_only({})
            assert state(outside) == before, "what lies outside was deleted"
        finally:
            for process in swappers:
                process.kill()
                process.wait()
    return calls


def _arguments(tool: WorkspaceTool) -> dict[str, Any]:
    found = {}
    for name in tool.inputs:
        if name in paths_of(tool):
            found[name] = "a/text.txt" if name == "file_path" else "a/picture.png"
        elif name == "prompt" and tool.inputs[name]["type"] == "array":
            found[name] = [0, 0, 60, 60]
        elif name in ("expression", "command", "query", "keywords"):
            found[name] = {"expression": "1 + 1", "query": "tower", "keywords": "a blue circle"}.get(
                name, "def solution():\n    return 1"
            )
        elif name in ARGUMENTS:
            found[name] = ARGUMENTS[name]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(f"0 hits in {dict(attack(options.seconds, tools_with_paths()))}")


if __name__ == "__main__":
    main()
