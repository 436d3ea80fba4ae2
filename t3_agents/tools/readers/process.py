"""Reading a file in another process, so that no file can take more than some seconds and some memory.

The process is started at the first read and kept. It forks a child for each file and ends with the process that
started it, even if that one is killed; see `worker.py`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError, MissingExtraError, T3Error
from .records import KILL_SECONDS, MEMORY_BYTES, Job, Line, Record, from_fields


_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_lock = threading.Lock()
_worker: _Worker | None = None


class _Worker:
    """A running reader process and the socket to it."""

    def __init__(self) -> None:
        self.jobs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The working directory may hold files of a model's making, named as modules are; `-P` and an absolute path
        # keep them out. Keys and tokens are nothing that a parser needs.
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        path = [str(_PACKAGE_PARENT), *(entry for entry in sys.path if os.path.isabs(entry))]
        # A fork keeps none of the threads that numerical libraries start.
        environment |= {"PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-m", f"{__package__}.worker"]
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.DEVNULL, env=environment, cwd="/", start_new_session=True
            )
        self.owner = os.getpid()

    def send(self, job: Job) -> socket.socket:
        """Start a job and return where its records arrive."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.jobs, [job.to_json().encode()], [theirs.fileno()])
        return ours

    def has_died(self) -> bool:
        """Whether somebody ended it; a child that its limits end leaves it running."""
        try:
            self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def usable(self) -> bool:
        """Whether it runs and belongs to this process, not to the one that this process was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None


def _send(job: Job) -> tuple[_Worker, socket.socket]:
    global _worker
    with _lock:
        if _worker is not None and _worker.usable:
            try:
                return _worker, _worker.send(job)
            except OSError:
                _worker.process.wait()
        _worker = _Worker()
        return _worker, _worker.send(job)


def read_file(job: Job, is_second_try: bool = False) -> Iterator[Record]:
    """The lines, pictures and sounds of a file, as they are read.

    Where a limit ends the reading after some lines, the last one says so.

    Raises:
        InputError: when the file cannot be read within the limits; the message says why.
        MissingExtraError: when a package for this kind of file is not installed.
    """
    start, empty = time.monotonic(), True
    worker, answer = _send(job)
    with answer, answer.makefile("r", encoding="utf-8") as lines:
        # The process kills what takes too long; this is for a process that is itself stopped.
        answer.settimeout(KILL_SECONDS + 10)
        try:
            for line in lines:
                kind, *fields = json.loads(line)
                if kind == "End":
                    return
                if kind == "Missing":
                    raise MissingExtraError(*fields)
                if kind == "Refused":
                    reason = fields[0]
                    break
                empty = False
                yield from_fields(kind, fields)
            else:
                if empty and worker.has_died():
                    if is_second_try:
                        raise T3Error("The process that reads files does not start: run `t3 doctor`.")
                    yield from read_file(job, is_second_try=True)
                    return
                reason = _reason_of_death(job, time.monotonic() - start)
        except TimeoutError:
            reason = _reason_of_death(job, time.monotonic() - start)
    if empty:
        raise InputError(reason)
    yield Line(f"[the rest of the file was not read: {reason.rstrip('.')}]", is_note=True)


def _reason_of_death(job: Job, seconds: float) -> str:
    if seconds > KILL_SECONDS - 0.5:
        return f"{job.name} cannot be read: it takes longer than {KILL_SECONDS} seconds."
    return f"{job.name} cannot be read: it is damaged, or needs more than {MEMORY_BYTES // 2**20} MB of memory."
