"""The process that reads files: it waits for jobs and forks a child for each, which has limits of time and memory.

Run as `python -P -m t3_agents.tools.readers.worker` with a socket as its standard input. A message is a job as JSON
and a descriptor that the child writes to: one record a line, then `["End"]`, or `["Refused", ...]` with why not.
A child that dies without either has been killed by its limits or by its parser.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from ...errors import InputError, MissingExtraError
from ...sandbox.seccomp import seccomp_filter
from .kinds import reader_for
from .records import (
    DISK_BYTES,
    KILL_SECONDS,
    MEMORY_BYTES,
    READ_SECONDS,
    SCAN_CHARS,
    Job,
    Line,
    Record,
    reason_of,
    to_json,
)


WALLED = "T3_READER_WALLED"
"""Set in the environment of a process behind bubblewrap."""
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2


def main() -> None:
    """Serve jobs until the other end of the socket is closed, as it is when that process dies."""
    jobs = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What most files need, loaded once: a fork then starts in milliseconds.
    with suppress(ImportError):
        import kreuzberg  # noqa: F401
    with suppress(ImportError):
        import openpyxl  # noqa: F401
    while True:
        message, descriptors, _, _ = socket.recv_fds(jobs, 2**16, 1)
        if not message:
            return
        if os.fork() == 0:
            try:
                jobs.close()
                _limit()
                if WALLED in os.environ:
                    _refuse_calls()
                _serve(Job(**json.loads(message)), descriptors[0])
            finally:
                os._exit(0)
        os.close(descriptors[0])


def _limit() -> None:
    """Limits that the kernel keeps, whatever a parser does."""
    signal.setitimer(signal.ITIMER_REAL, KILL_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, DISK_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Native parsers complain on these.
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)


def _refuse_calls() -> None:
    """A filter of system calls; bubblewrap cannot set it, since the process that forks needs more."""
    calls = seccomp_filter(reader=True)
    if calls is not None:
        instructions = ctypes.create_string_buffer(calls)
        program = struct.pack("@HP", len(calls) // 8, ctypes.addressof(instructions))  # struct sock_fprog
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
            raise OSError(ctypes.get_errno(), "system calls cannot be filtered")


def _serve(job: Job, descriptor: int) -> None:
    # Line by line, so that what was read is not lost when the limits end this process.
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as out:
        try:
            for record in _read(job):
                out.write(to_json(record) + "\n")
            last = ["End"]
        except MissingExtraError as error:
            last = ["Missing", *error.__reduce__()[1]]
        except InputError as error:
            last = ["Refused", str(error)]
        # A parser may raise anything on a file that somebody damaged; the model gets one sentence.
        except Exception as error:
            last = ["Refused", f"{job.name} cannot be read: {reason_of(error)}."]
        out.write(json.dumps(last) + "\n")


def _read(job: Job) -> Iterator[Record]:
    room, deadline = SCAN_CHARS, time.monotonic() + READ_SECONDS
    for record in reader_for(job)(job):
        if isinstance(record, Line):
            if not record.text.strip():
                continue
            room -= len(record.text)
        yield record
        if room < 0 or time.monotonic() > deadline:
            why = f"{SCAN_CHARS:,} characters" if room < 0 else f"{READ_SECONDS} seconds"
            yield Line(f"[the rest of the file was not read: this tool stops after {why}]", is_note=True)
            return


if __name__ == "__main__":
    main()
