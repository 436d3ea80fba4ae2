"""What a trajectory has to pass before it is kept, trained on or counted as right.

A verifier is a function that takes a [`Trajectory`], which holds its task, and returns the reasons against it, one
sentence each: `[]` when it passes. To add one, write it here and put it into the tuples of the flows that need it.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from .answers import answers_match, normalize
from .errors import InputError, T3Error
from .task import Task
from .trajectory import Trajectory
from .turns import Step, parse_python


FINAL_ANSWER = "final_answer"
MACHINE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
)
MACHINE_PATHS: Mapping[str, re.Pattern[str]] = {
    "home path": re.compile(r"(?<![\w:/.])(?:/home/[\w.-]+|/Users/[\w.-]+|/root)(?:/[\w.@+-]+)*/?|~/[\w.@+/-]+"),
    "Windows path": re.compile(r"\b[A-Za-z]:\\(?:[\w .@+-]+\\)*[\w.@+-]*"),
    "absolute path": re.compile(r"(?<![\w:/.<])/(?:[\w.@+-]+/)+[\w.@+-]*"),
}
"""What paths of a machine look like, by kind."""

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
# A web page may be full of paths such as /wiki/Norway/, which say nothing about a machine.
_ROOTS = frozenset(
    "home root Users tmp private usr opt var etc mnt media srv data proc dev lib scratch content".split()
)

Verifier = Callable[[Trajectory], list[str]]


@dataclass(frozen=True)
class Verdict:
    """What verifiers said.

    Args:
        found (`dict[str, list[str]]`): the reasons against the trajectory, by verifier; empty where it passed.
    """

    found: Mapping[str, Sequence[str]]

    @property
    def passed(self) -> bool:
        return not any(self.found.values())

    @property
    def reasons(self) -> list[str]:
        return [reason for reasons in self.found.values() for reason in reasons]

    def to_dict(self) -> dict[str, Any]:
        """The verdict as a trajectory's `verification` holds it."""
        return {"passed": self.passed, "reasons": self.reasons}


def verify(trajectory: Trajectory, verifiers: Iterable[Verifier]) -> Verdict:
    """Ask verifiers about a trajectory."""
    return Verdict({verifier.__name__: verifier(trajectory) for verifier in verifiers})


# What a trajectory did


def tools_called(trajectory: Trajectory) -> list[str]:
    """Tools that a trajectory called, in order, without `final_answer`."""
    return [tool for step in trajectory.actions for tool in step.tools if tool != FINAL_ANSWER]


def tools_expected(task: Task) -> list[str]:
    """Tools that a task expects to be called, in order, without `final_answer`."""
    return [tool for tool in task.tools if tool != FINAL_ANSWER]


def calls_in_place(called: Sequence[str], expected: Sequence[Sequence[str]]) -> list[bool]:
    """For each expected call, whether one of the tools that may do it was called in its place.

    An extra call shifts those after it; calls after the last expected one do not count.
    """
    return [index < len(called) and called[index] in tools for index, tools in enumerate(expected)]


def turns_ran(trajectory: Trajectory) -> list[bool]:
    """For each action of a trajectory, whether it held code that ran without an error."""
    return [bool(step.code.strip()) and step.error is None for step in trajectory.actions]


def is_correct(trajectory: Trajectory) -> bool | None:
    """Whether the answer is the known one, see `answers.py`; `None` when none is known."""
    known = trajectory.task.ground_truth
    if known is None or not normalize(known):
        return None
    return answers_match(trajectory.answer, known)


# Verifiers


def validate(trajectory: Trajectory) -> list[str]:
    """What keeps a trajectory from being a row of a dataset, whoever made it; nothing is run.

    The record has to obey its own rules, every picture needs one placeholder in the messages, and the task's known
    answer, if there is one, has to pass its own verifier: otherwise no run could ever be right.
    """
    try:
        trajectory.check()
    except InputError as error:
        return [str(error)]
    problem = placeholder_problem(trajectory.to_messages(), len(trajectory.images))
    reasons, known = [problem] if problem else [], trajectory.task.ground_truth
    if known is not None and right_answer(replace(trajectory, answer=known)):
        reasons.append(f"No answer could be right: the known one is {known!r}.")
    return reasons


