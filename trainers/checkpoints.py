"""Checkpoints of a tuning run: which of them are whole, and a disk that has no room for the next one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t3_agents.errors import InputError, T3Error


COMPLETE = "complete.json"
"""Written last into a checkpoint folder: one without it was being written when the process was killed."""


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Say in a sentence that the disk was full: the libraries that write weights raise their own kinds of errors."""
    try:
        yield
    except Exception as error:
        # The last two are how torch.save says it.
        signs = ("No space left", "PytorchStreamWriter", "inline_container.cc")
        if not any(sign in str(error) for sign in signs) or isinstance(error, T3Error):
            raise
        raise InputError(
            f"The disk of {folder} is full: free some space and start again, the run goes on from its last checkpoint."
        ) from error


def last_checkpoint(folder: str | Path) -> Path | None:
    """The newest complete checkpoint; torn ones are deleted."""
    complete = []
    for checkpoint in Path(folder).glob("checkpoint-*"):
        if (checkpoint / COMPLETE).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
