"""Running the code of recorded turns again, in the executor and with the tools of an agent of today."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smolagents import Tool

from .agent.agent import T3Agent
from .models.vlm import ScriptedModel
from .task import Task
from .trajectory import Step
from .workspace import Workspace


Outcome = Literal["ran", "refused", "follows", "mistake", "no_code", "ours"]
"""How a turn ended.

- `ran`: without an error.
- `refused`: a tool was reached, called as it should be, and its own answer is that it cannot do this.
- `follows`: it uses a variable of a turn that a tool refused.
- `mistake`: the recorded code is wrong: an undefined variable, a file that was never there.
- `no_code`: the turn holds no code that compiles.
- `ours`: a tool is missing or has another signature or form of result, or the executor does not run valid Python.
"""


FOLDER = ".cache"
"""The prompt of the released data says that this folder is there for results."""


@dataclass(frozen=True)
class Replayed:
    """One recorded turn after it was run again.

    Args:
        step ([`Step`]): what happened.
        outcome (`str`): see [`Outcome`].
    """

    step: Step
    outcome: Outcome


def replay(
    turns: Sequence[str], task: Task, tools: list[Tool], promised: Collection[str] = (), **settings: Any
) -> list[Replayed]:
    """Run the turns of one trajectory in order, with one state.

    Args:
        turns (`Sequence[str]`): what the assistant wrote, thought and code.
        task ([`Task`]): with the files that the code reads, at the paths that it names.
        tools (`list[Tool]`): what the code may call.
        promised (`Collection[str]`, *optional*): names of tools that the recorded prompt describes, where `tools` may
            lack one.
        settings: further settings of [`T3Agent`], such as `additional_authorized_imports`.

    Returns:
        `list[Replayed]`: one for each turn up to the final answer.
    """
    names = {*promised, *(tool.name for tool in tools)}
    limits = {"max_steps": len(turns), "max_consecutive_errors": len(turns) + 1}
    agent = T3Agent(tools=tools, model=ScriptedModel(list(turns)), **{**limits, **settings})
    with Workspace() as workspace:
        (workspace.root / FOLDER).mkdir()
        steps = agent.run_task(task, workspace).actions
    replayed: list[Replayed] = []
    for step in steps:
        lost = any(earlier.outcome in ("refused", "follows") for earlier in replayed)
        replayed.append(Replayed(step, _outcome(step, names, lost)))
    return replayed


def _outcome(step: Step, tools: set[str], lost: bool) -> Outcome:
    """Whatever is not known to be the fault of the record, or the answer of a tool, is ours."""
    if step.error is None:
        return "ran"
    if not step.code or step.error.startswith("the code is not valid Python"):
        return "no_code"
    undefined = re.search(r"(?:name|variable) [`'](\w+)[`'] is not defined", step.error)
    if undefined:
        wrong = undefined.group(1) not in tools
        return "ours" if not wrong else "follows" if lost else "mistake"
    if step.error.startswith("InputError: ") and step.tools:
        return "refused"
    own = ("FileNotFoundError", "KeyError", "IndexError", "ValueError", "ZeroDivisionError", "AttributeError")
    return "mistake" if step.error.startswith(own) and not step.tools else "ours"
