"""Reading what a controller wrote: thought, code, tools called; and wording what it is told about failures."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from .trajectory import CODE_CLOSE, CODE_OPEN


FENCE = "```"


def parse_turn(text: str, tags: tuple[str, str] = (CODE_OPEN, CODE_CLOSE)) -> tuple[str, str, int]:
    """Split an assistant turn into its parts.

    Args:
        text (`str`): what the model wrote.
        tags (`tuple[str, str]`): opening and closing tag; ```` ```python ```` and a plain closing fence are understood
            too.

    Returns:
        `tuple[str, str, int]`: thought, code of the first block, and the number of blocks. A block that was never
            closed has no code but counts.
    """
    opening = re.compile(f"(?:{re.escape(tags[0])}|{FENCE}python|{FENCE}py)[^\\S\\n]*\\n")
    starts = list(opening.finditer(text))
    thought = text[: starts[0].start()] if starts else text
    thought = thought.strip().removeprefix("Thought:").removesuffix("Code:").strip()
    if not starts:
        return thought, "", 0
    body = text[starts[0].end() :]
    closing = re.search(f"{re.escape(tags[1])}|^{FENCE}", body, re.MULTILINE)
    return thought, body[: closing.start()].strip("\n") if closing else "", len(starts)


def called_tools(code: str, names: Collection[str]) -> list[str]:
    """Names of the tools that `code` calls, in the order of the source. Code that does not parse calls none."""
    try:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = [node.func for node in calls if isinstance(node.func, ast.Name) and node.func.id in names]
    return [name.id for name in sorted(named, key=lambda name: (name.lineno, name.col_offset))]


def execution_error(error: Exception) -> str:
    """The part of an executor's message that helps the model: what went wrong at which line, without boilerplate."""
    text = str(error).strip() or type(error).__name__
    text = text.split("due to: ", 1)[-1] if text.startswith("Code execution failed at line") else text
    return shorten(text, 500)


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters: what is too much is taken out of the middle, and said."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
