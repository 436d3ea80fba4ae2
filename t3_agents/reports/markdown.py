"""Text of models, tools and users in Markdown and HTML, without letting it become markup."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from jinja2 import Environment

# An underscore inside a word, as names have it, is plain, and so is a colon that is not of an address or an emoji.
_MARKUP = re.compile(r"[#$&*<>\[\\\]^`{|}~]|:(?=//|[\w+-]+:)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# Marks of a list count at the start only.
_LIST_MARK = re.compile(r"^(?=[-+=])|^(\d{1,9})(?=[.)](?:\s|$))")


class Markdown(str):
    """Text that is Markdown already: [`escape`] leaves it as it is."""


def visible(text: str) -> str:
    """Write characters that can hide or reorder text as escapes, and every kind of line break as a plain one."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else f"\\u{ord(c):04x}"
        for c in text
    )


def escape(text: object, limit: int | None = None) -> Markdown:
    """Text for a table cell or a sentence: one line in which nothing is markup, a link or a mention.

    Args:
        text (`object`): anything; [`Markdown`] is returned as it is.
        limit (`int`, *optional*): characters that are kept.
    """
    if isinstance(text, Markdown):
        return text
    line = " ".join(visible(str(text)).split())
    if limit is not None and len(line) > limit:
        line = f"{line[: limit - 1]}…"
    line = _LIST_MARK.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", line)).replace("@", "&#64;")
    # GitHub makes links of bare addresses.
    return Markdown(re.sub(r"(?i)\bwww\.", r"www\\.", line))


def code(text: str) -> Markdown:
    """A name as code; one with unusual characters is escaped instead."""
    return Markdown(f"`{text}`") if re.fullmatch(r"[\w ./:,<>{}()-]+", text, re.ASCII) else escape(text)


def fenced(text: str, language: str = "text") -> Markdown:
    """A code block that the text cannot close: its fence is longer than any run of backticks inside.

    Args:
        text (`str`): anything.
        language (`str`, *optional*, defaults to `"text"`): info string of the block.
    """
    text = visible(text).strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def table(header: Iterable[object], rows: Iterable[Iterable[object]], right: int = 0) -> Markdown:
    """A Markdown table whose last `right` columns are numbers. Cells are escaped."""
    header = list(header)
    ruler = ["---"] * (len(header) - right) + ["---:"] * right
    lines = [map(escape, header), ruler, *(map(escape, row) for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def heading(text: object, level: int = 2) -> Markdown:
    """A heading."""
    return Markdown(f"{'#' * level} {escape(text)}")


def join(*blocks: object) -> Markdown:
    """Blocks with an empty line between them; what is no [`Markdown`] is escaped, what is empty is left out."""
    return Markdown("\n\n".join(escape(block) for block in blocks if block) + "\n")


@cache
def _environment(package: str, markdown: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return value if isinstance(value, Markup) else visible(str(value))

    return Environment(
        loader=PackageLoader(package),
        autoescape=not markdown,
        finalize=escape if markdown else shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=markdown,
    )


def render(package: str, template: str, **values: Any) -> str:
    """Fill a template of `templates/` in a package; every value is made visible and escaped.

    Args:
        package (`str`): the package.
        template (`str`): name of the template: `.md`, where a [`Markdown`] stays as it is, or `.html` or `.svg`, where
            a `Markup` does. Undefined names are errors.
    """
    return _environment(package, template.endswith(".md")).get_template(template).render(values)


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
