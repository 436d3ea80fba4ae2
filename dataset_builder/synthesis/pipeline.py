"""Candidates on their way through the stages, many at a time, without a barrier between the stages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t3_agents.errors import MissingExtraError, T3Error
from t3_agents.interruption import InterruptedTurn, Interruption, interruptible
from t3_agents.models.endpoint import EndpointError, WrongEndpoint
from t3_agents.sandbox.executor import SandboxError
from t3_agents.storage import Shard
from t3_agents.verifiers import MACHINE_ERRORS, MachineFailure

from .candidate import Candidate, Dropped, Rejected
from .progress import BudgetSpent, Progress, Usage, metered
from .run_folder import FAILED, KEPT, REJECTED, RunFolderStore, read_events


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
        attempts (`int`): how often it has met the teacher or the machine down.
    """

    candidate: Candidate
    duplicate_of: str | None = None
    after: str | None = None
    attempts: int = 0


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


BATCHES, QUERIES = "batches", "queries"
"""Names of the stages that write queries and look at each of them."""
MAX_OUTAGES = 3
"""Calls in a row that found the teacher down after which the run stops; stages in a row that the machine failed."""
STOP_SECONDS = 3.0
"""How long a run that is stopped at once waits for its threads."""


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline.

    Args:
        name (`str`): its name in records and reports.
        run (`Callable`): from a candidate to the next one; raises [`Rejected`] or [`Failed`].
    """

    name: str
    run: Callable[[Candidate], Candidate]


@dataclass(frozen=True)
class Stages:
    """What a pipeline does.

    Args:
        generate (`Callable`): the candidates of a batch, by its number; the same number gives the same request.
        check (`Callable`): a stage for new candidates, which is also told the earlier query that one is near to.
        duplicates (`Callable`): see [`QueryBatches`].
        stages (`Sequence[Stage]`): what follows, in order.
        queries_per_batch (`int`): queries that a batch is expected to have.
    """

    generate: Callable[[int], list[Candidate]]
    check: Callable[[Candidate, str | None], Candidate]
    duplicates: Callable[[list[str]], list[str | None]]
    stages: Sequence[Stage]
    queries_per_batch: int


class Pipeline:
    """A run over a folder.

    Each worker takes one candidate through all its stages. What a stage drops is a result; a teacher that is down, a
    spent budget, or a machine without room or memory end the run with everything in flight kept for the next one.

    Args:
        stages ([`Stages`]): what to do.
        folder (`Path`): the run's folder, held by the caller.
        flavor (`str`): name in the shards.
        num_tasks (`int`): candidates in all.
        concurrency (`int`): candidates at a time.
        progress ([`Progress`], *optional*): what is told of every step.
        journal (`Path`, *optional*, defaults to `folder`): see [`RunFolderStore`].
    """

    def __init__(
        self,
        stages: Stages,
        folder: Path,
        flavor: str,
        num_tasks: int,
        concurrency: int,
        progress: Progress | None = None,
        journal: Path | None = None,
    ):
        self.stages = stages
        self.concurrency = concurrency
        self.progress = progress or Progress(num_tasks)
        self.store = RunFolderStore(folder, flavor, journal)
        try:
            self.progress.restore(read_events(journal or folder), self.store.counts())
            self._batches = QueryBatches(self.store.queries, stages.duplicates, num_tasks, stages.queries_per_batch)
            self._ready = self._left_over()
        except BaseException:
            self.store.close()
            raise
        self._begun = 0
        self._changed = threading.Condition()
        self._committing = threading.Lock()
        self._interruptions: set[Interruption] = set()
        self._outages = 0
        self._failures: dict[str, int] = {}
        self._finishing = False
        self.error: Exception | None = None

    def _left_over(self) -> deque[Work]:
        """What an earlier process began first, then what it had queries for."""
        under_way = {candidate.id: Work(candidate, after=after) for candidate, after in self.store.started()}
        known = {*under_way, *self.store.outcomes}
        return deque([*under_way.values(), *(new for new in self._batches.stored() if new.candidate.id not in known)])

    def run(self) -> None:
        """Work until all is done, or the run is to stop.

        Raises:
            T3Error: that which stopped the run early, with everything finished on disk.
            OSError: when the folder cannot be written.
        """
        threads = [
            threading.Thread(target=self._work, name=f"synthesis-{number}", daemon=True)
            for number in range(self.concurrency)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        except BaseException:
            self._stop_at_once(threads)
            raise
        finally:
            self.store.close()
        if self.error is not None:
            raise self.error

    def finish(self, error: Exception | None = None) -> None:
        """Begin no further candidate; those under way go on to their end. Called from any thread.

        Args:
            error (`Exception`, *optional*): why; the first one is raised by [`run`].
        """
        with self._changed:
            self._finishing = True
            self.error = self.error or error
            self._changed.notify_all()

    def _stop_at_once(self, threads: list[threading.Thread]) -> None:
        self.finish()
        deadline = time.monotonic() + STOP_SECONDS
        with self._changed:
            for interruption in self._interruptions:
                interruption.cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    # What a worker does

    def _work(self) -> None:
        try:
            while (work := self._take()) is not None:
                with interruptible() as interruption:
                    with self._changed:
                        self._interruptions.add(interruption)
                    try:
                        if isinstance(work, int):
                            self._make_batch(work)
                        else:
                            self._go_through(work)
                    except InterruptedTurn:
                        return
                    finally:
                        with self._changed:
                            self._interruptions.discard(interruption)
                            self._begun -= 1
                            self._changed.notify_all()
        except Exception as error:  # raised again by `run`
            self.finish(error)

    def _take(self) -> Work | int | None:
        """The next candidate, or the number of a batch to make; `None` when there is nothing left to do."""
        with self._changed:
            while not self._finishing:
                # A few more than are needed, so that no worker waits for a batch.
                few = len(self._ready) < self.concurrency
                batch = self._batches.next() if few else None
                if batch is not None or self._ready:
                    self._begun += 1
                    return self._ready.popleft() if batch is None else batch
                if not self._begun:
                    return None
                self._changed.wait()
        return None

    def _make_batch(self, batch: int) -> None:
        candidates: list[Candidate] = []
        failure = None
        for _ in range(MAX_OUTAGES):
            try:
                with self._recorded(f"batch-{batch}", BATCHES) as event:
                    candidates = self.stages.generate(batch)
                    event["queries"] = len(candidates)
                break
            except Exception as error:  # whatever a teacher makes of one batch is that batch's result
                if self._ends_run(error, BATCHES):
                    return
                failure = _words(error)
                if not _is_temporary(error):
                    break
        with self._committing:  # texts are compared here, which takes a while
            released = self._batches.add(batch, candidates, failure)
        with self._changed:
            self._ready.extend(released)
            self._changed.notify_all()

    def _go_through(self, work: Work) -> None:
        """Take a candidate as far as it goes."""
        candidate, stage = work.candidate, QUERIES
        try:
            for stage, run in self._remaining(work):
                with self._recorded(candidate.id, stage):
                    candidate = run(candidate)
                candidate = self.store.advance(candidate, stage)
            self._record(KEPT, candidate, stage, "")
        except Dropped as error:
            outcome = REJECTED if isinstance(error, Rejected) else FAILED
            self._record(outcome, error.candidate, error.stage, error.reason)
        except InterruptedTurn:
            raise
        except Exception as error:  # whatever ends one candidate is that candidate's result
            if self._ends_run(error, stage):
                return
            if _is_temporary(error) and work.attempts < (1 if _is_outage(error) else MAX_OUTAGES):
                again = Work(candidate, work.duplicate_of, self._stage_before(stage), work.attempts + 1)
                time.sleep(0 if _is_outage(error) else 0.1 * again.attempts)
                with self._changed:
                    self._ready.append(again)
            else:
                self._record(FAILED, candidate, stage, _words(error))

    def _remaining(self, work: Work) -> list[tuple[str, Callable[[Candidate], Candidate]]]:
        """Names and functions of the stages that a candidate has before it."""
        names = self._names()
        order = [(QUERIES, lambda candidate: self.stages.check(candidate, work.duplicate_of))]
        order += [(stage.name, stage.run) for stage in self.stages.stages]
        return order[names.index(work.after) + 1 if work.after else 0 :]

    def _names(self) -> list[str]:
        return [QUERIES, *(stage.name for stage in self.stages.stages)]

    def _stage_before(self, stage: str) -> str | None:
        place = self._names().index(stage)
        return self._names()[place - 1] if place else None

    def _record(self, outcome: str, candidate: Candidate, stage: str, reason: str) -> None:
        self.store.finish(outcome, candidate, stage, reason)
        self.store.note({"id": candidate.id, "stage": stage, "outcome": outcome, "reason": reason})
        self.progress.finished(outcome)

    @contextmanager
    def _recorded(self, name: str, stage: str) -> Iterator[dict[str, Any]]:
        """Time a stage, count what it uses, and note how it ended."""
        begun, event = time.monotonic(), {"id": name, "stage": stage, "outcome": "passed"}
        self.progress.begun(stage)
        usage = Usage()
        try:
            with metered() as usage:
                yield event
        except Exception as error:
            event["outcome"] = _outcome_of(error)
            raise
        finally:
            if event["outcome"] in ("passed", REJECTED):
                self._failures.pop(stage, None)
                self._outages = 0 if usage.calls else self._outages
            event |= {"seconds": round(time.monotonic() - begun, 3), "usage": usage.to_dict()}
            self.store.note(event)
            self.progress.ended(event)

    def _ends_run(self, error: Exception, stage: str) -> bool:
        """Whether the run, not this candidate, is at its end; then it finishes."""
        reason = _machine_reason(error)
        if _is_outage(error):
            self._outages += 1
            ends = self._outages >= MAX_OUTAGES
        elif reason:
            self._failures[stage] = self._failures.get(stage, 0) + 1
            ends = self._failures[stage] >= MAX_OUTAGES
        else:
            ends = isinstance(error, BudgetSpent | WrongEndpoint | MissingExtraError)
        if ends:
            self.finish(MachineFailure(reason) if reason else error)
        return ends


def _machine_reason(error: Exception) -> str | None:
    """What failed of the machine, if it was that."""
    if isinstance(error, MachineFailure):
        return error.reason
    if isinstance(error, SandboxError | MemoryError) or (isinstance(error, OSError) and error.errno in MACHINE_ERRORS):
        return f"{str(error).rstrip('.') or 'there is no memory'}."
    return None


def _is_temporary(error: Exception) -> bool:
    return _is_outage(error) or _machine_reason(error) is not None


def _is_outage(error: Exception) -> bool:
    return isinstance(error, EndpointError) and error.outage


def _outcome_of(error: Exception) -> str:
    if isinstance(error, Dropped):
        return REJECTED if isinstance(error, Rejected) else FAILED
    return "stopped" if isinstance(error, BudgetSpent | InterruptedTurn) or _is_temporary(error) else FAILED


def _words(error: Exception) -> str:
    """Why, in one line that can be written."""
    if isinstance(error, Dropped):
        return error.reason
    text = str(error) if isinstance(error, T3Error) else f"{type(error).__name__}: {error}"
    return " ".join(text.encode(errors="replace").decode().split())[:500]
