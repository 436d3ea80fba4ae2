"""Text of models, tools and users in a Markdown page, without letting it become Markdown or HTML."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path


# An underscore inside a word, as names have it, is plain.
_MARKUP = re.compile(r"""[!"#$&'*:;<>?\[\\\]^`{|}~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])""")


def visible(text: str) -> str:
    """Write characters that can hide or reorder text as escapes, and every kind of line break as a plain one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else f"\\u{ord(c):04x}"
        for c in text
    )


def fenced(text: str, language: str = "text") -> str:
    """A code block that the text cannot close: its fence is longer than any run of backticks inside.

    Args:
        text (`str`): anything.
        language (`str`, *optional*, defaults to `"text"`): info string of the block.
    """
    text = visible(text).strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def inline(text: object) -> str:
    """Text for a table cell or a sentence: one line in which nothing is markup, a link or a mention."""
    line = " ".join(visible(str(text)).split())
    line = _MARKUP.sub(r"\\\g<0>", line).replace("@", "&#64;")
    # GitHub makes links of bare addresses; a list mark counts at the start only.
    return re.sub(r"(?i)\bwww\.", r"www\\.", re.sub(r"^([-+=])", r"\\\1", line))


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class PathScrubber:
    """Replaces places of this machine in a text by `…`: home, working and temporary folder, Python, and given ones.

    Args:
        folders (`Path`): further folders to hide.
    """

    def __init__(self, *folders: Path):
        python = [Path(sys.prefix), Path(sys.base_prefix), Path(os.__file__).parent, Path(__file__).parents[2]]
        places = [*folders, Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *python]
        found = {str(form) for place in places for form in (place.absolute(), place.resolve())} - {"/"}
        ordered = sorted(found, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, ordered))})(?![\w-])")

    def __call__(self, text: str) -> str:
        return self._pattern.sub("…", text)
