"""Words that two texts share, and texts that fit in an observation."""

from __future__ import annotations

import functools
import re


# Function words, and words that questions about a file are made of.
STOP_WORDS = frozenset(
    """a about all also an and any are as at be been between both but by can contain contains could describe did do
    does document each every file find for from get give given had has have here his how i if image in into is it its
    let list look many me mentioned more most much my no not of on one only or our out page paper per photo picture
    please read return row say says see sheet show shown shows so some tell text than that the their them then there
    these they this to up us use was we were what when where which who whom whose why will with word words would
    write written you your""".split()
)


@functools.lru_cache(maxsize=2**15)
def stem(word: str) -> str:
    """Lower-case word without a plural ending."""
    word = word.lower()
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


_STOP_STEMS = frozenset(map(stem, STOP_WORDS))


def words_of(text: str) -> list[str]:
    """Stems of all words and numbers of a text, in order; `1,200` is one number."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    return [stem(word) for word in re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text)]


def content_words(text: str) -> set[str]:
    """Stems that carry meaning: no stop words, no single letters."""
    return {word for word in words_of(text) if word not in _STOP_STEMS and (len(word) > 1 or word.isdigit())}


def shorten(text: str, limit: int) -> str:
    """Cut a text at a line or word end and say how much is missing."""
    if len(text) <= limit:
        return text
    cut = cut_at_word(text, limit)
    return f"{cut}\n[{len(text) - len(cut)} more characters cut]"


def cut_at_word(text: str, limit: int) -> str:
    """The start of a text, up to the last line or word end before a number of characters."""
    cut = text[:limit]
    end = max(cut.rfind("\n"), cut.rfind(" "))
    return (cut[:end] if end > limit // 2 else cut).rstrip()


def take_quoted(text: str) -> tuple[str, list[str]]:
    """A text with `<0>`, `<1>`, ... for what stands in quotes, and those pieces with their quotes."""
    quoted: list[str] = []

    def take(match: re.Match) -> str:
        quoted.append(match.group(0))
        return f"<{len(quoted) - 1}>"

    # Within single quotes, one between two letters is an apostrophe.
    return re.sub(r"\"[^\"]*\"|“[^”]*”|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)", take, text), quoted


def put_back(text: str, quoted: list[str]) -> str:
    """Undo [`take_quoted`]."""
    return re.sub(r"<(\d+)>", lambda match: quoted[int(match.group(1))], text)
