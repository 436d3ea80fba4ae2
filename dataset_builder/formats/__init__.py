"""Exchange formats: trajectories of other programs become rows of a run folder, and rows become theirs.

A format is a module that reads and writes one specification and says how in its constant `FORMAT`. To add one, write
the module and name it in `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from t3_agents.errors import InputError


if TYPE_CHECKING:
    from t3_agents.trajectory import Trajectory

    from .conversation import ImportedRow
    from .files import FileCopies, FileSource

FORMATS = ("mm-traj", "atif", "sharegpt")
FormatName = Literal[FORMATS]


@dataclass(frozen=True)
class Format:
    """How trajectories are read and written.

    Args:
        read (`Callable`): takes a record and where its files are, and gives the row that it becomes.
        write (`Callable`): takes a trajectory with the bytes of its files, its split, and what copies files; gives the
            record.
        layout (`str`): what is written: `json` (an array a split), `jsonl` (a row a line, a file a split) or
            `documents` (a file a row).
        dataset_info (`Callable`, *optional*): takes the names of the splits and gives the content of a
            `dataset_info.json`.
    """

    read: Callable[[dict[str, Any], FileSource], ImportedRow]
    write: Callable[[Trajectory, str, FileCopies], dict[str, Any]]
    layout: Literal["json", "jsonl", "documents"]
    dataset_info: Callable[[list[str]], dict[str, Any]] | None = None


def load_format(name: str) -> Format:
    """A format by its name.

    Raises:
        InputError: when there is none of this name.
    """
    if name not in FORMATS:
        raise InputError(f"There is no format `{name}`; choose one of: {', '.join(FORMATS)}.")
    return importlib.import_module(f".{name.replace('-', '_')}", __name__).FORMAT
