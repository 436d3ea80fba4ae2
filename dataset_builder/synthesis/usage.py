"""What calls to a teacher cost, by stage, and the budget that ends a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from t3_agents.errors import T3Error


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
