"""How GTA is scored: the rules of the benchmark's own evaluator, and those of the paper on agent tuning.

Source: J. Wang et al., "GTA: A Benchmark for General Tool Agents", arXiv 2407.08713 (2024), and the evaluator of its
repository (`gta_bench.py`), whose rules are these:

- A known answer with a whitelist holds groups of aliases. Each group needs one alias in the answer, as a literal,
  whatever its case, between two word boundaries (`\\b`). An alias of the blacklist, found in the same way, makes the
  answer wrong.
- A known answer that is a list of texts is open. Its score is the highest cosine similarity of sentence embeddings
  (all-mpnet-base-v2) between the answer and one of the texts, at least 0: a number, not a yes or no.
- A task without a known answer asks for a picture. It counts only in the accuracy with image generation: every call of
  the solution to a tool that makes a picture must be there, and the score is the product of the similarities of the
  arguments, written as JSON, to those of the last such call that raised nothing.
- Tool F1, per category: a call of the solution is found when its tool was called at all; precision is found over
  calls made, recall found over calls of the solution.
- Step by step, each turn of the solution is predicted from those before it. InstAcc: the turn is of the right kind
  (call or answer) and without an error, out of all calls and all answers that can be checked. ToolAcc and ArgAcc: the
  call names the right tool, and has equal arguments too, out of all calls. SummAcc: score of the predicted answers.

[Multi-Modal Agent Tuning](https://arxiv.org/abs/2412.15606) reports GTA by a looser rule (`examples/gta/eval.py` of
its repository): any alias of each group as a substring, no blacklist, open answers and pictures left out.

Turns are in the form of GTA's `dialogs`: `{"role": "assistant", "tool_calls": [{"function": {"name", "arguments"}}]}`,
with `error` where a call failed, or `{"role": "assistant", "content": ...}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t3_agents.errors import InputError

from ..statistics import pool, summed


CATEGORIES = {
    "perception": ("OCR", "ImageDescription", "RegionAttributeDescription", "TextToBbox"),
    "operation": ("DrawBox", "AddText", "GoogleSearch"),
    "logic": ("Calculator", "Solver", "Plot", "MathOCR", "CountGivenObject"),
    "creativity": ("TextToImage", "ImageStylization"),
}
"""GTA's tools by category."""
IMAGE_TOOLS = ("DrawBox", "AddText", "Plot", "TextToImage", "ImageStylization")
"""Tools whose arguments are compared where a picture is asked for."""
SCORINGS = ("official", "paper")
"""The benchmark's own rules, and the looser ones of the paper on agent tuning."""
TOOLS = tuple(name for names in CATEGORIES.values() for name in names)

Embed = Callable[[Sequence[str]], np.ndarray]
"""Sentence embeddings: texts to an array of shape `(texts, width)`."""
Known = Mapping[str, Any] | Sequence[str] | None
"""A known answer: `{"whitelist": ..., "blacklist": ...}`, texts of an open answer, or nothing for a picture."""
Turn = Mapping[str, Any]


def check_known(known: Any) -> None:
    """Check the form of a known answer.

    Raises:
        InputError: when it is none of the three kinds.
    """
    if known is None:
        return
    if isinstance(known, list):
        if not all(isinstance(text, str) for text in known):
            raise InputError("An open answer must be a list of texts.")
        return
    if not isinstance(known, dict):
        raise InputError(f"A known answer must be an object, a list of texts or null, not {type(known).__name__}.")
    _check_groups(known.get("whitelist"), "whitelist")
    _check_groups(known.get("blacklist") or [], "blacklist")


def _check_groups(groups: Any, name: str) -> None:
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise InputError(f"The {name} of a known answer must be a list of lists of aliases.")
    if not all(isinstance(alias, str) for group in groups for alias in group):
        raise InputError(f"The {name} of a known answer holds an alias that is no text.")


def _mentions(text: str, aliases: Sequence[str]) -> bool:
    pattern = "|".join(map(re.escape, aliases))
    return re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE) is not None


