"""One sandboxed Python process: its start, its frames, its limits and its end."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bubblewrap import CHILD, bwrap_arguments, hidden_paths, package_folders, python_program
from .seccomp import seccomp_filter


MAX_FRAME = 4 * 2**20
"""Bytes of a frame; a longer one ends the process."""

_START_SECONDS = 30
_NOT_READY = 90  # as in child.py
_ADDRESS_SPACE = 32 * 2**30
_TICK = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CLOCK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class SandboxLimits:
    """What model-written code may use. There is one process: code starts threads, not programs.

    Args:
        memory_mb (`int`, *optional*, defaults to 2048): MiB of memory. Python raises `MemoryError`; what gets around
            that ends the process.
        time_limit (`float`, *optional*, defaults to 60): wall-clock seconds of a step, the time of its tools included.
        cpu_time_limit (`float`, *optional*, defaults to 120): CPU seconds of a step, all threads together.
        threads (`int`, *optional*, defaults to 64): threads.
        open_files (`int`, *optional*, defaults to 256): open files.
        file_mb (`int`, *optional*, defaults to 256): MiB of one file.
        disk_mb (`int`, *optional*, defaults to 1024): MiB by which the workspace may grow.
        num_files (`int`, *optional*, defaults to 5000): files and folders by which the workspace may grow.
        tmp_mb (`int`, *optional*, defaults to 64): MiB of the private `/tmp`, which lies in memory.
        output_chars (`int`, *optional*, defaults to 16000): characters of printed text that are kept of a step.
    """

    memory_mb: int = 2048
    time_limit: float = 60
    cpu_time_limit: float = 120
    threads: int = 64
    open_files: int = 256
    file_mb: int = 256
    disk_mb: int = 1024
    num_files: int = 5000
    tmp_mb: int = 64
    output_chars: int = 16000

    def resource_limits(self) -> dict[str, int]:
        """Limits of the `resource` module, set inside before code runs."""
        return {
            "RLIMIT_DATA": self.memory_mb * 2**20,
            # Address space is cheap, but the tables of its pages are not: 2 MiB for each GiB that was touched.
            "RLIMIT_AS": self.memory_mb * 2**20 + _ADDRESS_SPACE,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_FSIZE": self.file_mb * 2**20,
            "RLIMIT_NPROC": self.threads,
            "RLIMIT_CORE": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_MEMLOCK": 2**16,
        }


class SandboxEnded(Exception):
    """The process is gone; the message says why, as the second half of a sentence."""


class SandboxNotReady(SandboxEnded):
    """The process could not be set up: no code has run in it, and the machine is to blame."""


class SandboxTimeout(Exception):
    """The step has used its wall-clock time; the process is still there."""


class Printed:
    """Head and tail of what a step printed, in bounded memory.

    Args:
        limit (`int`): bytes that are kept.
    """

    def __init__(self, limit: int):
        self.half = limit // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[: max(0, len(self.tail) - self.half)]

    @property
    def is_full(self) -> bool:
        return self.total > 2 * self.half

    def text(self) -> str:
        """What was printed, with a note where the middle is missing."""
        left_out = self.total - len(self.head) - len(self.tail)
        note = f"\n[{left_out} characters left out]\n".encode() if left_out else b""
        return bytes(self.head + note + self.tail).decode(errors="replace")


# A child dies with the *thread* that started it (PR_SET_PDEATHSIG), so one thread that lives as long as the process
# starts them all. A forked process gets a starter of its own.
_starter = ThreadPoolExecutor(1, thread_name_prefix="t3-sandbox")


def _renew_starter() -> None:
    global _starter
    _starter = ThreadPoolExecutor(1, thread_name_prefix="t3-sandbox")


os.register_at_fork(after_in_child=_renew_starter)


class Sandbox:
    """A Python process behind bubblewrap. Starting takes no time here: [`begin`] waits until it is there.

    While the parent works - between steps, and during a tool call - the process is stopped ([`freeze`]). Should it
    have found a way to run meanwhile, it is ended and what the parent did for it is not used.

    Args:
        program (`str`): the `bwrap` program.
        workspace (`Path`): the folder that code sees and writes to.
        limits ([`SandboxLimits`]): what code may use.
        imports (`list[str]`): modules that code may import.
    """

    def __init__(self, program: str, workspace: Path, limits: SandboxLimits, imports: list[str]):
        self.limits = limits
        self.imports = imports
        self.printed = Printed(limits.output_chars)
        self._owner = os.getpid()
        self._pid = 0
        self._pidfd = -1
        self._buffer = bytearray()
        self._output_open = True
        self._killed = threading.Lock()
        self._standing: dict[str, str] | None = None
        self._socket, child = socket.socketpair()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._output, output = os.pipe()
        self._errors, errors = os.pipe()
        os.set_blocking(self._output, False)
        os.set_blocking(self._errors, False)
        try:
            self._process = _starter.submit(_spawn, program, workspace, limits.tmp_mb, child, output, errors).result()
        except BaseException:
            self._close()
            raise
        finally:
            child.close()
            os.close(output)
            os.close(errors)

    # Start and end

    def begin(self) -> None:
        """Wait until the process is there and give it its settings.

        Raises:
            SandboxEnded: when it did not start.
        """
        self._socket.settimeout(_START_SECONDS)
        space = socket.CMSG_SPACE(struct.calcsize("3i"))
        try:
            data, ancillary, _, _ = self._socket.recvmsg(2**16, space)
        except TimeoutError:
            raise SandboxEnded(f"it did not start within {_START_SECONDS} seconds") from None
        credentials = [value for level, kind, value in ancillary if kind == socket.SCM_CREDENTIALS]
        if not data or not credentials:
            raise SandboxEnded(self._read_errors() or "it ended at its start")
        self._buffer += data
        self._next_frame()
        # The kernel gives the process id as it is on this side.
        self._pid = struct.unpack("3i", credentials[0][: struct.calcsize("3i")])[0]
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except OSError as error:
            raise SandboxEnded(f"it ended at its start ({error.strerror})") from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        self.send(
            {
                "path": package_folders(),
                "hidden": hidden_paths(),
                "imports": self.imports,
                "limits": self.limits.resource_limits(),
                "output_chars": self.limits.output_chars,
            }
        )

    @property
    def is_mine(self) -> bool:
        """Whether this process started it; a forked process has only copies of the handles."""
        return self._owner == os.getpid()

    def kill(self) -> None:
        """End the process and wait until it is gone. May be called again."""
        if not self._killed.acquire(blocking=False):
            return
        if self.is_mine:
            if self._pidfd >= 0:
                self.signal(signal.SIGKILL)
                self._wait_for_end(5)
            # The rest of the namespace dies with bubblewrap, or, before it is set up, with its group.
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
        self._close()

    def _close(self) -> None:
        self._socket.close()
        for handle in (self._output, self._errors, self._pidfd):
            if handle >= 0:
                os.close(handle)

    def _read_errors(self) -> str:
        try:
            text = os.read(self._errors, 2**12).decode(errors="replace").strip()
        except BlockingIOError:
            return ""
        return text.splitlines()[-1] if text else ""

    # Stop and go

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it still exists."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def freeze(self) -> None:
        """Stop all threads of the process, return when they stand, and note how often each has run.

        Raises:
            SandboxEnded: when the process is gone.
        """
        self.signal(signal.SIGSTOP)
        end = time.monotonic() + 5
        while not all(state in "TtZX" for state in self._thread_states()) or "running" in (places := self._places()):
            if time.monotonic() > end:
                raise SandboxEnded("it could not be stopped")
            os.sched_yield()  # it stops as soon as it gets a turn, sooner than a sleep would end
        # Without the right to see where threads are, some may still be on their way to standing.
        self._standing = self._turns() if all(places) else None

    def resume(self) -> None:
        """Let the process go on.

        Raises:
            SandboxEnded: when it ran while it was to stand still.
        """
        standing, self._standing = self._standing, None
        if standing is not None and self._turns() != standing and self.is_alive():
            raise SandboxEnded("it ran while it was to stand still")
        self.signal(signal.SIGCONT)

    def _thread_states(self) -> list[str]:
        fields = [self._stat(f"task/{thread}/stat") for thread in self._threads()]
        return [thread[0] if thread else "X" for thread in fields]

    def _places(self) -> list[str]:
        """Of each thread the system call that it stands in; `running` until it has left its processor."""
        return [self._read(f"task/{thread}/syscall").strip() for thread in self._threads()]

    def _turns(self) -> dict[str, str]:
        """Of each thread how long it has run, and how often it was given a processor."""
        return {thread: self._read(f"task/{thread}/schedstat") for thread in self._threads()}

    def _threads(self) -> list[str]:
        if not self.is_alive():
            return []
        try:
            return os.listdir(f"/proc/{self._pid}/task")
        except (FileNotFoundError, ProcessLookupError):
            return []

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self._wait_for_end(0)

    def _wait_for_end(self, seconds: float) -> bool:
        poll = select.poll()  # `select` fails in processes with more than a thousand open files
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def _stat(self, name: str) -> list[str]:
        """Fields of a `stat` file from the state on; the name before them may hold anything."""
        return self._read(name).rpartition(")")[2].split()

    def _read(self, name: str) -> str:
        """A small file of the process in `/proc`; empty when it is gone."""
        # Read at every tick of every sandbox: `os` takes a tenth of the time of `Path.read_text`.
        try:
            descriptor = os.open(f"/proc/{self._pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            return ""
        try:
            return os.read(descriptor, 2**12).decode(errors="replace")
        except (ProcessLookupError, PermissionError):
            return ""
        finally:
            os.close(descriptor)

    # Use

    def cpu_seconds(self) -> float:
        """CPU time that the process has used so far."""
        fields = self._stat("stat")
        return (int(fields[11]) + int(fields[12])) / _CLOCK if fields else 0.0

    def memory_bytes(self) -> int:
        """Memory that the process holds now."""
        fields = self._stat("stat")
        return int(fields[21]) * _PAGE if fields else 0

    def deleted_bytes(self) -> int:
        """Size on disk of files that were deleted while the process has them open or mapped."""
        sizes: dict[tuple[int, int], int] = {}
        for kind in ("fd", "map_files"):
            try:
                names = os.listdir(f"/proc/{self._pid}/{kind}")
            except OSError:
                continue
            for name in names:
                try:
                    status = os.stat(f"/proc/{self._pid}/{kind}/{name}")
                except OSError:
                    continue
                if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                    sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
        return sum(sizes.values())

    def _shared_memory(self) -> int:
        """Size of the mappings of shared memory without a file, which the kernel lists as `/dev/zero`, bytes."""
        size = 0
        try:
            with open(f"/proc/{self._pid}/maps", "rb") as maps:
                for line in maps:
                    if b"/dev/zero" in line:
                        start, _, end = line.partition(b" ")[0].partition(b"-")
                        size += int(end, 16) - int(start, 16)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return size

    def check_use(self, cpu_before: float) -> None:
        """Look at memory, CPU time and threads.

        Raises:
            SandboxEnded: when it uses more than it may.
        """
        fields = self._stat("stat")
        if not fields:
            return
        limit = self.limits.memory_mb * 2**20
        # Pages of shared memory that are given up leave the process, but not the memory of the machine. Listing the
        # mappings takes long, so it is done only where there is room for so many.
        shared = self._shared_memory() if int(fields[20]) > limit else 0
        if int(fields[21]) * _PAGE > limit or shared > limit:
            raise SandboxEnded(f"it used more than {self.limits.memory_mb} MB of memory")
        if (int(fields[11]) + int(fields[12])) / _CLOCK - cpu_before > self.limits.cpu_time_limit:
            raise SandboxEnded(f"it used more than {self.limits.cpu_time_limit:g} seconds of CPU time")
        if int(fields[17]) > self.limits.threads:
            raise SandboxEnded(f"it started more than {self.limits.threads} threads")

    # Frames

    def send(self, message: dict[str, Any], seconds: float = 10) -> None:
        """Send a frame and let the process go on.

        Raises:
            SandboxEnded: when it does not take it.
        """
        data = json.dumps(message).encode()
        data = struct.pack(">I", len(data)) + data
        try:
            # What fits is there before the process wakes up, which then wakes up once only.
            try:
                self._socket.settimeout(0)
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                pass
            self.resume()
            if data:
                self._socket.settimeout(seconds)
                self._socket.sendall(data)
        except TimeoutError:
            raise SandboxEnded("it no longer listened to the agent") from None
        except OSError:
            raise self._end() from None

    def receive(self, deadline: float, cpu_before: float, watch: Callable[[], None]) -> dict[str, Any]:
        """Wait for a frame, keep what is printed, and watch the limits.

        Args:
            deadline (`float`): value of `time.monotonic` at which the step has used its time.
            cpu_before (`float`): CPU seconds at the start of the step.
            watch (`Callable`): called now and then; what it raises ends the wait.

        Raises:
            SandboxTimeout: at the deadline.
            SandboxEnded: when the process is gone, uses too much, or sends what is no frame.
        """
        tick, next_watch = time.monotonic() + _TICK, time.monotonic() + 0.25
        is_quick = True
        while True:
            frame = self._next_frame()
            if frame is not None:
                return frame
            now = time.monotonic()
            if now >= deadline:
                raise SandboxTimeout
            if now >= tick:
                self.check_use(cpu_before)
                self.drain()
                tick, is_quick = now + _TICK, False
            if now >= next_watch:
                watch()
                next_watch = now + 0.25
            # Prints of a quick step wait for its end. What is printed beyond the limit is taken at ticks only,
            # which slows an endless print down.
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if self._output_open and not is_quick and not self.printed.is_full:
                poll.register(self._output, select.POLLIN)
            ready = [handle for handle, _ in poll.poll(1000 * max(0, min(tick, deadline) - now))]
            if self._output in ready:
                self._take_output()
            if self._socket.fileno() in ready:
                self._take_bytes()

    def drain(self) -> None:
        """Take what was printed so far."""
        for _ in range(64):
            if not self._take_output():
                return

    def _take_output(self) -> bool:
        try:
            data = os.read(self._output, 2**16)
        except BlockingIOError:
            return False
        self.printed.add(data)
        self._output_open = bool(data)
        return self._output_open

    def _take_bytes(self) -> None:
        self._socket.settimeout(0)
        try:
            # Open files that hostile code sends along are dropped by the kernel: `recv` has no place for them.
            data = self._socket.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise self._end()
        self._buffer += data

    def _next_frame(self) -> dict[str, Any] | None:
        if len(self._buffer) < 4:
            return None
        (size,) = struct.unpack_from(">I", self._buffer)
        if size > MAX_FRAME:
            raise SandboxEnded("it sent something else than frames")
        if len(self._buffer) < 4 + size:
            return None
        data = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        try:
            frame = json.loads(data.decode(), parse_constant=_finite, parse_float=_finite)
            if b"\\ud" in data.lower():
                # Half of a surrogate pair is no text: what is written down of a run could not be encoded.
                frame = json.loads(json.dumps(frame, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            raise SandboxEnded("it sent something else than frames") from None
        if not isinstance(frame, dict):
            raise SandboxEnded("it sent something else than frames")
        return frame

    def _end(self) -> SandboxEnded:
        """Wait shortly for the exit status, which says more than a closed channel."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return SandboxEnded("it closed its channel to the agent")
        if status == _NOT_READY:
            return SandboxNotReady("its limits cannot be set, or its folder cannot be written")
        # Bubblewrap reports a signal as 128 + its number.
        if status > 128 and status - 128 in iter(signal.Signals):
            return SandboxEnded(f"it was ended by {signal.Signals(status - 128).name}")
        return SandboxEnded(f"it exited with status {status}")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not JSON")
    return number


def _spawn(
    program: str, workspace: Path, tmp_mb: int, channel: socket.socket, output: int, errors: int
) -> subprocess.Popen:
    """Start bubblewrap; its options go through a file, so that no list of processes shows them."""
    handles = []
    try:
        options = bwrap_arguments(workspace, tmp_mb)
        calls = seccomp_filter()
        if calls is not None:
            handles.append(_memory_file(calls))
            options += ["--seccomp", str(handles[0])]
        handles.append(_memory_file(b"".join(option.encode() + b"\0" for option in options)))
        command = [program, "--args", str(handles[-1])]
        command += [python_program(), "-I", "-S", "-B", CHILD]
        # No variable of this process goes along: it could be read from the sandbox's first process.
        return subprocess.Popen(
            command,
            stdin=channel,
            stdout=output,
            stderr=errors,
            env={},
            cwd="/",
            pass_fds=handles,
            start_new_session=True,
        )
    finally:
        for handle in handles:
            os.close(handle)


def _memory_file(data: bytes) -> int:
    handle = os.memfd_create("t3-sandbox")
    os.write(handle, data)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle
