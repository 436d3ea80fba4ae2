"""What a run has used, and how far it is, by stage: live in a terminal or out of its folder."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from t3_agents.errors import T3Error


if TYPE_CHECKING:
    from rich.table import Table


class BudgetSpent(T3Error):
    """The tokens or the money of the run are used up; what is finished stays, and a larger budget goes on."""


@dataclass(frozen=True)
class Prices:
    """Prices of a teacher.

    Args:
        input (`float`, *optional*, defaults to 0): money per million tokens that it reads.
        output (`float`, *optional*, defaults to 0): money per million tokens that it writes.
    """

    input: float = 0.0
    output: float = 0.0

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Money for one call."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass
class Usage:
    """Sums over calls.

    Args:
        calls (`int`): replies that came.
        retries (`int`): calls that were repeated.
        input_tokens (`int`), output_tokens (`int`): tokens read and written, as the server counted them.
        cost (`float`): money, by the prices of the run.
    """

    calls: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def add(self, other: Usage) -> None:
        """Add another sum to this one."""
        self.calls += other.calls
        self.retries += other.retries
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost += other.cost

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Ledger:
    """What a run has used, by stage, for all threads.

    Args:
        max_tokens (`int`, *optional*): tokens, read and written, that the run may use.
        max_cost (`float`, *optional*): money that the run may cost.
    """

    def __init__(self, max_tokens: int | None = None, max_cost: float | None = None):
        self.max_tokens = max_tokens
        self.max_cost = max_cost
        self.stages: dict[str, Usage] = {}
        self._lock = threading.Lock()

    def total(self) -> Usage:
        """The sum over all stages."""
        total = Usage()
        with self._lock:
            for usage in self.stages.values():
                total.add(usage)
        return total

    def check(self) -> None:
        """Called before each call.

        Raises:
            BudgetSpent: when nothing is left. Calls in flight then still end, so a run may go over by these.
        """
        if self.max_tokens is None and self.max_cost is None:
            return
        total = self.total()
        if self.max_tokens is not None and total.tokens >= self.max_tokens:
            raise BudgetSpent(f"The budget of {self.max_tokens:,} tokens is spent: raise `token_budget` to go on.")
        if self.max_cost is not None and total.cost >= self.max_cost:
            raise BudgetSpent(f"The budget of {self.max_cost:g} is spent: raise `money_budget` to go on.")

    def add(self, stage: str, usage: Usage) -> None:
        """Count calls of a stage, here and in the [`metered`] block around them."""
        with self._lock:
            self.stages.setdefault(stage, Usage()).add(usage)
        if _meter.usage is not None:
            _meter.usage.add(usage)


class _Meter(threading.local):
    usage: Usage | None = None


_meter = _Meter()


@contextmanager
def metered() -> Iterator[Usage]:
    """Count what the calls of this thread use within the block, also where one of them fails."""
    outer, _meter.usage = _meter.usage, Usage()
    inner = _meter.usage
    try:
        yield inner
    finally:
        _meter.usage = outer
        if outer is not None:
            outer.add(inner)


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
