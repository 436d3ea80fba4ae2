"""Command options from a dataclass: the same fields as flags and in a `--config` YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser


Options = TypeVar("Options")


def parse_options(options: type[Options], argv: list[str], prog: str, configs: Path | None = None) -> Options:
    """Read the options of a command. Wrong input ends the process with status 2 and one sentence.

    Args:
        options (`type`): a dataclass; field names become flags, its docstring their help.
        argv (`list[str]`): arguments of the command.
        prog (`str`): name of the command in messages.
        configs (`Path`, *optional*): folder of YAML files that `--config` knows by their names.

    Returns:
        An instance of `options`. Flags win over the file.
    """
    if configs is not None:
        argv = _with_files(argv, configs)
    parser = ArgumentParser(prog=prog, description=(options.__doc__ or "").split("\n")[0], exit_on_error=True)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of these options")
    parser.add_class_arguments(options, as_group=False)
    values = parser.parse_args([_dashes(argument) for argument in argv])
    del values["config"]
    return options(**values.as_dict())


def _dashes(argument: str) -> str:
    """`--num-tasks` and `--num_tasks` are the same flag."""
    if not argument.startswith("--") or argument == "--":
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _with_files(argv: list[str], configs: Path) -> list[str]:
    """`--config name` with the file of that name, unless there is another one where the command runs."""
    known = {path.stem: str(path) for path in configs.glob("*.yaml")}
    argv = list(argv)
    for index, argument in enumerate(argv[:-1]):
        if argument == "--config" and not Path(argv[index + 1]).exists():
            argv[index + 1] = known.get(argv[index + 1], argv[index + 1])
    return argv
