"""When two answers are the same: the one rule by which rows are kept, samples are verified and runs are scored.

Answers of this project's tasks are short and known. GTA and GAIA bring scorers of their own, and numbers under
different rules cannot be compared. There is no search for a substring: an answer inside a sentence is wrong.

1. Both answers are put into Unicode NFKC and lower case; invisible format characters are dropped, every kind of minus
   is `-`.
2. Both are split into items at `;`, line breaks, the words `and` and `&`, and commas, except a comma between a digit
   and exactly three digits (`1,250` is one number, `1, 250` is two). Items are compared one by one, in order.
3. Punctuation and white space around an item do not count, nor does a leading `a`, `an` or `the` before another word.
   Brackets, quotes and Markdown marks are punctuation, so `['a', 'b']` is `a, b`.
4. An item that is a number, with or without a currency, `%` or one unit word, is compared by its value: two whole
   numbers exactly, since they are counts, years and ids; others with a relative tolerance of 1e-9, that of
   `math.isclose`. It forgives the rounding of double precision, and tells amounts of ten million apart by a cent. A
   currency that only one side names is forgiven, two different ones are not. A percentage is not a plain number, and
   units must be the same.
5. No answer, or one of nothing but white space, is wrong.

The rule is symmetric, and every answer that is not blank is the same as itself.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal


REL_TOL = Decimal("1e-9")
"""Relative difference up to which two numbers are the same, unless both are whole."""

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
        return abs(self.value - other.value) <= REL_TOL * max(abs(self.value), abs(other.value))


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


def normalize(text: str) -> list[_Quantity | str]:
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
    found, known = normalize(prediction or ""), normalize(reference)
    if not found or len(found) != len(known):
        return False
    return all(
        a.same_as(b) if isinstance(a, _Quantity) and isinstance(b, _Quantity) else a == b
        for a, b in zip(found, known, strict=True)
    )
