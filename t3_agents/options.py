"""Command options from a dataclass: the same fields as flags and in a `--config` YAML file."""

from __future__ import annotations

from typing import TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser


Options = TypeVar("Options")


def parse_options(options: type[Options], argv: list[str], prog: str) -> Options:
    """Read the options of a command. Wrong input ends the process with status 2 and one sentence.

    Args:
        options (`type`): a dataclass; field names become flags, its docstring their help.
        argv (`list[str]`): arguments of the command.
        prog (`str`): name of the command in messages.

    Returns:
        An instance of `options`. Flags win over the file.
    """
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
