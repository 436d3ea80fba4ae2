"""Numbers for a card, each with the file of the run that it was read from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Facts:
    """JSON files of a run and what a card showed of them.

    Args:
        files (`dict[str, Any]`): parsed content by the path that the file has in the repository.
    """

    files: dict[str, Any]
    shown: dict[tuple[str, str, str], None] = field(default_factory=dict)

    def get(self, file: str, key: str) -> Any:
        """A value by the keys that lead to it, separated by dots; nothing when it is not there."""
        value = self.files.get(file)
        for part in key.split("."):
            if isinstance(value, list):
                value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
            elif isinstance(value, dict):
                value = value.get(part)
            else:
                return None
        return value

    def show(self, file: str, key: str, form: str = "{:,}", factor: float = 1) -> str:
        """A number as text, noted with its place, so that the card can say where it comes from.

        Args:
            file (`str`), key (`str`): where it is.
            form (`str`, *optional*, defaults to `"{:,}"`): format of the text.
            factor (`float`, *optional*, defaults to 1): what it is multiplied with; 100 makes a share per cent.

        Returns:
            `str`: empty when there is no such number.
        """
        value = self.get(file, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return ""
        text = form.format(value * factor if factor != 1 else value)
        self.shown[text, file, key] = None
        return text


def without_machine(value: Any) -> Any:
    """A record whose paths of this machine are cut to their last part: they mean nothing elsewhere."""
    if isinstance(value, dict):
        return {key: without_machine(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_machine(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("/", "./", "../", "~")) or os.path.exists(value)):
        return Path(value).name
    return value
