"""Files to try an agent on, with a question for each: what `t3 quickstart` tunes an agent for."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from ..errors import InputError, suggestion


EXAMPLES = {
    "invoice.pdf": "What is the due date of this invoice?",
    "receipt.png": "How much do I pay in total with a 2.00 tip?",
    "scores.csv": "How many points did Ada score in all?",
}
"""A question for each file that comes with the package."""


def example_file(name: str = "invoice.pdf") -> Path:
    """The path of a file that comes with the package.

    Args:
        name (`str`, *optional*, defaults to `"invoice.pdf"`): one of `EXAMPLES`.

    Raises:
        InputError: when there is no such example.
    """
    if name not in EXAMPLES:
        raise InputError(f"There is no example `{name}`; {suggestion(name, EXAMPLES)}")
    return Path(str(importlib.resources.files(__name__).joinpath(name)))
