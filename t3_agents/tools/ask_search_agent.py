"""The tool `ask_search_agent`: facts from an offline corpus."""

from __future__ import annotations

import re

from ..errors import InputError
from .base import WorkspaceTool
from .local.corpus import Passage, best_sentences, shared_index
from .local.text import content_words


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


class AskSearchAgent(WorkspaceTool):
    """Searches the CIA World Factbook, and a folder of texts if one is given, without a network.

    Args:
        corpus (`str`, *optional*): a folder of .txt and .md files to search besides the Factbook.
        max_chars (`int`, *optional*, defaults to 300): longest answer without its source, in characters.
    """

    name = "ask_search_agent"
    description = "Searches an offline corpus (facts about all countries); returns the best passage and its source."
    inputs = {"query": {"type": "string", "description": "what to search for, a few words"}}

    corpus: str | None = None
    max_chars: int = 300

    def forward(self, query: str) -> str:
        if not isinstance(query, str) or not query.strip():
            raise InputError("`query` must be a few words to search for.")
        found, asked = find_passages(query, self.corpus)
        if not asked:
            return f"Nothing about `{query[:80]}` was found: name what to search for."
        if not found:
            return f"Nothing about `{query[:80]}` was found; the corpus holds facts about countries."
        best = found[0]
        return f"{best.title}: {best_sentences(best, asked, self.max_chars)} [{best.source}]"


def find_passages(query: str, corpus: str | None) -> tuple[list[Passage], set[str]]:
    """Passages that hold enough of a query's words, the best first, and the stems that were looked for.

    Args:
        query (`str`): a question or a few words.
        corpus (`str`, *optional*): a folder of texts besides the Factbook.
    """
    # The abbreviation would be lost among the stop words.
    query = re.sub(r"\bU\.?S\.?(A\.?|A?\b)", "United States", query)
    for pattern, words in _TERMS.items():
        query = re.sub(pattern, words, query, flags=re.IGNORECASE)
    asked = content_words(query)
    asked = asked - _FILLER or asked
    if not asked:
        return [], asked
    index = shared_index(corpus)
    subjects, names = index.subjects(asked)
    # A country alone asks for what it is.
    topic = asked - names or {"background"}
    needed = (_COVERAGE_OF_SUBJECT if subjects else _COVERAGE) * len(topic)
    found = [(p, score) for p, score in index.search(topic, subjects) if len(topic & p.words()) >= needed]
    found.sort(key=lambda hit: hit[1] * _fit(hit[0], topic), reverse=True)
    return [passage for passage, _ in found], asked


def _fit(passage: Passage, topic: set[str]) -> float:
    """How much the names of a passage's field and sub-fields are what was asked: 1 (not at all) to 10.

    It puts `Population` before `Population growth rate`.
    """
    field = content_words(passage.field)
    share = len(field & topic) / max(1, len(field))
    return 1 + 4 * share + 3 * (share == 1) + 2 * len(passage.labels & topic) / len(topic)
