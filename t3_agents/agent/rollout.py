"""Agents at work on many tasks at the same time: a [`Trajectory`] for each, whatever happens to the agent."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..task import Task
from ..trajectory import Trajectory


if TYPE_CHECKING:
    from .agent import T3Agent


STOP_SECONDS = 5.0
"""How long a rollout that is closed waits for the steps in flight."""
GRACE_SECONDS = 10.0
"""What a task may take beyond the `time_limit` of its agent before its thread is left behind: agents end by
themselves, unless something blocks them."""


def rollout(
    agent_factory: Callable[[], T3Agent], tasks: Iterable[Task], num_workers: int = 1
) -> Generator[Trajectory]:
    """Let agents solve tasks and give every trajectory as soon as it is there.

    A task that raises, is interrupted, or blocks its thread beyond the agent's `time_limit` still gives a trajectory,
    with `end_reason` `failed` or `time_limit` and the reason in `provenance["failure"]`; the others go on. Tasks are
    taken from the iterable one by one, and no worker begins another one while its last trajectory was not taken.

    Args:
        agent_factory (`Callable[[], T3Agent]`): makes an agent. Each worker makes one, and another one after a
            failure. Agents may share a model, whose calls then share batches.
        tasks (`Iterable[Task]`): what to run.
        num_workers (`int`, *optional*, defaults to 1): tasks that run at the same time, in threads.

    Yields:
        [`Trajectory`]: one per task, in the order in which they end.

    Raises:
        InputError: when `num_workers` is less than 1.
        Exception: what `agent_factory` or `tasks` raised.
    """
    if num_workers < 1:
        raise InputError(f"The number of workers must be at least 1, not {num_workers}.")
    return _rollout(agent_factory, iter(tasks), num_workers)


def failed(task: Task, error: Exception | str, provenance: dict[str, Any], end_reason: str = "failed") -> Trajectory:
    """The trajectory of a task that gave none.

    Args:
        task ([`Task`]): the task.
        error (`Exception` or `str`): why.
        provenance (`dict`): that of the agent.
        end_reason (`str`, *optional*, defaults to `"failed"`): one of `END_REASONS`.
    """
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    reason = " ".join(reason.encode(errors="replace").decode().split())
    return Trajectory(
        task=task,
        images=list(task.images),
        end_reason=end_reason,
        provenance={**provenance, "failure": reason[:500].rstrip(": ")},
    )


def _rollout(agent_factory: Callable[[], T3Agent], tasks: Iterator[Task], num_workers: int) -> Generator[Trajectory]:
    events: queue.SimpleQueue[tuple[_Worker, Trajectory | BaseException]] = queue.SimpleQueue()
    busy: set[_Worker] = set()
    everyone: list[_Worker] = []

    def begin(worker: _Worker | None) -> None:
        """Give the next task to a worker, or to a new one; a worker without a task ends."""
        task = next(tasks, None)
        if worker is None and task is not None:
            worker = _Worker(agent_factory, events)
            everyone.append(worker)
        if worker is not None:
            busy.discard(worker)
            if task is not None:
                busy.add(worker)
            worker.give(task)

    try:
        for _ in range(num_workers):
            begin(None)
        while busy:
            try:
                worker, outcome = events.get(timeout=1.0)
            except queue.Empty:
                for worker in [worker for worker in busy if worker.is_late()]:
                    busy.discard(worker)
                    everyone.remove(worker)
                    begin(None)
                    yield worker.leave_behind()
                continue
            if worker not in busy:  # one that was left behind came back
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            begin(worker)
            yield outcome
    finally:
        for worker in everyone:
            worker.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in everyone:
            worker.thread.join(max(0.0, deadline - time.monotonic()))


class _Worker:
    """One thread with an agent of its own. Trajectories, or what ended it, go to `events`."""

    def __init__(
        self,
        agent_factory: Callable[[], T3Agent],
        events: queue.SimpleQueue[tuple[_Worker, Trajectory | BaseException]],
    ):
        self.agent_factory = agent_factory
        self.events = events
        self.agent: T3Agent | None = None
        self.task: Task | None = None
        self._deadline: float | None = None
        self._waiting: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        # A daemon, so that a step that never returns cannot keep an interrupted process alive.
        self.thread = threading.Thread(target=self._work, name="rollout", daemon=True)
        self.thread.start()

    def give(self, task: Task | None) -> None:
        """Begin with a task; `None` ends the thread."""
        self.task, self._deadline = task, None
        self._waiting.put(task)

    def is_late(self) -> bool:
        """Whether the task should have ended by itself."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def stop(self) -> None:
        """End the task in flight, if it can be ended, and the thread."""
        self._waiting.put(None)
        agent = self.agent
        if agent is not None:
            agent.interrupt()

    def leave_behind(self) -> Trajectory:
        """Give up a thread that is blocked; the trajectory of its task."""
        agent = self.agent
        provenance = agent.provenance() if agent is not None else {}
        self.stop()
        reason = f"The task did not end {GRACE_SECONDS:.0f} seconds after its time was up."
        return failed(self.task, reason, provenance, end_reason="time_limit")

    def _work(self) -> None:
        try:
            while (task := self._waiting.get()) is not None:
                self.events.put((self, self._run(task)))
            self._drop_agent()
        except BaseException as error:  # handed to the main thread, which raises it
            self.events.put((self, error))

    def _run(self, task: Task) -> Trajectory:
        # Outside the try: an agent that cannot be made is a mistake of the run, not of this task.
        if self.agent is None:
            self.agent = self.agent_factory()
        if self.agent.time_limit is not None:
            self._deadline = time.monotonic() + self.agent.time_limit + GRACE_SECONDS
        try:
            trajectory = self.agent.run_task(task)
            json.dumps(trajectory.to_dict(), ensure_ascii=False, allow_nan=False).encode()  # can be written
            return trajectory
        except Exception as error:  # whatever ends one task is that task's result
            provenance = self.agent.provenance()
            self._drop_agent()
            return failed(task, error, provenance)

    def _drop_agent(self) -> None:
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.cleanup()