def lists_match(prediction: str, known: Mapping[str, Any]) -> bool:
    """Whether an answer passes the whitelist and the blacklist.

    Args:
        prediction (`str`): what was answered.
        known (`dict`): `whitelist` and `blacklist`, each a list of lists of aliases; the blacklist may be `None`.
    """
    if not all(_mentions(prediction, group) for group in known["whitelist"]):
        return False
    unwanted = known.get("blacklist")
    return not unwanted or not _mentions(prediction, [alias for group in unwanted for alias in group])


def similarity(first: str, second: str, embed: Embed) -> float:
    """Cosine similarity of two texts' embeddings, at least 0."""
    a, b = np.asarray(embed([first, second]), dtype=float)
    return max(0.0, float(a @ b / (max(np.linalg.norm(a), 1e-12) * max(np.linalg.norm(b), 1e-12))))


def answer_score(prediction: str | None, known: Known, embed: Embed | None) -> float | None:
    """Score of an answer in 0..1; `None` where it cannot be checked: nothing is known, or there are no embeddings.

    Args:
        prediction (`str`, *optional*): what was answered; nothing is wrong.
        known (`dict` or `list[str]`, *optional*): the known answer.
        embed (`Callable`, *optional*): embeddings, for open answers.
    """
    if not known or (embed is None and not isinstance(known, Mapping)):
        return None
    if prediction is None:
        return 0.0
    if isinstance(known, Mapping):
        return float(lists_match(prediction, known))
    return max(similarity(prediction, text, embed) for text in known)


def paper_score(prediction: str | None, known: Known) -> float | None:
    """Score by the looser rule of the paper on agent tuning; `None` for rows that it leaves out.

    No answer is read as the word `None`, as there.
    """
    groups = known.get("whitelist") if isinstance(known, Mapping) else known
    if groups is None or any(isinstance(group, str) for group in groups):
        return None
    text = str(prediction).lower()
    return float(all(any(alias.lower() in text for alias in group) for group in groups))


def call_of(turn: Turn) -> Mapping[str, Any] | None:
    """The first call of a turn, `{"name", "arguments"}`, or nothing."""
    return turn["tool_calls"][0]["function"] if "tool_calls" in turn else None


def image_score(turns: Sequence[Turn], solution: Sequence[Turn], embed: Embed) -> float:
    """Score of a task that asks for a picture, by the arguments of the calls that make one.

    Args:
        turns (`list[dict]`): what was done.
        solution (`list[dict]`): what the solution does.
        embed (`Callable`): embeddings.
    """
    made = {call["name"]: call["arguments"] for turn in turns if "error" not in turn and (call := call_of(turn))}
    score = 1.0
    for call in filter(None, map(call_of, solution)):
        if call["name"] in IMAGE_TOOLS:
            if call["name"] not in made:
                return 0.0
            score *= similarity(json.dumps(call["arguments"]), json.dumps(made[call["name"]]), embed)
    return score


def end_to_end_counts(
    turns: Sequence[Turn], solution: Sequence[Turn], known: Known, embed: Embed | None
) -> dict[str, list[float]]:
    """Counts of a task that was solved from the query alone, see `statistics.py`.

    Args:
        turns (`list[dict]`): what was done; the answer, if there is one, is the last of them.
        solution (`list[dict]`): turns of the dataset's solution.
        known (`dict` or `list[str]`, *optional*): the known answer.
        embed (`Callable`, *optional*): embeddings; without them open answers and pictures are left out.

    Returns:
        `dict`: `ans_acc` and `ans_acc_image` (score, 1) where the task counts, and per category `f1_<category>`
            (found, predicted, expected).

    Raises:
        InputError: when the solution calls a tool that GTA does not have.
    """
    last = turns[-1] if turns else {}
    answer = last.get("content") if last.get("role") == "assistant" and "tool_calls" not in last else None
    counts: dict[str, list[float]] = {}
    score = answer_score(answer or None, known, embed)  # end to end, an empty answer is none
    if score is not None:
        counts["ans_acc"] = counts["ans_acc_image"] = [score, 1]
    elif not known and embed is not None:
        counts["ans_acc_image"] = [image_score(turns, solution, embed), 1]
    called = [call["name"] for call in map(call_of, turns) if call]
    expected = [call["name"] for call in map(call_of, solution) if call]
    unknown = sorted(set(expected) - set(TOOLS))
    if unknown:
        raise InputError(f"GTA has no tool `{unknown[0]}`: the solution may call {', '.join(TOOLS)}.")
    for category, names in CATEGORIES.items():
        wanted = [name for name in expected if name in names]
        found = sum(name in called for name in wanted)
        counts[f"f1_{category}"] = [found, sum(name in names for name in called), len(wanted)]
    return counts


