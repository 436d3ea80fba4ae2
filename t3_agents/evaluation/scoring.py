"""How trajectories are scored: AnsAcc, ToolAcc and CodeExec, each with its 95 % interval.

The three measures are those of [Multi-Modal Agent Tuning](https://arxiv.org/abs/2412.15606). The rules by which an
answer counts as right are those of this project's own scenarios, whose answers are short and known; GTA and GAIA bring
scorers of their own, and numbers under the two sets of rules cannot be compared.

**When two answers are the same.** There is no search for a substring: an answer inside a sentence is wrong.

1. Both are put into Unicode NFKC and lower case; invisible format characters are dropped, every kind of minus is `-`.
2. Both are split into items at `;`, line breaks, the words `and` and `&`, and commas, except a comma between a digit
   and exactly three digits (`1,250` is one number, `1, 250` is two). Items are compared one by one, in order.
3. Punctuation and white space around an item do not count, nor does a leading `a`, `an` or `the` before another word.
   Brackets, quotes and Markdown marks are punctuation, so `['a', 'b']` is `a, b`.
4. An item that is a number, with or without a currency, `%` or one unit word, is compared as a number: integers
   exactly, others to 12 digits. A currency that only one side names is forgiven, two different ones are not. A
   percentage is not a plain number, and units must be the same.
5. No answer, or one of nothing but white space, is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..errors import InputError
from ..trajectory import Trajectory
from .results import TaskScore
from .statistics import wilson_interval


METRICS = ("ans_acc", "tool_acc", "code_exec")
FINAL_ANSWER = "final_answer"

_CURRENCIES = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr"}
_CURRENCY_CODES = {*_CURRENCIES.values(), "chf", "cny"}
_MINUSES = str.maketrans("‐‑‒–—−", "------")
# A comma between a digit and exactly three digits groups thousands.
_SEPARATOR = re.compile(r"[;\n\r]|\s(?:and|&)\s|,(?!(?<=[0-9],)[0-9]{3}(?![0-9]))")
_SIGNED_DIGIT = re.compile(r"[-+]?[$€£¥₹]?[-+]?\.?[0-9]")
_ARTICLES = re.compile(r"^(?:(?:an?|the)\s+)+(?=\S)")
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<before>[$€£¥₹]|(?:[a-z]{3}(?=[\s0-9.+-])))?\s*(?P<inner>[-+]?)"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?P<power>e[-+]?[0-9]{1,3})?"
    r"\s*(?P<after>[$€£¥₹%]|[^\W\d_]+)?"
)


@dataclass(frozen=True)
class _Quantity:
    value: Decimal
    currency: str = ""
    unit: str = ""

    def same_as(self, other: _Quantity) -> bool:
        if self.unit != other.unit or (self.currency and other.currency and self.currency != other.currency):
            return False
        if self.value == other.value:
            return True
        if self.value == self.value.to_integral_value() and other.value == other.value.to_integral_value():
            return False
        return abs(self.value - other.value) <= Decimal("1e-12") * max(abs(self.value), abs(other.value))


def _quantity(text: str) -> _Quantity | None:
    match = _NUMBER.fullmatch(text)
    if not match or (match["sign"] and match["inner"]):
        return None
    before, after = match["before"] or "", match["after"] or ""
    before = _CURRENCIES.get(before, before)
    after = _CURRENCIES.get(after, after)
    if before and before not in _CURRENCY_CODES:
        return None
    value = Decimal((match["sign"] or match["inner"]) + match["digits"].replace(",", "") + (match["power"] or ""))
    if after not in _CURRENCY_CODES:
        return _Quantity(value, before, after)
    return None if before and before != after else _Quantity(value, after)


def _is_edge(character: str) -> bool:
    return character.isspace() or character == "`" or unicodedata.category(character)[0] == "P"


def _strip(text: str) -> str:
    """Drop punctuation around an item, but no sign or decimal point before a digit, and no `%` or `#` after one."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]) and not _SIGNED_DIGIT.match(text, start):
        start += 1
    while end > start and _is_edge(text[end - 1]) and text[end - 1] not in "%#":
        end -= 1
    return text[start:end]


def normalise(text: str) -> list[_Quantity | str]:
    """The items of an answer in the form in which they are compared; see the rules at the top of this module.

    Args:
        text (`str`): an answer.

    Returns:
        `list`: numbers with their currency and unit, or words. Empty when the text is blank.
    """
    text = unicodedata.normalize("NFKC", text).translate(_MINUSES).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf").strip()
    items = [_ARTICLES.sub("", item, count=1) for item in map(_strip, _SEPARATOR.split(text)) if item]
    if not items:
        return [text] if text else []
    return [_quantity(item) or " ".join(item.split()) for item in items]


def answers_match(prediction: str | None, reference: str) -> bool:
    """Whether an answer is the known one, by the rules at the top of this module.

    Args:
        prediction (`str`, *optional*): what was answered.
        reference (`str`): what is known.
    """
    found, known = normalise(prediction or ""), normalise(reference)
    if not found or len(found) != len(known):
        return False
    return all(
        a.same_as(b) if isinstance(a, _Quantity) and isinstance(b, _Quantity) else a == b
        for a, b in zip(found, known, strict=True)
    )


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
        if not normalise(reference):
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
            for right in _in_place(found, [(tool,) for tool in known])
        ],
    )


def _in_place(found: Sequence[str], known: Sequence[Sequence[str]]) -> list[bool]:
    return [index < len(found) and found[index] in tools for index, tools in enumerate(known)]


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


def tools_called(trajectory: Trajectory) -> list[str]:
    """Tools that a trajectory called, in order, without `final_answer`."""
    return [tool for step in trajectory.actions for tool in step.tools if tool != FINAL_ANSWER]


def turns_ran(trajectory: Trajectory) -> list[bool]:
    """For each action of a trajectory, whether it held code that ran without an error."""
    return [bool(step.code.strip()) and step.error is None for step in trajectory.actions]


def is_correct(trajectory: Trajectory) -> bool | None:
    """Whether the answer is the known one; `None` when none is known."""
    known = trajectory.task.ground_truth
    if known is None or not normalise(known):
        return None
    return answers_match(trajectory.answer, known)


def calls_in_place(trajectory: Trajectory, expected: Sequence[Sequence[str]]) -> list[bool]:
    """For each expected call, whether one of the tools that may do it was called in its place; see [`tool_acc`]."""
    return _in_place(tools_called(trajectory), expected)


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
            [[tool for tool in t.task.tools if tool != FINAL_ANSWER] for t in trajectories],
        ),
        "code_exec": code_exec([turns_ran(t) for t in trajectories]),
    }
    return {
        **{name: results[name][name] for name in METRICS},
        "n": len(trajectories),
        "counts": {name: results[name]["n"] for name in METRICS},
        "ci95": {name: results[name]["ci95"] for name in METRICS},
    }
