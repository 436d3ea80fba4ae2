"""Command options from a dataclass: its fields on the command line and in a `--config` YAML file."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from argparse import SUPPRESS
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ActionYesNo, ArgumentError, ArgumentParser

from .errors import InputError, suggestion


T = TypeVar("T")
Positional = Annotated[T, "positional"]
"""Type of a field that is given by its place on the command line instead of by its name."""


def parse_options(options: Any, argv: list[str], prog: str) -> Any:
    """Read the options of a command. `--help` ends the process.

    A boolean is `--flag` or `--no-flag`, a list takes several values behind its name, and `--num-tasks` and
    `--num_tasks` are the same.

    Args:
        options (`type` or `tuple[type]`): dataclass, or several whose fields are all options of the command. Types say
            what a value may be, docstrings what it means; what no docstring explains is not shown in the help.
        argv (`list[str]`): arguments of the command.
        prog (`str`): name of the command in messages.

    Returns:
        An instance of `options`, or a tuple of instances. Flags win over the file of `--config`: a path, or the name
        of a file in the folder `recipes` beside the module of the first dataclass.

    Raises:
        InputError: when an argument cannot be used.
    """
    classes = options if isinstance(options, tuple) else (options,)
    parser = _make_parser(classes, prog)
    try:
        values = parser.parse_args(_with_dashes(argv, parser)).as_dict()
    except ArgumentError as error:
        raise InputError(_sentence(parser, str(error))) from None
    made = tuple(each(**{f.name: values[f.name] for f in fields(each) if f.name in values}) for each in classes)
    return made if isinstance(options, tuple) else made[0]


def flags_of(options: Any) -> list[str]:
    """The options that the help of a command shows.

    Args:
        options (`type` or `tuple[type]`): see [`parse_options`].
    """
    parser = _make_parser(options if isinstance(options, tuple) else (options,), "t3")
    shown = (action for action in parser._actions if action.help != SUPPRESS)
    return [name for action in shown for name in action.option_strings if name.startswith("--")]


def check_options(options: Any) -> None:
    """Check the values of a dataclass that was made in Python as the command line would.

    Raises:
        InputError: when a value is not one that the option takes.
    """
    parser = _make_parser((type(options),), type(options).__name__)
    try:
        parser.parse_object(asdict(options))
    except ArgumentError as error:
        raise InputError(_sentence(parser, str(error))) from None


def _make_parser(classes: tuple[type, ...], prog: str) -> ArgumentParser:
    entries = {f.name: (each, f) for each in classes for f in fields(each) if f.init}
    hints = {name: hint for each in classes for name, hint in get_type_hints(each, include_extras=True).items()}
    places = [name for name in entries if get_origin(hints[name]) is Annotated]
    required = [name for name, (_, f) in entries.items() if f.default is f.default_factory is MISSING]
    named = [f"{_flag(name)} {name.upper()}" for name in required if name not in places]
    usage = " ".join([prog, *(_metavar(name, hints[name]) for name in places), *named, "[--option VALUE ...]"])
    docs = parse_docstring(classes[0].__doc__ or "")
    description = " ".join(" ".join(filter(None, [docs.short_description, docs.long_description])).split())
    parser = ArgumentParser(
        prog=prog, usage=usage, description=description, exit_on_error=False, allow_abbrev=False, print_config=None
    )
    recipes = Path(inspect.getfile(classes[0])).parent / "recipes"
    parser.add_argument("--config", action=_config_action(recipes), metavar="FILE", help="YAML file with options")
    for name, (each, f) in entries.items():
        hint, default = hints[name], f.default if f.default_factory is MISSING else f.default_factory()
        if any(map(is_dataclass, _members(hint))):
            continue
        # Of the many options of another library, help shows those that a docstring of this project explains.
        ours = [kind for kind in each.__mro__ if "help" not in f.metadata or _package(kind) == _package(each)]
        texts = (_docs(kind).get(name) for kind in ours)
        arguments: dict[str, Any] = {"help": next(filter(None, texts), SUPPRESS)}
        if name in places:
            hint = get_args(hint)[0]
            arguments["metavar"] = name.upper()
        if name not in required:
            arguments["default"] = default
        members = _members(hint)
        if members == [bool]:
            # A value may follow, as in transformers' parser, where it cannot be meant for a positional argument.
            arguments |= {"action": ActionYesNo(no_prefix="no-"), "nargs": 0 if places else "?"}
        elif len(members) == 1 and get_origin(members[0]) is list:
            many = "+" if name in required else "*"
            arguments |= {"type": get_args(members[0])[0], "nargs": many}
        else:
            arguments["type"] = hint
            if name in places and name not in required:
                arguments["nargs"] = "?"
        if name in required and name not in places:
            arguments["required"] = True
        action = parser.add_argument(name if name in places else _flag(name), **arguments)
        if members == [bool] and not places:
            action.metavar = "true|false"
    return parser


def _config_action(recipes: Path) -> type[ActionConfigFile]:
    class RecipeFile(ActionConfigFile):
        """A path, or the name of a recipe."""

        def __call__(self, parser: Any, values: Any, value: str, option: str | None = None) -> None:
            known = {path.stem: str(path) for path in recipes.glob("*.yaml")}
            path = value if Path(value).is_file() else known.get(value)
            if path is None and known:
                raise InputError(
                    f"There is no file {value}, nor a recipe of this name; {suggestion(value, sorted(known))}"
                )
            if path is None:
                raise InputError(f"There is no file {value}.")
            super().__call__(parser, values, path)

    return RecipeFile


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(name: str, hint: Any) -> str:
    return f"[{name.upper()} ...]" if get_origin(get_args(hint)[0]) is list else name.upper()


def _members(hint: Any) -> list[Any]:
    """Types that a value may have, besides None."""
    if get_origin(hint) in (Union, UnionType):
        return [member for member in get_args(hint) if member is not NoneType]
    return [hint]


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


@functools.cache
def _docs(kind: type) -> dict[str, str]:
    found = parse_docstring(kind.__doc__ or "").params
    return {param.arg_name: " ".join((param.description or "").split()) for param in found}


def _with_dashes(argv: list[str], parser: ArgumentParser) -> list[str]:
    """Names of options as they are declared, with dashes; a list that is given twice is refused, not overwritten."""
    names = {name: action for action in parser._actions for name in action.option_strings}
    argv, seen = list(argv), set()
    for index, argument in enumerate(argv):
        if argument == "--":
            break
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if name in names:
            argv[index] = name + equals + value
            if name in seen and names[name].nargs in ("+", "*"):
                raise InputError(f"`{name}` is given twice: write all its values behind one, `{name} A B`.")
            seen.add(name)
    return argv


def _sentence(parser: ArgumentParser, text: str) -> str:
    """A message of jsonargparse as one sentence for the person at the keyboard."""
    actions = {action.dest: action for action in parser._actions}
    help_says = f"`{parser.prog} --help` lists them"
    if match := re.match(r"unrecognized arguments: (\S*)|Option '(.+)' is not accepted", text):
        word = match[1] if match[1] is not None else _flag(match[2])
        if not word.startswith("-"):
            return f"`{word}` is one argument too many: write `{parser.usage}`."
        word = word.partition("=")[0]
        known = [name for action in parser._actions for name in action.option_strings]
        near = difflib.get_close_matches(word.replace("_", "-"), known, 1)
        return f"There is no option `{word}`{f'; did you mean `{near[0]}`?' if near else f'; {help_says}.'}"
    if match := re.match(r"the following arguments are required: (.*)", text):
        return f"{match[1].upper()} is missing: write `{parser.usage}`."
    if match := re.match(r'Parser key "config": (.*)', text):
        return match[1]
    if (match := re.match(r'Parser key "(\w+)"', text)) and match[1] in actions:
        action = actions[match[1]]
        given = re.search(r"(?:Given value|Got value|base 10): (.*)|Not of type \w+: (\S+) does not conform", text)
        given = given and (given[1] or given[2]).strip("'")
        name = action.option_strings[0] if action.option_strings else action.metavar
        return f"`{name}` takes {_wanted(action)}{f', not `{given}`' if given else ''}."
    if "item assignment" in text or "not iterable" in text:
        return "A list in a file is written as `[A, B]`."
    return f"The options cannot be read: {' '.join(text.split()).rstrip('.')}."


_SIGNS = {"≥": "at least ", "≤": "at most ", ">": "above ", "<": "below "}


def _wanted(action: Any) -> str:
    hint = getattr(action, "_typehint", action.type)
    texts = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            texts.append(f"one of {', '.join(map(str, get_args(member)))}")
        elif isinstance(member, type) and "restricted to be" in (member.__doc__ or ""):
            limits = re.sub("[≥≤><]", lambda sign: _SIGNS[sign[0]], member.__doc__.split("be ")[1])
            texts.append(f"a{' whole' if issubclass(member, int) else ''} number {limits}")
        else:
            texts.append({int: "a whole number", float: "a number", str: "a text"}.get(member, str(member)))
    return " or ".join(texts)
