"""What bubblewrap is told: which folders are seen inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path


INSIDE = "/workspace"
"""Where the workspace lies inside."""

CHILD = "/run/child.py"
# Libraries, packages and what they look up; no programs.
_LIBRARIES = ("lib", "lib32", "lib64", "libx32", "local/lib")
_SHARED = ("fonts", "fontconfig", "zoneinfo", "mime", "misc")
_SYSTEM = (
    *(f"/usr/{name}" for name in _LIBRARIES),
    *(f"/usr/share/{name}" for name in _SHARED),
    *("/lib", "/lib32", "/lib64", "/libx32"),
)
_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts", "/etc/alternatives", "/etc/mime.types", "/nix/store")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LOGNAME": "agent",
    "USER": "agent",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "PATH": "/usr/bin:/bin",
    "TMPDIR": "/tmp",
    # One thread each: many sandboxes run at a time, and every thread counts its stack as memory.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def package_folders() -> list[str]:
    """Folders of installed packages that are seen inside.

    Only folders named `site-packages` or `dist-packages`: another entry of `sys.path`, such as the working directory
    or the source tree of an editable install, may hold more than packages.
    """
    folders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return [folder for folder in dict.fromkeys(map(os.path.abspath, folders)) if os.path.isdir(folder)]


def python_folders() -> list[str]:
    """Folders of the interpreter that are seen inside."""
    base = os.path.realpath(sys.base_prefix)
    inside_usr = base == "/usr" or base.startswith("/usr/")
    return (
        [] if inside_usr else [f"{base}/{name}" for name in ("bin", "lib", "lib64") if os.path.isdir(f"{base}/{name}")]
    )


def python_program() -> str:
    """The interpreter behind virtual environments."""
    return os.path.realpath(sys.executable)


def hidden_paths() -> list[str]:
    """Paths of this machine that error texts may name, longest first."""
    paths = {*package_folders(), *python_folders(), os.path.realpath(sys.base_prefix)} - {"/usr"}
    return sorted(paths, key=len, reverse=True)


def bwrap_arguments(workspace: Path, tmp_mb: int, program: Path | None = None) -> list[str]:
    """Options of bubblewrap: own namespaces of every kind, a read-only system, one writable folder.

    There is no `/proc`: Python and its packages do without, and what is not there tells nothing about the machine.

    Args:
        workspace (`Path`): the only folder of the host that can be written to.
        tmp_mb (`int`): size of the private `/tmp`, MiB.
        program (`Path`, *optional*): a file or folder of the host that is seen at its own place; the program of the
            sandbox by default, at [`CHILD`].
    """
    options = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    options += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        options += ["--setenv", name, value]
    # Before the folders of packages, which may lie below /tmp.
    options += ["--size", str(tmp_mb * 2**20), "--tmpfs", "/tmp"]
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    for path in _FILES:
        options += ["--ro-bind-try", path, path]
    for path in (*python_folders(), *package_folders()):
        if not path.startswith("/usr/"):
            options += ["--ro-bind", path, path]
    for path in _DEVICES:
        options += ["--dev-bind", path, path]
    if python_program().startswith("/usr/"):
        options += ["--ro-bind", python_program(), python_program()]
    if program is None:
        options += ["--ro-bind", str(Path(__file__).with_name("child.py")), CHILD]
    else:
        options += ["--ro-bind", str(program), str(program)]
    options += ["--bind", str(workspace), INSIDE, "--chdir", INSIDE, "--remount-ro", "/"]
    return options
