"""The Jinja environment of the report's templates: every value is made visible and escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .markdown import visible


def _visible(value: Any) -> Any:
    """Characters that hide or reorder text come out as escapes; what is markup already stays as it is."""
    return value if isinstance(value, Markup) else visible(str(value))


@cache
def environment(package: str = "t3_agents.reports") -> Environment:
    """Templates under `templates/` of a package; undefined names are errors."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
