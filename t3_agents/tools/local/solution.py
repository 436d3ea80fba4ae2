"""Running a program of GTA's `Solver` and `Plot`: code with a function `solution()`."""

from __future__ import annotations

import re

from PIL import Image
from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError

from t3_agents.errors import InputError
from t3_agents.sandbox import SandboxExecutor, SandboxLimits
from t3_agents.workspace import Workspace


_SECONDS = 20
_IMPORTS = ["sympy", "numpy", "matplotlib"]


def run_solution(command: str, call: str) -> tuple[str, list[Image.Image]]:
    """Run a program and then one more line, in a sandbox and a workspace of their own.

    Args:
        command (`str`): Python code, also as a Markdown block.
        call (`str`): the line.

    Returns:
        `tuple[str, list[PIL.Image.Image]]`: what was printed, and the picture files that were written, oldest first.

    Raises:
        InputError: when the program defines no `solution`, or fails; the message says how.
        SandboxError: when there is no sandbox here: such code never runs in this process.
    """
    block = re.search(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", str(command), re.DOTALL)
    code = block.group(1) if block else str(command)
    if not re.search(r"^def solution\(\s*\)", code, re.MULTILINE):
        raise InputError("`command` must be Python code that defines a function `solution()` without arguments.")
    with Workspace() as workspace:
        executor = SandboxExecutor(_IMPORTS, workspace, SandboxLimits(time_limit=_SECONDS))
        try:
            executor.send_tools({})
            result = executor(f"{code}\n{call}")
        except (InterpreterError, ExecutionTimeoutError) as error:
            raise InputError(f"The code failed: {str(error)[:500]}") from None
        finally:
            executor.cleanup()
        return result.logs, [file.open_image() for file in workspace.new_images()]
