"""The `t3` command: a table of sub-commands, of which one is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version


COMMANDS = {
    "build": ("dataset_builder.build", "Build a dataset with the offline teacher: so many tasks of each family."),
    "chat": ("t3_agents.commands.chat", "Talk to an agent in the browser."),
    "doctor": ("t3_agents.commands.doctor", "Look at this machine: versions, devices, tools, and what to install."),
    "dpo": ("trainers.dpo", "Tune an agent on pairs of a right and a wrong next step."),
    "eval": ("t3_agents.commands.evaluate", "Measure an agent on GTA, GAIA or held-out tasks; compare runs."),
    "export": ("dataset_builder.formats.export_command", "Write the rows of a run in other formats."),
    "import": ("dataset_builder.formats.import_command", "Read trajectories of other formats into a run."),
    "improve": ("trainers.improve", "Tune an agent on its own verified samples, round by round."),
    "pull": ("hub_cards.download", "Fetch an agent, dataset or report from the Hub."),
    "push": ("hub_cards.publish", "Push an agent, results, a report or a Space to the Hub."),
    "push dataset": ("dataset_builder.publish", "Push a run or an exported dataset to the Hub."),
    "quickstart": ("t3_agents.commands.quickstart", "The whole way once, offline: build, tune, measure, report."),
    "run": ("t3_agents.commands.run", "Ask an agent one question, with files."),
    "serve": ("t3_agents.commands.serve", "Serve an agent's controller over the OpenAI protocol."),
    "synth": ("dataset_builder.synthesis.commands", "Synthesize tasks and trajectories with a teacher."),
    "train": ("trainers.sft", "Tune a controller on trajectories with TRL and PEFT."),
    "view": ("t3_agents.commands.view", "Read the trajectories of a run in the browser."),
}
"""Each command's module, which has `main(argv) -> int`, and its help. A command of two words wins over one."""


def load_command(argv: list[str]) -> tuple[Callable[[list[str]], int], list[str]] | None:
    """The `main` of the command that `argv` begins with, and the arguments behind it; None when there is none."""
    for words in (2, 1):
        name = " ".join(argv[:words])
        if name in COMMANDS:
            return importlib.import_module(COMMANDS[name][0]).main, argv[words:]
    return None


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command; returns its exit status. A [`T3Error`] is printed as one sentence, with status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(version("t3-agents"))
        return 0
    if argv[0] not in COMMANDS:
        print(f"t3: there is no command `{argv[0]}`; choose one of: {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    from .errors import T3Error

    _quiet()
    try:
        command, rest = load_command(argv)
        return command(rest)
    except T3Error as error:
        print(f"t3 {argv[0]}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"t3 {argv[0]}: stopped; run the same command to resume.", file=sys.stderr)
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


def usage() -> str:
    """Help text: every command with what it does."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: t3 COMMAND [--config FILE.yaml] [--option VALUE ...]",
            "",
            *(f"  {name:<{width}}  {help}" for name, (_, help) in COMMANDS.items()),
            "",
            "t3 COMMAND --help lists its options.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
