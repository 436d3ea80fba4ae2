"""The tool `ask_search_agent`: facts from an offline corpus."""

from __future__ import annotations

import functools
import re
import threading

from ..errors import InputError
from .base import WorkspaceTool
from .corpus import Index, Passage
from .text import content_words, words_of


# Share of the query's words that a passage must hold to count as an answer; less where the country is right.
_COVERAGE, _COVERAGE_OF_SUBJECT = 0.6, 0.5
# Words that say how the answer should look, not what it is about.
_FILLER = set(
    """country nation fact information official current currently latest long big large number amount search factbook
    cia located sq km square kilometer mile""".split()
)

# What the Factbook calls things.
_TERMS = {
    r"\bprime minister\b": "head of government executive branch",
    r"\b(president|king|queen|monarch)\b": "chief of state executive branch",
    r"\b(currency|money)\b": "exchange rate currency",
    r"\b(mountain|peak|summit)\b": "elevation point",
    r"\bspoken\b": "language",
    r"\bcity\b": "urban area",
}

_lock = threading.Lock()


@functools.lru_cache(maxsize=4)
def _index(folder: str | None) -> Index:
    return Index(folder)


class AskSearchAgent(WorkspaceTool):
    """Searches the CIA World Factbook, and a folder of texts if one is given, without a network.

    Args:
        corpus (`str`, *optional*): a folder of .txt and .md files to search besides the Factbook.
        max_chars (`int`, *optional*, defaults to 300): longest answer without its source, in characters.
    """

    name = "ask_search_agent"
    description = "Searches an offline corpus (facts about all countries); returns the best passage and its source."
    inputs = {"query": {"type": "string", "description": "what to search for, a few words"}}
    output_type = "string"

    def __init__(self, corpus: str | None = None, max_chars: int = 300):
        super().__init__(corpus=corpus, max_chars=max_chars)

    def forward(self, query: str) -> str:
        if not isinstance(query, str) or not query.strip():
            raise InputError("`query` must be a few words to search for.")
        # The abbreviation would be lost among the stop words.
        query = re.sub(r"\bU\.?S\.?(A\.?|A?\b)", "United States", query)
        for pattern, words in _TERMS.items():
            query = re.sub(pattern, words, query, flags=re.IGNORECASE)
        asked = content_words(query)
        asked = asked - _FILLER or asked
        if not asked:
            return f"Nothing about `{query[:80]}` was found: name what to search for."
        with _lock:
            index = _index(self.settings["corpus"])
        subjects, names = index.subjects(asked)
        # A country alone asks for what it is.
        topic = asked - names or {"background"}
        needed = (_COVERAGE_OF_SUBJECT if subjects else _COVERAGE) * len(topic)
        best, best_score = None, 0.0
        for passage, score in index.search(topic, subjects):
            if len(topic & passage.words()) >= needed:
                score *= _fit(passage, topic)
                if score > best_score:
                    best, best_score = passage, score
        if best is None:
            return f"Nothing about `{query[:80]}` was found; the corpus holds facts about countries."
        return f"{best.title}: {best_sentences(best, asked, self.settings['max_chars'])} [{best.source}]"


def _fit(passage: Passage, topic: set[str]) -> float:
    """How much the names of a passage's field and sub-fields are what was asked: 1 (not at all) to 10.

    It puts `Population` before `Population growth rate`.
    """
    field = content_words(passage.field)
    share = len(field & topic) / max(1, len(field))
    return 1 + 4 * share + 3 * (share == 1) + 2 * len(passage.labels & topic) / len(topic)


def best_sentences(passage: Passage, asked: set[str], limit: int) -> str:
    """The sentence that shares most words with the question, and those after it as long as there is room."""
    sentences = [part for part in re.split(r"(?<=[.;!?])\s+", passage.text) if part.strip()]
    asked = asked - content_words(passage.title)
    overlaps = [len(asked & set(words_of(sentence))) for sentence in sentences]
    start = overlaps.index(max(overlaps))
    text = sentences[start]
    for sentence in sentences[start + 1 :]:
        if len(text) + 1 + len(sentence) > limit:
            break
        text += f" {sentence}"
    return text.rstrip(";") if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " ..."