def placeholder_problem(messages: Sequence[Mapping[str, Any]], num_images: int) -> str | None:
    """Why a vision collator would refuse a row, if it would: every picture needs exactly one placeholder."""
    placeholders = sum(part["type"] == "image" for message in messages for part in message["content"])
    if placeholders == num_images:
        return None
    return f"The messages have {placeholders} image placeholders, but there are {num_images} images."


def has_answer(trajectory: Trajectory) -> list[str]:
    """The run ended with an answer that is not blank."""
    if trajectory.end_reason != "answer" or trajectory.answer is None:
        return [f"There is no answer: the run ended with {trajectory.end_reason}."]
    return [] if trajectory.answer.strip() else ["The answer is empty."]


def right_answer(trajectory: Trajectory) -> list[str]:
    """The answer is the known one; where none is known, no answer passes."""
    if trajectory.answer is None:
        return has_answer(trajectory)
    match is_correct(trajectory):
        case True:
            return []
        case None:
            return ["No answer is known to be right."]
    return [f"The answer is {trajectory.answer!r}; {trajectory.task.ground_truth!r} is known to be right."]


def code_ran(trajectory: Trajectory) -> list[str]:
    """Some code ran without an error."""
    return [] if any(turns_ran(trajectory)) else ["No code of it ran without an error."]


def every_step_ran(trajectory: Trajectory) -> list[str]:
    """Every step holds code that ran without an error."""
    return [
        f"Step {number} failed: {step.error or 'it holds no code'}"
        for number, (step, ran) in enumerate(zip(trajectory.actions, turns_ran(trajectory), strict=True), start=1)
        if not ran
    ]


def tools_used(trajectory: Trajectory) -> list[str]:
    """Some tool was called in a step that ran."""
    used = {tool for step in trajectory.actions if step.error is None for tool in step.tools} - {FINAL_ANSWER}
    return [] if used else ["No tool was called with success."]


def expected_tools_called(trajectory: Trajectory) -> list[str]:
    """Every tool that the task expects was called: an answer that was guessed teaches nothing."""
    missing = sorted({*tools_expected(trajectory.task)} - {*tools_called(trajectory)})
    return [f"The tools {', '.join(missing)} were expected and not called."] if missing else []


def tools_in_order(trajectory: Trajectory) -> list[str]:
    """The tools that the task expects were called in their order, and no others."""
    called, expected = tools_called(trajectory), tools_expected(trajectory.task)
    return [] if called == expected else [f"The tools {called} were called; {expected} are expected."]


def files_touched(trajectory: Trajectory) -> list[str]:
    """The code or what it printed names every attachment."""
    written = "\n".join(step.code for step in trajectory.actions)
    named = "\n".join([written, *(step.observation for step in trajectory.actions)])
    paths = [PurePosixPath(file.path) for file in trajectory.task.files]
    untouched = [str(path) for path in paths if path.name not in named and path.stem not in written]
    return [f"These files were never looked at: {', '.join(untouched)}."] if untouched else []


def no_paths(trajectory: Trajectory) -> list[str]:
    """Neither steps nor answer show a path of a machine."""
    texts = [text for step in trajectory.actions for text in (step.model_output, step.observation, step.error or "")]
    for text in [*texts, trajectory.answer or ""]:
        for pattern in MACHINE_PATHS.values():
            for match in pattern.finditer(text):
                found = match.group(0)
                if not found.startswith("/") or found.split("/")[1] in _ROOTS:
                    return [f"It shows a path of a machine: {found}"]
    return []


