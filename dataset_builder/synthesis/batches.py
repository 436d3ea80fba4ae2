"""Batches of queries, which may be made in any order and are taken in theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from t3_agents.errors import T3Error
from t3_agents.storage import Shard

from .candidate import Candidate


MAX_FAILED = 10
"""Batches in a row without a query after which the teacher is given up."""


class NoQueries(T3Error):
    """The teacher writes no usable queries."""


@dataclass(frozen=True)
class Work:
    """A candidate that waits for a worker.

    Args:
        candidate ([`Candidate`]): as far as it came.
        duplicate_of (`str`, *optional*): the earlier query that it is near to.
        after (`str`, *optional*): the last stage that it has passed.
        again (`bool`): it has met the teacher down before.
    """

    candidate: Candidate
    duplicate_of: str | None = None
    after: str | None = None
    again: bool = False


class QueryBatches:
    """Which batch is to be made next, and the candidates of those that are complete up to there.

    Near duplicates are looked for in the order of the batches, so a run that was killed decides as one that was not.
    Not for several threads at a time.

    Args:
        shard ([`~t3_agents.storage.Shard`]): where batches are written.
        duplicates (`Callable`): takes the queries of a batch and gives for each the earlier query that it is near to,
            or `None`.
        num_tasks (`int`): candidates to give in all.
        per_batch (`int`): queries that a batch is expected to have.
    """

    def __init__(
        self,
        shard: Shard,
        duplicates: Callable[[list[str]], list[str | None]],
        num_tasks: int,
        per_batch: int,
    ):
        self.shard = shard
        self.duplicates = duplicates
        self.num_tasks = num_tasks
        self.per_batch = per_batch
        self.given = 0
        self._next = self._committed = len(shard.rows)
        self._waiting: dict[int, tuple[list[Candidate], str | None]] = {}
        self._failed = 0
        self._earlier: list[list[str]] = []

    def stored(self) -> Iterable[Work]:
        """Candidates of the batches that are on disk."""
        for row in self.shard.rows:
            self._earlier.append([record["query"] for record in row["candidates"]])
            yield from self._release(row)
        self.shard.rows.clear()

    def next(self) -> int | None:
        """Number of a batch that is to be made now; `None` while those under way are enough."""
        expected = self.given + (self._next - self._committed) * self.per_batch
        if expected >= self.num_tasks:
            return None
        self._next += 1
        return self._next - 1

    def add(self, batch: int, candidates: list[Candidate], failure: str | None = None) -> list[Work]:
        """A batch is made; gives the candidates that can begin now.

        Raises:
            NoQueries: when too many batches in a row had no queries.
        """
        self._waiting[batch] = (candidates, failure)
        released: list[Work] = []
        while self._committed in self._waiting:
            released += self._release(self._commit(self._committed, *self._waiting.pop(self._committed)))
            self._committed += 1
        return released

    def _commit(self, batch: int, candidates: list[Candidate], failure: str | None) -> dict[str, Any]:
        while self._earlier:
            self.duplicates(self._earlier.pop(0))
        near = self.duplicates([candidate.query for candidate in candidates]) if candidates else []
        row = {
            "batch": batch,
            "candidates": [candidate.to_dict() for candidate in candidates],
            "duplicates": {
                candidate.id: other for candidate, other in zip(candidates, near, strict=True) if other is not None
            },
            "failure": failure,
        }
        self.shard.append(row)
        self.shard.rows.clear()
        self._failed = 0 if candidates else self._failed + 1
        if self._failed >= MAX_FAILED:
            raise NoQueries(f"{MAX_FAILED} batches in a row gave no queries; the last one because: {failure}")
        return row

    def _release(self, row: dict[str, Any]) -> list[Work]:
        """The candidates of a row, as far as they are wanted."""
        records = row["candidates"][: self.num_tasks - self.given]
        self.given += len(records)
        return [Work(Candidate.from_dict(record), row["duplicates"].get(record["id"])) for record in records]
