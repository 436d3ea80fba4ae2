"""Running a program of GTA's `Solver` and `Plot`: code with a function `solution()`."""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image

from ..errors import InputError
from ..executor import TimedExecutor
from ..workspace import Workspace


_SECONDS = 20
_IMPORTS = ["sympy", "sympy.*", "numpy", "numpy.*", "matplotlib", "matplotlib.*"]


class Solution(NamedTuple):
    """What a program left.

    Args:
        logs (`str`): what it printed.
        pictures (`list[PIL.Image.Image]`): picture files that it wrote, oldest first.
    """

    logs: str
    pictures: list[Image.Image]


def run_solution(command: str, call: str) -> Solution:
    """Run a program and then one more line, in an executor and a workspace of their own.

    Args:
        command (`str`): Python code, also as a Markdown block.
        call (`str`): the line; `{folder}` in it is the folder for files.

    Raises:
        InputError: when the program defines no `solution`, or fails; the message says how.
    """
    block = re.search(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", str(command), re.DOTALL)
    code = block.group(1) if block else str(command)
    if not re.search(r"^def solution\(\s*\)", code, re.MULTILINE):
        raise InputError("`command` must be Python code that defines a function `solution()` without arguments.")
    with Workspace() as workspace:
        executor = TimedExecutor(_IMPORTS, time_limit=_SECONDS)
        executor.send_tools({})
        try:
            result = executor(f"{code}\n{call.format(folder=workspace.root)}")
        except Exception as error:  # whatever the program raises is the caller's to see
            raise InputError(f"The code failed: {str(error).split('due to: ', 1)[-1][:500]}") from None
        return Solution(result.logs, [file.open_image() for file in workspace.new_images()])
