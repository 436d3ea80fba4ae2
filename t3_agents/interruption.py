"""Ending a run from outside, or its model calls when its time is up, also in the middle of a turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from .errors import T3Error


class InterruptedTurn(T3Error):
    """The run was cancelled or its time is up, so the model did not finish its turn."""


@dataclass(eq=False)
class Interruption:
    """What may end one run.

    Args:
        deadline (`float`, *optional*): time of `time.monotonic` after which calls end.
        outer ([`Interruption`], *optional*): that of the run around this one, which ends this one too.
    """

    deadline: float | None = None
    outer: Interruption | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End the running call or code step and all later ones. Called from any thread."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether this run, or one around it, was cancelled."""
        return self._cancelled.is_set() or (self.outer is not None and self.outer.is_cancelled())

    def seconds_left(self) -> float | None:
        """Seconds until the deadline, 0 when it is over or the run was cancelled; `None` without a deadline."""
        if self._cancelled.is_set():
            return 0.0
        own = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        outer = self.outer.seconds_left() if self.outer else None
        return min((seconds for seconds in (own, outer) if seconds is not None), default=None)

    def check(self) -> None:
        """
        Raises:
            InterruptedTurn: when the run was cancelled or its time is up.
        """
        if self.seconds_left() == 0:
            raise InterruptedTurn("The run was cancelled." if self._cancelled.is_set() else "The time is up.")


# Of the context, so that threads which are started with a copy of it belong to the run.
_current: ContextVar[Interruption | None] = ContextVar("interruption", default=None)


@contextmanager
def interruptible(seconds: float | None = None, given: Interruption | None = None) -> Iterator[Interruption]:
    """Let the model calls and code steps of this context be interrupted.

    Args:
        seconds (`float`, *optional*): time from now until they end by themselves.
        given ([`Interruption`], *optional*): one that exists already.
    """
    outer = current_interruption()
    deadline = None if seconds is None else time.monotonic() + seconds
    interruption = given or Interruption(deadline, outer)
    _current.set(interruption)
    try:
        yield interruption
    finally:
        _current.set(outer)


def current_interruption() -> Interruption | None:
    """That of the run in this context."""
    return _current.get()


def seconds_left(most: float) -> float:
    """What is left of the time of the run in this context, at most `most` seconds."""
    interruption = current_interruption()
    left = interruption.seconds_left() if interruption else None
    return most if left is None else min(most, left)
