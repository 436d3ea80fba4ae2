"""The `t3` command: finds its sub-commands by entry point and imports one only when it is called."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import warnings
from importlib.metadata import EntryPoint, entry_points, version


GROUP = "t3_agents.commands"


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command; returns its exit status. A [`T3Error`] is printed as one sentence, with status 2."""
    argv = sys.argv[1:] if argv is None else argv
    commands = {point.name: point for point in entry_points(group=GROUP)}
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(commands))
        return 0
    if argv[0] == "--version":
        print(version("t3-agents"))
        return 0
    if argv[0] not in commands:
        print(f"t3: there is no command `{argv[0]}`; choose one of: {', '.join(commands)}.", file=sys.stderr)
        return 2
    from .errors import T3Error

    _quiet()
    try:
        return commands[argv[0]].load()(argv[1:])
    except T3Error as error:
        print(f"t3 {argv[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"t3 {argv[0]}: stopped; the same command goes on where it was.", file=sys.stderr)
        return 130
    except OSError as error:
        # A full disk, a folder without write permission: one sentence is enough for these.
        print(
            f"t3 {argv[0]}: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            file=sys.stderr,
        )
        return 1


def _quiet() -> None:
    """Leave the terminal to the command's own progress bars; the environment overrides it."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def usage(commands: dict[str, EntryPoint]) -> str:
    """Help text: every command with the first line of its module's docstring."""
    width = max(map(len, commands), default=0)
    lines = [f"  {name:<{width}}  {_summary(point)}" for name, point in sorted(commands.items())]
    return "\n".join(
        [
            "usage: t3 COMMAND [--config FILE.yaml] [--option VALUE ...]",
            "",
            *lines,
            "",
            "t3 COMMAND --help lists its options.",
        ]
    )


def _summary(point: EntryPoint) -> str:
    """First docstring line of a command's module, read from its source so that nothing is imported."""
    package, _, _ = point.module.rpartition(".")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        try:
            with open(f"{folder}/{point.module.rpartition('.')[2]}.py", encoding="utf-8") as source:
                return (ast.get_docstring(ast.parse(source.read())) or "").split("\n")[0]
        except OSError:
            continue
    return ""


if __name__ == "__main__":
    sys.exit(main())
