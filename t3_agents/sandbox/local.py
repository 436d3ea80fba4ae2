"""smolagents' Python interpreter with a time limit that holds, for `executor_type="local"`."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

from smolagents.local_python_executor import (
    CodeOutput,
    ExecutionTimeoutError,
    InterpreterError,
    LocalPythonExecutor,
)

from ..interruption import seconds_left
from ..workspace import Workspace


class TimedExecutor(LocalPythonExecutor):
    """Runs a code step in a thread of this process and ends it when its time is up.

    This is no security boundary: through the modules that it may import, code reads and writes whatever this process
    can. It is there for machines without bubblewrap and for code that is trusted, see [`SandboxExecutor`].

    The limit of smolagents' executor only reports afterwards that the code took too long: it waits for its end. Here
    the interpreter is interrupted between two operations. One operation that takes long by itself, such as a tool that
    waits for a server, is left behind in its thread and interrupted when it returns.

    Args:
        additional_authorized_imports (`list[str]`): modules that code may import besides smolagents' base modules;
            those that are not installed are passed over.
        workspace ([`Workspace`]): where `open` of the code reads and writes.
        time_limit (`float`): seconds that one step may take.
        kwargs: everything else of [`~smolagents.LocalPythonExecutor`].
    """

    def __init__(
        self, additional_authorized_imports: list[str], workspace: Workspace, time_limit: float, **kwargs: Any
    ):
        warnings.warn(
            'executor_type="local" runs model-written code inside this process: it is no security boundary.',
            stacklevel=2,
        )
        imports = [name for name in additional_authorized_imports if name == "*" or find_spec(name.split(".")[0])]
        super().__init__(imports, timeout_seconds=None, additional_functions={"open": self._open}, **kwargs)
        self.workspace = workspace
        self.time_limit = time_limit

    def __call__(self, code_action: str) -> CodeOutput:
        """Run a code step.

        Raises:
            ExecutionTimeoutError: when it took longer than `time_limit`.
            InterpreterError: when the code raised something.
        """
        run = super().__call__
        # Code finds its files by the working directory, unless it has no imports and so reaches them through `open`
        # and the tools only. Then concurrent runs need not take turns.
        with self.workspace.activate() if self.additional_authorized_imports else nullcontext():
            return run_with_limit(lambda: run(code_action), seconds_left(self.time_limit))

    def _open(self, file: str, mode: str = "r", **kwargs: Any) -> Any:
        """`open` for model-written code: workspace paths only."""
        return open(str(file), mode, **{**kwargs, "opener": self.workspace.open})


def run_with_limit(function: Callable[[], Any], seconds: float) -> Any:
    """Call a function in a thread of its own, and interrupt it when its time is up.

    Args:
        function (`Callable`): what to call.
        seconds (`float`): time that it may take.

    Raises:
        ExecutionTimeoutError: when it took longer; it may still be waiting for something in its thread.
        InterpreterError: when it raised what is no `Exception`, such as `SystemExit`.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:
            outcome.set_exception(error)
        except BaseException as error:  # `raise SystemExit` ends the step, not the process
            outcome.set_exception(InterpreterError(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(max(0, seconds))
        if thread.is_alive():
            limit = f"{round(seconds, 1):g} seconds"
            raise ExecutionTimeoutError(f"Code execution exceeded the maximum execution time of {limit}")
    finally:  # also when the caller is interrupted while it waits
        _interrupt(thread)
    return outcome.result()


class _TimeUp(SystemExit):
    """Not an `Exception`, so that no handler of the code catches it; threads end silently with a `SystemExit`."""


def _interrupt(thread: threading.Thread, tries: int = 20) -> None:
    """Raise an exception in a thread, again if its code goes on in a `finally` block."""
    for _ in range(tries):
        if not thread.is_alive():
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TimeUp))
        thread.join(0.05)
