"""How trajectories are scored: AnsAcc, ToolAcc and CodeExec, each with its 95 % interval.

The three measures are those of [Multi-Modal Agent Tuning](https://arxiv.org/abs/2412.15606); answers are compared by
the rule in `answers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..answers import answers_match, normalize
from ..errors import InputError
from ..trajectory import Trajectory
from ..verifiers import calls_in_place, is_correct, tools_called, tools_expected, turns_ran
from .results import TaskScore
from .statistics import wilson_interval


METRICS = ("ans_acc", "tool_acc", "code_exec")


def _rate(name: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    right, n = sum(outcomes), len(outcomes)
    return {name: right / n if n else None, "n": n, "ci95": wilson_interval(right, n)}


def _check_list(values: Any, name: str, kinds: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(values, (list, tuple)):
        raise InputError(f"`{name}` must be a list with one entry per trajectory, not {type(values).__name__}.")
    for index, value in enumerate(values):
        if not isinstance(value, kinds):
            raise InputError(f"Entry {index} of `{name}` must be {wanted}, not {type(value).__name__}.")


def _check_inner(values: Sequence[Sequence[Any]], name: str, kind: type) -> None:
    for index, inner in enumerate(values):
        for value in inner:
            if not isinstance(value, kind):
                raise InputError(
                    f"Entry {index} of `{name}` must hold {kind.__name__} values, not {type(value).__name__}."
                )


def _check_lengths(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    if len(predictions) != len(references):
        raise InputError(
            f"There are {len(predictions)} predictions but {len(references)} references: give one each per trajectory."
        )


def check_answers(predictions: Any, references: Any) -> None:
    """Check the input of [`ans_acc`].

    Raises:
        InputError: saying which argument or entry is wrong.
    """
    _check_list(predictions, "predictions", (str, type(None)), "a string or None")
    _check_list(references, "references", str, "a string")
    _check_lengths(predictions, references)
    for index, reference in enumerate(references):
        if not normalize(reference):
            raise InputError(f"Entry {index} of `references` is blank: leave out trajectories without a known answer.")


def check_calls(predictions: Any, references: Any) -> None:
    """Check the input of [`tool_acc`].

    Raises:
        InputError: saying which argument or entry is wrong.
    """
    for values, name in ((predictions, "predictions"), (references, "references")):
        _check_list(values, name, (list, tuple), "a list of tool names")
        _check_inner(values, name, str)
    _check_lengths(predictions, references)


def check_turns(predictions: Any) -> None:
    """Check the input of [`code_exec`].

    Raises:
        InputError: saying which entry is wrong.
    """
    _check_list(predictions, "predictions", (list, tuple), "a list of booleans, one per turn")
    _check_inner(predictions, "predictions", bool)


def ans_acc(predictions: Sequence[str | None], references: Sequence[str]) -> dict[str, Any]:
    """Share of answers that are right.

    Args:
        predictions (`list[str]`): what was answered; `None` where nothing was.
        references (`list[str]`): what is known.

    Returns:
        `dict`: `ans_acc` in 0..1, `n` answers, `ci95` bounds; `None` in place of numbers when there are no answers.

    Raises:
        InputError: when an argument is no list, an entry has a wrong type, or the lengths differ.
    """
    check_answers(predictions, references)
    return _rate(
        "ans_acc", [answers_match(found, known) for found, known in zip(predictions, references, strict=True)]
    )


def tool_acc(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Share of expected tool calls that were made in their place.

    The i-th expected call is right when the i-th call names the same tool. An extra call shifts those after it; calls
    after the last expected one do not count.

    Args:
        predictions (`list[list[str]]`): tools that were called, in order, without `final_answer`.
        references (`list[list[str]]`): tools that were expected, in order.

    Returns:
        `dict`: `tool_acc` in 0..1, `n` expected calls, `ci95` bounds; `None` in place of numbers when none is
            expected.

    Raises:
        InputError: when an argument is no list, an entry has a wrong type, or the lengths differ.
    """
    check_calls(predictions, references)
    return _rate(
        "tool_acc",
        [
            right
            for found, known in zip(predictions, references, strict=True)
            for right in calls_in_place(found, [(tool,) for tool in known])
        ],
    )


def code_exec(predictions: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """Share of turns whose code ran without an error.

    Args:
        predictions (`list[list[bool]]`): per trajectory one value for each turn that the controller produced: whether
            it held code that ran without an error. A turn without code that could be parsed is `False`.

    Returns:
        `dict`: `code_exec` in 0..1, `n` turns, `ci95` bounds; `None` in place of numbers when there are no turns.

    Raises:
        InputError: when it is no list or an entry has a wrong type.
    """
    check_turns(predictions)
    return _rate("code_exec", [ran for turns in predictions for ran in turns])


def base_score(trajectory: Trajectory, prices: tuple[float, float] | None = None) -> TaskScore:
    """What every benchmark counts of a run: CodeExec, tokens, time and cost, and how it ended without an answer.

    Args:
        trajectory ([`Trajectory`]): the run.
        prices (`tuple[float, float]`, *optional*): of a million input and of a million output tokens.
    """
    read, written = trajectory.provenance.get("formatting_tokens", [0, 0])
    read += sum(step.input_tokens for step in trajectory.steps)
    written += sum(step.output_tokens for step in trajectory.steps)
    ran = turns_ran(trajectory)
    return TaskScore(
        task_id=trajectory.task.id,
        seed=trajectory.provenance.get("seed", 0),
        counts={"code_exec": [sum(ran), len(ran)]},
        reason=trajectory.provenance.get("failure") or (trajectory.end_reason if trajectory.answer is None else None),
        usage={
            "input_tokens": read,
            "output_tokens": written,
            "seconds": round(sum(step.seconds for step in trajectory.steps), 3),
            "cost": None if prices is None else (read * prices[0] + written * prices[1]) / 1e6,
        },
    )


def score(trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """AnsAcc, ToolAcc and CodeExec of trajectories.

    Trajectories without a known answer count for the other two only, those without expected tools not for ToolAcc. One
    that failed before its first turn has a wrong answer, no right call and no turns.

    Args:
        trajectories (`Iterable[Trajectory]`): what was run.

    Returns:
        `dict`: `ans_acc`, `tool_acc` and `code_exec` in 0..1 (`None` where nothing was counted), `n` trajectories,
        `counts` (answers, expected calls and turns by metric), and `ci95` (bounds by metric).
    """
    trajectories = list(trajectories)
    known = [t for t in trajectories if is_correct(t) is not None]
    results = {
        "ans_acc": ans_acc([t.answer for t in known], [t.task.ground_truth for t in known]),
        "tool_acc": tool_acc(
            [tools_called(t) for t in trajectories],
            [tools_expected(t.task) for t in trajectories],
        ),
        "code_exec": code_exec([turns_ran(t) for t in trajectories]),
    }
    return {
        **{name: results[name][name] for name in METRICS},
        "n": len(trajectories),
        "counts": {name: results[name]["n"] for name in METRICS},
        "ci95": {name: results[name]["ci95"] for name in METRICS},
    }
