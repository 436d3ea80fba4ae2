"""The `t3` command: a table of sub-commands, of which one is imported when it is called."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints


COMMANDS = {
    "build": ("dataset_builder.build:main", "Build a dataset with the offline teacher: so many tasks of each family."),
    "chat": ("t3_agents.commands.chat:main", "Talk to an agent in the browser."),
    "completion": ("t3_agents.commands.listing:completion", "Print what makes a shell complete commands and options."),
    "doctor": ("t3_agents.commands.doctor:main", "Look at this machine: tools, devices, what to install."),
    "dpo": ("trainers.commands:dpo", "Tune an agent on pairs of a right and a wrong next step."),
    "eval compare": ("t3_agents.commands.evaluate:compare", "Compare two scored runs on the same tasks."),
    "eval export": ("t3_agents.commands.evaluate:export", "Write a scored run as a log of inspect_ai."),
    "eval gaia": ("t3_agents.commands.evaluate:gaia", "Measure an agent on GAIA, by the rules of its leaderboard."),
    "eval gta": ("t3_agents.commands.evaluate:gta", "Measure an agent on GTA, by the benchmark's own rules."),
    "eval report": ("t3_agents.commands.evaluate:report", "Write report.md and report.html with every trajectory."),
    "eval scenarios": ("t3_agents.commands.evaluate:scenarios", "Measure an agent on held-out tasks of a dataset."),
    "eval score": ("t3_agents.commands.evaluate:score", "Score a run again without running it."),
    "export": ("dataset_builder.formats.writing:main", "Write the rows of a run in other formats."),
    "import": ("dataset_builder.formats.reading:main", "Read trajectories of other formats into a run."),
    "improve": ("trainers.improvement:main", "Tune an agent on its own verified samples, round by round."),
    "pull": ("hub_cards.download:main", "Fetch an agent, dataset or report from the Hub."),
    "push agent": ("hub_cards.publish:agent", "Push a tuned agent with its card to the Hub."),
    "push dataset": ("dataset_builder.publish:main", "Push a run or an exported dataset to the Hub."),
    "push report": ("hub_cards.publish:report", "Push the redacted trajectories of a run to the Hub."),
    "push results": ("hub_cards.publish:results", "Push the results of an evaluation to the repo of an agent."),
    "push space": ("hub_cards.publish:space", "Push a Space that runs an agent of the Hub."),
    "quickstart": ("t3_agents.commands.quickstart:main", "The whole way once, offline: build, tune, measure, report."),
    "recipes": ("t3_agents.commands.listing:recipes", "List the recipes that --config takes by name."),
    "run": ("t3_agents.commands.run:main", "Ask an agent one question, with files."),
    "serve": ("t3_agents.commands.serve:main", "Serve an agent's controller over the OpenAI protocol."),
    "synth": ("dataset_builder.synthesis.commands:main", "Synthesize tasks and trajectories with a teacher."),
    "synth contamination": ("dataset_builder.synthesis.contamination:main", "Find queries near benchmark questions."),
    "synth inspect": ("dataset_builder.synthesis.commands:inspect", "Show the whole story of one candidate."),
    "synth status": ("dataset_builder.synthesis.commands:status", "Show how far a run is, also while it is running."),
    "tools": ("t3_agents.commands.listing:tools", "List the tools by toolbox."),
    "train": ("trainers.commands:train", "Tune a controller on trajectories with TRL and PEFT."),
    "view": ("t3_agents.commands.view:main", "Read the trajectories of a run in the browser."),
}
"""Each command's function and its help. A command of two words wins over one. The type of the function's argument is
the dataclass of the command's options; the function returns the exit status. Where these options take long to import,
`check_early` of the module looks at the arguments before."""


def parse(argv: list[str]) -> Callable[[], int]:
    """The command that `argv` names, with its options, ready to run.

    Raises:
        InputError: when there is no such command, or an option cannot be used.
    """
    from .options import parse_options

    name = command_name(argv)
    module, _, function = COMMANDS[name][0].partition(":")
    if module.startswith("trainers.") and any(word.partition("=")[0] == "--launch" for word in argv):
        return functools.partial(importlib.import_module("trainers.launching").launch, argv)
    command = getattr(importlib.import_module(module), function)
    options = get_type_hints(command)["config"]
    return functools.partial(command, parse_options(options, argv[len(name.split()) :], f"t3 {name}"))


def command_name(argv: list[str]) -> str:
    """The command that `argv` begins with.

    Raises:
        InputError: when there is none.
    """
    from .errors import InputError, suggestion

    words = " ".join(argv[:2]), argv[0]
    if name := next((name for name in words if name in COMMANDS), None):
        return name
    group = _group(argv[0])
    word = words[0] if group and not argv[1].startswith("-") else words[1]
    known = [name for name in group or COMMANDS if name.count(" ") == word.count(" ")] or group
    hint = suggestion("" if word == argv[0] and group else word, known).replace("mean `", "mean `t3 ")
    raise InputError(f"There is no command `{word}`; {hint}")


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command; returns its exit status. A [`T3Error`] is printed as one sentence, with status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(version("t3-agents"))
        return 0
    names = list(COMMANDS) if argv in ([], ["-h"], ["--help"]) else _group(argv[0])
    if names and (len(argv) < 2 or argv[1] in ("-h", "--help")) and "".join(argv[:1]) not in COMMANDS:
        print(usage(names))
        return 0
    from .errors import T3Error

    _quiet()
    _ignore_working_folder()
    prog = "t3"
    try:
        name = command_name(argv)
        prog = f"t3 {name}"
        module = importlib.import_module(COMMANDS[name][0].partition(":")[0])
        if hasattr(module, "check_early"):
            module.check_early(argv)
        return parse(argv)()
    except T3Error as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: stopped; run the same command to resume.", file=sys.stderr)
        return 130
    except OSError as error:
        # A full disk, a folder without write permission: one sentence is enough for these.
        place = f": {error.filename}" if error.filename else ""
        print(f"{prog}: {error.strerror or error}{place}", file=sys.stderr)
        return 1


def _group(word: str) -> list[str]:
    """Commands of two words that begin with this one."""
    return [name for name in COMMANDS if name.startswith(f"{word} ")]


def _quiet() -> None:
    """Leave the terminal to the command's own progress bars; the environment overrides it."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():  # bars of libraries would fill a log; those of this package become lines there
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _ignore_working_folder() -> None:
    """Import nothing from where the command was started, as `python -P` does: a folder `trainers` may lie there."""
    if sys.path[0] in ("", os.getcwd()) and not os.path.samefile(os.getcwd(), Path(__file__).parents[1]):
        del sys.path[0]


def usage(names: list[str]) -> str:
    """Help text: commands with what they do."""
    width = max(map(len, names))
    return "\n".join(
        [
            "usage: t3 COMMAND [--config FILE.yaml] [--option VALUE ...]",
            "",
            *(f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names),
            "",
            "t3 COMMAND --help lists its options.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
