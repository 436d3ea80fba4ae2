"""smolagents' Python interpreter with a time limit that holds."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import Future
from typing import Any

from smolagents.local_python_executor import (
    CodeOutput,
    ExecutionTimeoutError,
    InterpreterError,
    LocalPythonExecutor,
)


class TimedExecutor(LocalPythonExecutor):
    """Runs a code step in a thread of its own and ends it when its time is up.

    The limit of smolagents' executor only reports afterwards that the code took too long: it waits for its end. Here
    the interpreter is interrupted between two operations. One operation that takes long by itself, such as a tool that
    waits for a server, is left behind in its thread and interrupted when it returns.

    Args:
        additional_authorized_imports (`list[str]`): modules that code may import besides smolagents' base modules.
        time_limit (`float`): seconds that one step may take.
        kwargs: everything else of [`~smolagents.LocalPythonExecutor`].
    """

    def __init__(self, additional_authorized_imports: list[str], time_limit: float, **kwargs: Any):
        super().__init__(additional_authorized_imports, timeout_seconds=None, **kwargs)
        self.time_limit = time_limit

    def __call__(self, code_action: str) -> CodeOutput:
        """Run a code step.

        Raises:
            ExecutionTimeoutError: when it took longer than `time_limit`.
            InterpreterError: when the code raised something.
        """
        outcome: Future[CodeOutput] = Future()
        run = super().__call__

        def work() -> None:
            try:
                outcome.set_result(run(code_action))
            except Exception as error:
                outcome.set_exception(error)
            except BaseException as error:  # `raise SystemExit` ends the step, not the process
                outcome.set_exception(InterpreterError(f"{type(error).__name__}: {error}"))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            thread.join(self.time_limit)
            if thread.is_alive():
                raise ExecutionTimeoutError(
                    f"Code execution exceeded the maximum execution time of {self.time_limit} seconds"
                )
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
