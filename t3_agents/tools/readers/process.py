"""Reading a file in another process, so that no file can take more than some seconds and some memory.

The process is started at the first read and kept. It forks a child for each file and ends with the process that
started it, even if that one is killed; see `worker.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...errors import InputError, MissingExtraError, T3Error
from ...sandbox.bubblewrap import INSIDE, bwrap_arguments, package_folders, python_program
from ...sandbox.check import check_sandbox
from ...storage import scratch_folder
from .records import DISK_BYTES, KILL_SECONDS, MEMORY_BYTES, SCAN_CHARS, Job, Line, Record, from_fields
from .worker import WALLED


MAX_ANSWER = 8 * SCAN_CHARS
"""Characters of all records of a file as JSON."""
_PACKAGE = Path(__file__).resolve().parents[2]
_lock = threading.Lock()
_worker: Worker | None = None


class Worker:
    """A running reader process and the socket to it.

    Behind bubblewrap, where that works, it sees Python, this package and one folder (`shared`), which has a folder for
    each file that is being read. Their names cannot be guessed or listed, so what reads one file finds no other.

    Args:
        program (`Sequence[str]`, *optional*): what Python is told to run.
    """

    def __init__(self, program: Sequence[str] = ("-m", f"{__package__}.worker")) -> None:
        self.jobs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.shared: tempfile.TemporaryDirectory | None = None
        # The working directory may hold files of a model's making, named as modules are; `-P` and an absolute path
        # keep them out. Keys and tokens are nothing that a parser needs.
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        path = [str(_PACKAGE.parent), *(entry for entry in sys.path if os.path.isabs(entry))]
        # A fork keeps none of the threads that numerical libraries start.
        environment |= {"PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", *program]
        status = check_sandbox()
        if status.available:
            self.shared = scratch_folder()
            os.chmod(self.shared.name, 0o300)
            options = bwrap_arguments(Path(self.shared.name), DISK_BYTES // 2**20, _PACKAGE)
            # That would be the end of the thread that reads a file first; here the end of the socket ends it.
            options.remove("--die-with-parent")
            path = [str(_PACKAGE.parent), *package_folders()]
            options += ["--setenv", "PYTHONPATH", os.pathsep.join(path), "--setenv", WALLED, "1"]
            command = [status.bwrap, *options, python_program(), "-P", "-s", "-B", *program]
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.DEVNULL, env=environment, cwd="/", start_new_session=True
            )
        self.owner = os.getpid()

    @contextmanager
    def place_for(self, job: Job) -> Iterator[tuple[Job, Callable[[str], str]]]:
        """A job as the process sees it, and what takes a file that it made to the job's scratch folder."""
        if self.shared is None:
            yield job, lambda path: path
            return
        name = secrets.token_hex(16)
        folder = Path(self.shared.name, name)
        made = folder / "made"
        made.mkdir(parents=True)
        handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY)

        def take(path: str) -> str:
            """By the folder's handle: what a parser that was taken over puts into its place is not followed."""
            target = str(job.new_file(PurePosixPath(path).suffix))
            os.rename(PurePosixPath(path).name, target, src_dir_fd=handle)
            if not stat.S_ISREG(os.lstat(target).st_mode):
                raise ValueError(f"{path} is no file")
            return target

        try:
            source = f"{folder}/{Path(job.path).name}"
            shutil.copyfile(job.path, source)
            seen = f"{INSIDE}/{name}"
            yield replace(job, path=f"{seen}/{Path(job.path).name}", scratch=f"{seen}/made"), take
        finally:
            os.close(handle)
            shutil.rmtree(folder, ignore_errors=True)

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


def _running() -> Worker:
    global _worker
    with _lock:
        if _worker is None or not _worker.usable:
            _worker = Worker()
        return _worker


def read_file(job: Job, is_second_try: bool = False, worker: Worker | None = None) -> Iterator[Record]:
    """The lines, pictures and sounds of a file, as they are read.

    Where a limit ends the reading after some lines, the last one says so.

    Raises:
        InputError: when the file cannot be read within the limits; the message says why.
        MissingExtraError: when a package for this kind of file is not installed.
    """
    start, empty = time.monotonic(), True
    with ExitStack() as stack:
        worker = worker or _running()
        seen, take = stack.enter_context(worker.place_for(job))
        try:
            answer = stack.enter_context(worker.send(seen))
        except OSError:
            worker.process.wait()
            yield from read_file(job, is_second_try=True)
            return
        lines = stack.enter_context(answer.makefile("r", encoding="utf-8", errors="replace"))
        # The process kills what takes too long; this is for a process that is itself stopped.
        answer.settimeout(KILL_SECONDS + 10)
        room = MAX_ANSWER
        try:
            while line := lines.readline(room):
                room -= len(line)
                kind, *fields = json.loads(line)
                if kind == "End":
                    return
                if kind == "Missing":
                    raise MissingExtraError(*map(str, fields[:3]))
                if kind == "Refused":
                    reason = str(fields[0])
                    break
                record = from_fields(kind, fields)
                if not isinstance(record, Line):
                    record = record._replace(path=take(record.path))
                empty = False
                yield record
            else:
                if empty and worker.has_died():
                    if is_second_try:
                        raise T3Error("The process that reads files does not start: run `t3 doctor`.")
                    yield from read_file(job, is_second_try=True)
                    return
                reason = _reason_of_death(job, time.monotonic() - start)
        except TimeoutError:
            reason = _reason_of_death(job, time.monotonic() - start)
        except (ValueError, TypeError, IndexError, OSError, RecursionError):  # from a parser that was taken over
            reason = f"{job.name} cannot be read: it is damaged."
    if empty:
        raise InputError(reason)
    yield Line(f"[the rest of the file was not read: {reason.rstrip('.')}]", is_note=True)


def _reason_of_death(job: Job, seconds: float) -> str:
    if seconds > KILL_SECONDS - 0.5:
        return f"{job.name} cannot be read: it takes longer than {KILL_SECONDS} seconds."
    return f"{job.name} cannot be read: it is damaged, or needs more than {MEMORY_BYTES // 2**20} MB of memory."
