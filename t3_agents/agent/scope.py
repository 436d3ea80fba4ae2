"""What an agent was tuned for, and whether a task is outside of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from ..task import Task
from ..tools.local.text import content_words


MAX_QUESTIONS, MAX_WORDS = 12, 600
_FILE = re.compile(r"files/[^\s,]+?\.(\w{1,5})\b")


def scope_of(tasks: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What tasks are about.

    Args:
        tasks (`Iterable[tuple[str, str]]`): the words of each task with its `Files:` line, and its family, if any.

    Returns:
        `dict`: `files` (suffixes), `questions` (examples, of different families first) and `words` (stems that the
            questions use; none where they are too many to say anything).
    """
    suffixes: set[str] = set()
    words: set[str] = set()
    first: dict[str, str] = {}
    for text, family in tasks:
        question, _, _ = text.partition("\nFiles: ")
        suffixes.update(found.lower() for found in _FILE.findall(text))
        words.update(word for word in content_words(question) if not word[0].isdigit())
        first.setdefault(family or question, question)
    questions = [question for question in first.values() if len(question) <= 200][:MAX_QUESTIONS]
    return {
        "files": sorted(suffixes),
        "questions": questions,
        "words": sorted(words) if len(words) <= MAX_WORDS else [],
    }


def outside(scope: dict[str, Any], task: Task) -> str | None:
    """Why a task is outside of what an agent was tuned for, in a sentence; `None` when it is not, or nobody knows.

    Args:
        scope (`dict`): what [`scope_of`] gave.
        task ([`Task`]): what is asked.
    """
    kinds, known = set(scope.get("files", ())), set(scope.get("words", ()))
    strange = sorted({PurePosixPath(file.path).suffix[1:].lower() for file in task.files} - kinds)
    if kinds and strange:
        return f"This agent was tuned on {', '.join(sorted(kinds))} files, not on {', '.join(strange)}."
    asked = {word for word in content_words(task.query) if not word[0].isdigit()}
    if known and asked and len(asked & known) < len(asked) / 2:
        example = next(iter(scope.get("questions", ())), "")
        return f'This agent was tuned on other questions, such as "{example}".'
    return None