class MachineFailure(T3Error):
    """The machine failed, not the task: what was lost is to be done again where the machine is well.

    Args:
        reason (`str`): what failed.
    """

    def __init__(self, reason: str):
        super().__init__(f"This machine fails, not the task: {reason} Mend that, and run the same command to resume.")
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.reason,)


def machine_failure(trajectory: Trajectory) -> str | None:
    """What failed in a run because of the machine that it ran on: a full disk, no memory, too many open files.

    The task may be as good as any other, so it is to be done again where the machine is well.
    """
    for step in trajectory.actions:
        text = f"{step.error or ''}\n{step.observation}"
        for reason in map(os.strerror, MACHINE_ERRORS):
            if reason in text:
                return reason
    return None


def grounded(trajectory: Trajectory) -> list[str]:
    """Steps state nothing that neither the query nor an earlier observation holds.

    Looked at are the numbers and names of thoughts, the numbers and names of code, and all words of the last code. How
    a tool is asked is the controller's choice. Decimal places in `round` and values that code computes need no source.
    """
    reasons = []
    known, steps = trajectory.task.text(), trajectory.actions
    for number, step in enumerate(steps, start=1):
        if step.error:
            known += f"\n{step.observation}"
            continue
        words, numbers = _words(known), numbers_in(known)
        stated_words, stated_numbers = _stated(step, is_last=number == len(steps))
        lost = sorted(stated_words - words) + [f"{value:g}" for value in sorted(stated_numbers - numbers)]
        if lost:
            reasons.append(f"Step {number} states {', '.join(lost)}, which nothing before it shows.")
        if number == len(steps):
            expression = final_expression(step.code)
            literal = expression.value if isinstance(expression, ast.Constant) else None
            if isinstance(literal, str) and _plain(literal) not in _plain(known):
                reasons.append(f"Step {number} answers {literal!r}, which nothing before it shows in these words.")
        known += f"\n{step.observation}"
    return reasons


SOLUTION = (validate, right_answer, every_step_ran, tools_in_order, grounded)
"""For the solution of a task whose answer is known: the offline teacher's programs."""
FORM = (validate, has_answer, code_ran, tools_used, files_touched, no_paths)
"""For the solution of a task whose answer is not known, before a teacher is asked about it."""
SAMPLE = (right_answer, every_step_ran, expected_tools_called)
"""For an agent's own attempt that it is trained on."""


# Text and code


def numbers_in(text: str) -> set[float]:
    """All numbers of a text, without signs. `1,200` may be one number or two cells of a row, so it counts as both."""
    found = _NUMBER.findall(text)
    cells = [cell for number in found for cell in number.split(",")]
    return {float(number.replace(",", "")) for number in [*found, *cells]}


def final_expression(code: str) -> ast.expr | None:
    """The argument of the `final_answer` call in code, if there is exactly one."""
    found = [
        node
        for node in ast.walk(parse_python(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == FINAL_ANSWER
    ]
    if len(found) != 1 or len(found[0].args) != 1 or found[0].keywords:
        return None
    return found[0].args[0]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _names(text: str) -> set[str]:
    """Capitalized words."""
    return {word.casefold() for word in _WORD.findall(text) if word[0].isupper() and len(word) > 1}


def _stated(step: Step, is_last: bool) -> tuple[set[str], set[float]]:
    """Words and numbers that a step claims to know."""
    # The first word of a sentence is capitalized whatever it is.
    words, numbers = _names(re.sub(r"^\W*\w+", "", step.thought)), numbers_in(step.thought)
    tree = parse_python(step.code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    places = {id(place) for call in calls if call.func.id == "round" for place in call.args[1:]}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in places:
            continue
        if isinstance(node.value, str):
            words |= _words(node.value) if is_last else _names(node.value)
            numbers |= numbers_in(node.value) if is_last else set()
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            numbers.add(float(node.value))
    return words, numbers
