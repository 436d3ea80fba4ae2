"""Model-written code in a Python of its own behind bubblewrap.

`child.py` is the program inside, `process.py` starts it and holds its limits, `bubblewrap.py` and `seccomp.py` say
what is around it, `check.py` whether that works here, `executor.py` is the executor that an agent uses.
"""

from .check import SandboxStatus, check_sandbox
from .executor import PAPER_IMPORTS, SandboxError, SandboxExecutor, require_sandbox
from .process import SandboxLimits


__all__ = [
    "PAPER_IMPORTS",
    "SandboxError",
    "SandboxExecutor",
    "SandboxLimits",
    "SandboxStatus",
    "check_sandbox",
    "require_sandbox",
]
