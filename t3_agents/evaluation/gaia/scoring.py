"""When a GAIA answer is right: the rules of the benchmark's leaderboard.

Source: G. Mialon et al., "GAIA: a benchmark for General AI Assistants", arXiv 2311.12983 (2023), and `scorer.py` of
the Space `gaia-benchmark/leaderboard`, whose rules are these:

1. A known answer that Python's `float` reads is a number. The given answer is read as one after every `$`, `%` and `,`
   is taken out, and must be equal. What cannot be read counts as infinity.
2. Else, a known answer with `,` or `;` is a list. Both answers are split at these, the lengths must be the same, and
   items are compared in order: numbers as above, words without white space and in lower case, punctuation kept.
3. Else both are compared without white space and ASCII punctuation, in lower case.

No answer is read as the word `None`.
"""

from __future__ import annotations

import re
import string

from t3_agents.errors import InputError


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_UNITS = str.maketrans("", "", "$%,")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _same_number(answer: str, known: float) -> bool:
    value = _number(answer.translate(_NO_UNITS))
    return (float("inf") if value is None else value) == known


def _plain(text: str) -> str:
    return re.sub(r"\s", "", text).lower()


def _same_item(answer: str, known: str) -> bool:
    number = _number(known)
    return _same_number(answer, number) if number is not None else _plain(answer) == _plain(known)


def answers_match(prediction: str | None, reference: str) -> bool:
    """Whether an answer is the known one, by the rules at the top of this module.

    Args:
        prediction (`str`, *optional*): what was answered.
        reference (`str`): what is known.

    Raises:
        InputError: when the known answer is no string, or the given one is neither a string nor `None`.
    """
    if not isinstance(reference, str) or not isinstance(prediction, (str, type(None))):
        raise InputError(
            f"GAIA answers are strings, not {type(prediction).__name__} and {type(reference).__name__}: write numbers "
            "as text."
        )
    prediction = "None" if prediction is None else prediction
    number = _number(reference)
    if number is not None:
        return _same_number(prediction, number)
    if "," in reference or ";" in reference:
        found, known = re.split("[,;]", prediction), re.split("[,;]", reference)
        return len(found) == len(known) and all(map(_same_item, found, known))
    return _plain(prediction).translate(_NO_PUNCTUATION) == _plain(reference).translate(_NO_PUNCTUATION)
