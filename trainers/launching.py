"""Starting a training on several processes: what `t3 train --launch NAME` does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from t3_agents.errors import InputError, suggestion


FOLDER = Path(__file__).parent / "launch"


def launch_command(argv: list[str]) -> list[str]:
    """The command line of `accelerate launch` for a command line with `--launch` and perhaps `--num-processes`.

    Args:
        argv (`list[str]`): what stands behind `t3`, such as `["train", "--launch", "fsdp2", "--config", ...]`.

    Raises:
        InputError: when there are no such settings.
    """
    name, argv = _take(argv, "--launch")
    processes, argv = _take(argv, "--num-processes")
    known = {path.stem: path for path in FOLDER.glob("*.yaml")}
    path = known.get(name or "", Path(name or ""))
    if not path.is_file():
        raise InputError(f"There are no settings `{name}` for `--launch`; {suggestion(name or '', sorted(known))}")
    count = ["--num_processes", processes] if processes else []
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    return [*start, *count, "-m", "t3_agents.cli", *argv]


def _take(argv: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option, and the command line without it."""
    for index, word in enumerate(argv):
        name, equals, value = word.replace("_", "-").partition("=")
        if name == option:
            if equals:
                return word.partition("=")[2], argv[:index] + argv[index + 1 :]
            if index + 1 < len(argv):
                return argv[index + 1], argv[:index] + argv[index + 2 :]
            raise InputError(f"`{option}` needs a value.")
    return None, argv


def launch(argv: list[str]) -> int:
    """Become `accelerate launch`; signals then reach it as they would this process."""
    command, environment = launch_command(argv), dict(os.environ)
    if not os.path.samefile(os.getcwd(), FOLDER.parents[1]):
        # `-m` looks where the command was started first, and a folder `trainers` there is not this package.
        environment["PYTHONSAFEPATH"] = "1"
    os.execve(command[0], command, environment)
