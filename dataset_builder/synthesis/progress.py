"""How far a run is, by stage, live in a terminal or out of its folder."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .usage import Usage


if TYPE_CHECKING:
    from rich.table import Table

RECENT = 300
"""Finished candidates from which the present rate is taken."""


@dataclass
class StageProgress:
    """Counts of a stage.

    Args:
        running (`int`): candidates in it now.
        outcomes (`dict[str, int]`): how it ended: `passed`, `rejected`, `failed` or `stopped`.
        seconds (`float`): time of all of them.
        usage ([`Usage`]): what they used.
    """

    running: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)

    @property
    def done(self) -> int:
        return sum(number for outcome, number in self.outcomes.items() if outcome != "stopped")

    def add(self, event: dict[str, Any]) -> None:
        """Count an event of [`~dataset_builder.synthesis.pipeline.Pipeline`]."""
        outcome = event["outcome"]
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.seconds += event["seconds"]
        self.usage.add(Usage(**event["usage"]))


class Progress:
    """Counts of a run, for all threads.

    Args:
        num_tasks (`int`): candidates in all.
    """

    def __init__(self, num_tasks: int):
        self.num_tasks = num_tasks
        self.stages: dict[str, StageProgress] = {}
        self.finished_by: dict[str, int] = {}
        self._times: deque[float] = deque(maxlen=RECENT)
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def restore(self, events: Iterable[dict[str, Any]], finished: dict[str, int]) -> None:
        """Take over what earlier processes did.

        Args:
            events (`Iterable[dict]`): theirs.
            finished (`dict[str, int]`): candidates by outcome, as the shards have them.
        """
        for event in events:
            if "usage" in event:
                self.stages.setdefault(event["stage"], StageProgress()).add(event)
        self.finished_by = dict(finished)

    def begun(self, stage: str) -> None:
        with self._lock:
            self.stages.setdefault(stage, StageProgress()).running += 1

    def ended(self, event: dict[str, Any]) -> None:
        with self._lock:
            stage = self.stages[event["stage"]]
            stage.running -= 1
            stage.add(event)

    def finished(self, outcome: str) -> None:
        with self._lock:
            self.finished_by[outcome] = self.finished_by.get(outcome, 0) + 1
            self._times.append(time.monotonic())

    @property
    def done(self) -> int:
        return sum(self.finished_by.values())

    def usage(self) -> dict[str, Usage]:
        """What each stage used."""
        return {name: stage.usage for name, stage in self.stages.items()}

    def rate(self) -> float:
        """Candidates a second, lately."""
        with self._lock:
            times = [self._started, *self._times] if len(self._times) < RECENT else list(self._times)
        seconds = time.monotonic() - times[0]
        return (len(times) - 1) / seconds if seconds > 0 else 0.0

    def seconds_left(self) -> float | None:
        """At the present rate; `None` while nothing is finished."""
        rate = self.rate()
        return (self.num_tasks - self.done) / rate if rate else None

    def headline(self) -> str:
        """One line: finished candidates by outcome, rate and time left."""
        outcomes = ", ".join(f"{number:,} {outcome}" for outcome, number in self.finished_by.items())
        left = self.seconds_left()
        rest = f", {self.rate():.2f}/s, {duration(left)} left" if left and self.done < self.num_tasks else ""
        return f"{self.done:,} of {self.num_tasks:,} tasks: {outcomes or 'none finished'}{rest}"

    def table(self) -> Table:
        """Every stage: how many are in it and came through, what it took."""
        from rich.table import Table

        table = Table(title=self.headline(), title_justify="left")
        table.add_column("stage")
        for name in ("running", "done", "passed", "rejected", "failed", "tokens", "cost", "s each", "retries"):
            table.add_column(name, justify="right")
        with self._lock:
            rows = list(self.stages.items())
        total = Usage()
        for name, stage in rows:
            total.add(stage.usage)
            ends = [f"{stage.outcomes.get(outcome, 0):,}" for outcome in ("passed", "rejected", "failed")]
            seconds = stage.seconds / max(1, sum(stage.outcomes.values()))
            table.add_row(name, f"{stage.running}", f"{stage.done:,}", *ends, *_cost(stage.usage, seconds))
        table.add_section()
        table.add_row("all", *[""] * 5, *_cost(total, None))
        return table


def _cost(usage: Usage, seconds: float | None) -> list[str]:
    each = "" if seconds is None else f"{seconds:.2f}"
    return [f"{usage.tokens:,}", f"{usage.cost:.4f}", each, f"{usage.retries:,}"]


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
