"""Progress of long work: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


LINE_SECONDS = 10.0
"""Between two lines about a task where there is no terminal."""


class WorkProgress(Progress):
    """rich's progress bars on standard error; where that is no terminal, lines of text.

    A task may have a `note`, such as its loss, which stands behind its bar.

    Args:
        disable (`bool`, *optional*, defaults to `False`): show nothing, for processes other than the first.
        line_seconds (`float`, *optional*, defaults to `LINE_SECONDS`): between two lines of text.
    """

    def __init__(self, disable: bool = False, line_seconds: float = LINE_SECONDS):
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        super().__init__(*columns, console=console, disable=disable or not console.is_terminal)
        self.line_seconds = line_seconds
        self._writes_lines = not disable and not console.is_terminal
        self._last_line = time.monotonic()

    def add_task(self, description: str, *args: Any, note: str = "", **kwargs: Any) -> TaskID:
        return super().add_task(description, *args, note=note, **kwargs)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._write_line(task_id)

    def update(self, task_id: TaskID, **kwargs: Any) -> None:
        super().update(task_id, **kwargs)
        self._write_line(task_id)

    def _write_line(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if not self._writes_lines or now - self._last_line < self.line_seconds:
            return
        self._last_line = now
        with self._lock:
            task = self._tasks[task_id]
            total = "" if task.total is None else f" of {task.total:,.0f}"
            line = f"{task.description}: {task.completed:,.0f}{total}, {task.elapsed or 0:.0f} s {task.fields['note']}"
        print(line.rstrip(), file=sys.stderr, flush=True)
