"""Running an agent over many tasks: several at a time, resumable, one row per task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agent.rollout import rollout
from ..errors import InputError, RunFolderError
from ..progress import WorkProgress
from ..storage import BlobStore, Shard
from ..task import Task
from ..trajectory import Trajectory


if TYPE_CHECKING:
    from ..agent.agent import T3Agent


TRAJECTORIES_FILE = "trajectories.jsonl"
BLOBS_FOLDER = "blobs"


def _absolute(task: Task) -> Task:
    """The same task, readable from any working directory: a code step changes that of the whole process."""
    files = [replace(f, source=f.source.absolute()) if isinstance(f.source, Path) else f for f in task.files]
    return replace(task, files=tuple(files))


def _finished(rows: Iterable[dict[str, Any]], tasks: dict[str, Task], folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of these tasks by id.

    Raises:
        RunFolderError: when a row has the id of a task but is about something else.
    """
    found = {}
    for row in rows:
        task_id = Trajectory.from_dict(row).task.id
        if task_id not in tasks:
            continue
        if row["task"] != json.loads(json.dumps(tasks[task_id].to_dict())):
            raise RunFolderError(
                f"{folder.name} holds another task with the id {task_id}: choose another output folder."
            )
        found[task_id] = row
    return found


def run_tasks(
    make_agent: Callable[[], T3Agent],
    tasks: Iterable[Task],
    output: str | Path,
    num_workers: int = 1,
    on_progress: Callable[[int, int, Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Run an agent over tasks and keep every trajectory.

    Each finished trajectory is appended to `output/trajectories.jsonl`, its pictures and files go to `output/blobs`.
    Started again on the same folder, the run skips the tasks that have a row, also after `kill -9`. A task that raises
    or blocks its thread beyond the agent's `time_budget` becomes a row with `end_reason` `failed` or `time_budget` and
    the reason in `provenance["failure"]`, and the others continue.

    Args:
        make_agent (`Callable[[], T3Agent]`): makes an agent. Each worker makes one, and another one after a failure.
            Agents may share a model that can be called from several threads.
        tasks (`Iterable[Task]`): what to run; ids must differ.
        output (`str` or `Path`): the folder, made when missing.
        num_workers (`int`, *optional*, defaults to 1): tasks that run at the same time, in threads.
        on_progress (`Callable`, *optional*): called in the calling thread with the number of finished tasks, the
            number of tasks and the [`Trajectory`] that was just written.

    Returns:
        `list[Trajectory]`: one per task, in the order of the tasks.

    Raises:
        InputError: when two tasks have the same id or `num_workers` is less than 1.
        RunFolderError: when another process writes to the folder, or it holds other tasks under the same ids.
        KeyboardInterrupt: after Ctrl-C; the tasks in flight have no row and run again next time.
    """
    by_id: dict[str, Task] = {}
    for task in tasks:
        if task.id in by_id:
            raise InputError(f"Two tasks have the id {task.id}: each task may run once.")
        by_id[task.id] = _absolute(task)
    folder = Path(output).absolute()
    blobs = BlobStore(folder / BLOBS_FOLDER)
    with Shard(folder / TRAJECTORIES_FILE) as shard:
        rows = _finished(shard.rows, by_id, folder)
        pending = [task for task_id, task in by_id.items() if task_id not in rows]
        finished = rollout(make_agent, pending, num_workers)
        with closing(finished), _progress_bar(len(by_id), len(rows)) as advance:
            for trajectory in finished:
                row = _row(trajectory, blobs)
                shard.append(row)
                rows[row["task"]["id"]] = row
                advance()
                if on_progress:
                    on_progress(len(rows), len(by_id), Trajectory.from_dict(row, blobs))
    return [Trajectory.from_dict(rows[task_id], blobs) for task_id in by_id]


def _row(trajectory: Trajectory, blobs: BlobStore) -> dict[str, Any]:
    try:
        return trajectory.stored_in(blobs).to_dict()
    except (OSError, InputError):
        if trajectory.end_reason != "failed":
            raise
        return trajectory.to_dict()  # unreadable attachments are what it failed of


@contextmanager
def _progress_bar(total: int, done: int) -> Iterator[Callable[[], None]]:
    """Show how far the tasks are; gives the function that advances it."""
    with WorkProgress() as progress:
        bar = progress.add_task("Tasks", total=total, completed=done)
        yield lambda: progress.advance(bar)
