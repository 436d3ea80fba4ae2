"""Errors whose message is one sentence for the person at the keyboard."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class T3Error(Exception):
    """A mistake in what the user gave. The command line prints the message alone and exits with status 2."""


class InputError(T3Error, ValueError):
    """A file, record or option cannot be used; the message says which one and what to do instead."""


class RunFolderError(T3Error):
    """An output folder belongs to another run, or another process is writing to it."""


class MissingExtraError(T3Error, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str):
        self._arguments = (package, extra, purpose)
        super().__init__(f"{purpose} needs `{package}`: run `pip install t3-agents[{extra}]`.")

    def __reduce__(self):
        return type(self), self._arguments


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that there is not: the known one that is near, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, 1)
    return f"did you mean `{near[0]}`?" if near else f"choose one of: {', '.join(names)}."


@contextmanager
def needs_extra(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Around the import of an optional dependency: a failure becomes a [`MissingExtraError`] of these arguments."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error