def step_counts(
    turns: Sequence[Turn], solution: Sequence[Turn], known: Known, embed: Embed | None
) -> dict[str, list[float]]:
    """Counts of a task whose turns were predicted one by one from the solution's turns before them.

    As in GTA's evaluator, the last answer of a task that asks for a picture may count as right in InstAcc, but not
    among the turns that are counted.

    Args:
        turns (`list[dict]`): the predicted turn for each turn of the assistant.
        solution (`list[dict]`): the assistant's turns of the solution.
        known (`dict` or `list[str]`, *optional*): the known answer.
        embed (`Callable`, *optional*): embeddings; without them open answers are left out of SummAcc.

    Returns:
        `dict`: `inst_acc`, `tool_acc`, `arg_acc` and `summ_acc`, each (right, out of).
    """
    calls = sum(call_of(turn) is not None for turn in solution)
    inst = tool = arguments = summary = 0.0
    for turn, wanted in zip(turns, solution, strict=True):
        call, expected = call_of(turn), call_of(wanted)
        if (call is None) != (expected is None):
            continue
        inst += "error" not in turn
        if call is not None and expected is not None and call["name"] == expected["name"]:
            tool += 1
            arguments += call["arguments"] == expected["arguments"]
        elif call is None:
            summary += answer_score(turn.get("content"), known, embed) or 0.0
    counts = {
        "inst_acc": [inst, calls + bool(known)],
        "tool_acc": [tool, calls],
        "arg_acc": [arguments, calls],
        "summ_acc": [summary, int(bool(known))],
    }
    if embed is None and isinstance(known, Sequence):
        del counts["summ_acc"]
    return counts


def pool_counts(rows: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Metrics over all tasks as GTA's evaluator writes them: 0, and not nothing, where nothing was counted.

    Args:
        rows (`list[dict]`): counts of the tasks, see [`end_to_end_counts`] and [`step_counts`].

    Returns:
        `dict[str, float]`: fractions in 0..1 (the evaluator writes percentages).
    """
    columns: dict[str, list[Sequence[float]]] = {}
    for row in rows:
        for name, counts in row.items():
            columns.setdefault(name, []).append(counts)
    values = {name: float(pool(summed(counts).sum(axis=0))) for name, counts in columns.items()}
    return {name: 0.0 if math.isnan(value) else value for name, value in values.items()}


def assistant_turns(dialogs: Sequence[Turn]) -> list[Turn]:
    """The turns of the assistant."""
    return [turn for turn in dialogs if turn.get("role") == "assistant"]


def check_reference(row: Any) -> None:
    """Check a solution with its known answer, as the metric modules take it.

    Raises:
        InputError: when the row has another form, or its known answer.
    """
    if not isinstance(row, dict) or not isinstance(row.get("dialogs"), list) or "gt_answer" not in row:
        raise InputError('A reference must be an object {"dialogs": list of turns, "gt_answer": known answer}.')
    check_known(row["gt_answer"])


def check_steps(turns: Sequence[Turn], dialogs: Sequence[Turn]) -> None:
    """Check that there is a predicted turn for each turn of the assistant.

    Raises:
        InputError: when the numbers differ.
    """
    expected = len(assistant_turns(dialogs))
    if len(turns) != expected:
        raise InputError(f"There are {len(turns)} predicted turns for {expected} turns of the assistant.")
