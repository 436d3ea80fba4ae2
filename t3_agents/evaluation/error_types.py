"""What went wrong in a run, as one of a few kinds."""

from __future__ import annotations

from collections.abc import Sequence

from ..trajectory import Trajectory
from ..turns import Step, parse_python


ERROR_TYPES = ("no_code", "syntax", "runtime", "wrong_tool", "wrong_argument", "wrong_summary", "gave_up")
"""Kinds of error:

- without an answer, by the last turn: `no_code` (no code block could be read), `syntax` (the code is not Python),
  `runtime` (the code or the run itself raised), `gave_up` (it ran, but a limit came first);
- with an answer: `gave_up` (it is blank), `wrong_tool` (an expected tool was never called), `wrong_argument` (a call
  raised, or its arguments are not the expected ones), `wrong_summary` (all that was needed was done, and the answer is
  still wrong).
"""


def kind_of_step(step: Step) -> str | None:
    """Why a step failed, or nothing when it did not."""
    if step.error is None:
        return None
    if not step.code.strip():
        return "no_code"
    try:
        parse_python(step.code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "syntax"
    return "runtime"


def error_type(
    trajectory: Trajectory,
    correct: bool | None,
    expected_tools: Sequence[Sequence[str]] = (),
    expected_arguments: Sequence[tuple[str, dict]] = (),
) -> str | None:
    """The kind of error of a run, by the rules at [`ERROR_TYPES`].

    Args:
        trajectory ([`Trajectory`]): the run; `provenance["calls"]` holds the calls of tools, where they were kept.
        correct (`bool`, *optional*): whether the answer is right; where that is not known, only a missing answer is an
            error.
        expected_tools (`Sequence[Sequence[str]]`, *optional*): for each call of the known solution the tools that may
            do it.
        expected_arguments (`Sequence[tuple[str, dict]]`, *optional*): name and arguments of its calls.

    Returns:
        `str`: one of `ERROR_TYPES`, or `None` when nothing is known to be wrong.
    """
    if trajectory.answer is None:
        if trajectory.end_reason == "failed":
            return "runtime"
        return (kind_of_step(trajectory.actions[-1]) if trajectory.actions else None) or "gave_up"
    if correct is not False:
        return None
    if not trajectory.answer.strip():
        return "gave_up"
    calls = trajectory.provenance.get("calls", [])
    called = {call["name"] for call in calls} | {tool for step in trajectory.actions for tool in step.tools}
    if not all(called & set(tools) for tools in expected_tools):
        return "wrong_tool"
    made = [(call["name"], call["arguments"]) for call in calls if not call["error"]]
    if any(call["error"] for call in calls) or any(call not in made for call in expected_arguments):
        return "wrong_argument"
    return "wrong_summary"
