"""Code in this process, with a time limit that holds, for `executor_type="local"`."""

from __future__ import annotations

import ast
import builtins
import ctypes
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from importlib.util import find_spec
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from smolagents.local_python_executor import (
    BASE_PYTHON_TOOLS,
    DANGEROUS_MODULES,
    CodeOutput,
    ExecutionTimeoutError,
    InterpreterError,
    LocalPythonExecutor,
    check_safer_result,
)

from ..interruption import InterruptedTurn, current_interruption, seconds_left
from ..workspace import Workspace
from .child import FinalAnswer, ImportGuard, check_imports, is_allowed, places_of, refuse_tool_names, show_last_value
from .process import Printed


_REFUSED = set(
    "eval exec compile input breakpoint globals locals vars open help exit quit copyright credits license".split()
)
_OPEN_NAMES = set("__init__ __name__ __doc__ __version__ __file__ __len__ __str__ __repr__ __enter__ __exit__".split())
"""Names with double underscores that code may read of an object."""
_CHECKED = "__checked__"
_VALUE = "__last_value__"


class LocalExecutor(LocalPythonExecutor):
    """Runs a code step in a thread of this process and ends it when its time is up.

    This is no security boundary: through the modules that it may import, code reads and writes whatever this process
    can. It is there for machines without bubblewrap and for code that is trusted, see [`SandboxExecutor`].

    Python itself runs the code, after the checks that smolagents' interpreter makes were put into it: imports that are
    not listed, names with double underscores and what leads to dangerous modules and functions are refused. (That
    interpreter would run `for ... else`, `return` in a `try`, defaults, closures and more in another way than Python.)
    A step is interrupted between two operations. One operation that takes long by itself, such as a tool that waits
    for a server, is left behind in its thread and interrupted when it returns.

    Args:
        additional_authorized_imports (`list[str]`): modules that code may import besides smolagents' base modules;
            those that are not installed are passed over.
        workspace ([`Workspace`]): where the code works; tools keep the working directory of the process.
        time_limit (`float`): seconds that one step may take.
        additional_functions (`dict[str, Callable]`, *optional*): further functions for the code.
        timeout_seconds (`float`, *optional*): smolagents' name for `time_limit`.
        kwargs: everything else of [`~smolagents.LocalPythonExecutor`].
    """

    def __init__(
        self,
        additional_authorized_imports: list[str],
        workspace: Workspace,
        time_limit: float,
        additional_functions: dict[str, Callable[..., Any]] | None = None,
        timeout_seconds: float | None = None,
        **kwargs: Any,
    ):
        warnings.warn(
            'executor_type="local" runs model-written code inside this process: it is no security boundary.',
            stacklevel=2,
        )
        imports = [name for name in additional_authorized_imports if name == "*" or find_spec(name.split(".")[0])]
        functions = {"open": self._open, **(additional_functions or {})}
        super().__init__(imports, timeout_seconds=None, additional_functions=functions, **kwargs)
        self.workspace = workspace
        self.time_limit = timeout_seconds or time_limit
        self.static_tools: dict[str, Callable[..., Any]] = {}
        self._tools: dict[str, Callable[..., Any]] = {}
        self._answers: list[Any] = []
        self._printed = Printed(self.max_print_outputs_length)
        self._sources: dict[str, list[str]] = {}
        # One dictionary for all steps: a function looks into that of the step which defined it.
        self._builtins = {name: value for name, value in vars(builtins).items() if name not in _REFUSED}
        self.state["__builtins__"] = self._builtins

    def send_tools(self, tools: dict[str, Callable[..., Any]]) -> None:
        """Give code these tools."""
        super().send_tools(tools)
        self._tools = {name: self._outside(name, tool) for name, tool in tools.items()}
        if "final_answer" in self._tools:
            self._tools["final_answer"] = self._ending(self._tools["final_answer"])

    def __call__(self, code_action: str) -> CodeOutput:
        """Run a code step.

        Raises:
            ExecutionTimeoutError: when it took longer than `time_limit`.
            InterpreterError: when the code raised something.
            InterruptedTurn: when the run was cancelled.
        """
        self._answers, self._printed = [], Printed(self.max_print_outputs_length)
        self._builtins |= BASE_PYTHON_TOOLS | self._tools | self.additional_functions
        self._builtins |= {
            "print": self._print,
            "setattr": setattr,
            ImportGuard.check: lambda *names: check_imports(names, sorted(self.authorized_imports)),
            ImportGuard.dynamic: self._import,
            _CHECKED: self._check,
        }

        def run() -> Any:
            with self.workspace.activate():
                return self._run(code_action, f"<step {len(self._sources) + 1}>")

        try:
            output = run_with_limit(run, seconds_left(self.time_limit))
        finally:
            self.state["_print_outputs"] = self._printed.text()
        return CodeOutput(output, self.state["_print_outputs"], bool(self._answers))

    def _run(self, code: str, file: str) -> Any:
        self._sources[file] = code.splitlines()
        self.state.pop(_VALUE, None)
        try:
            tree = ast.parse(code, file)
            refuse_tool_names(tree, {*self._tools, *self.additional_functions})
            show_last_value(tree.body, _VALUE)
            tree = ast.fix_missing_locations(_LocalGuard().visit(tree))
            exec(compile(tree, file, "exec"), self.state)
        except FinalAnswer:
            pass
        except Exception as error:
            if not self._answers:
                raise InterpreterError(self._explain(error, file)) from error
        # An answer counts also when a handler of the code kept it from ending the step.
        return self._answers[0] if self._answers else self.state.pop(_VALUE, None)

    def _explain(self, error: Exception, file: str) -> str:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        places = places_of(error, self._sources, file)
        if not places:
            return text
        return f"{text}\n(in {', in '.join(dict.fromkeys([places[0], places[-1]]))})"

    # What the code calls

    def _open(self, file: str, mode: str = "r", **kwargs: Any) -> Any:
        """`open` for model-written code: workspace paths only."""
        return open(str(file), mode, **{**kwargs, "opener": self.workspace.open})

    def _print(self, *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, **_: Any) -> None:
        text = (" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end)
        if file is None:
            self._printed.add(text.encode(errors="backslashreplace"))
        else:
            file.write(text)

    def _import(self, name: str, *args: Any, **kwargs: Any) -> Any:
        check_imports((name,), sorted(self.authorized_imports))
        return self._check(__import__(name, *args, **kwargs))

    def _check(self, value: Any) -> Any:
        """A value that an import, an attribute, a call or an index gave, unless code may not have it."""
        if isinstance(value, ModuleType):
            is_dangerous = value.__name__.partition(".")[0] in DANGEROUS_MODULES
            if is_dangerous and not is_allowed(value.__name__, self.authorized_imports):
                raise InterpreterError(f"Forbidden access to module: {value.__name__}")
        elif isinstance(value, (FunctionType, BuiltinFunctionType)):
            check_safer_result(value, self.static_tools, self.authorized_imports)
        return value

    def _outside(self, name: str, tool: Callable[..., Any]) -> Callable[..., Any]:
        """A tool as a function that runs where the process works."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.workspace.suspend():
                return tool(*args, **kwargs)

        call.__name__ = call.__qualname__ = name
        call.__doc__ = getattr(tool, "description", None) or tool.__doc__
        return call

    def _ending(self, tool: Callable[..., Any]) -> Callable[..., Any]:
        def final_answer(*args: Any, **kwargs: Any) -> None:
            self._answers.append(tool(*args, **kwargs))
            raise FinalAnswer

        return final_answer


class _LocalGuard(ImportGuard):
    """Puts the checks of smolagents' interpreter into code."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        return [*super().visit_Import(node), *(self._statement(node, name) for name in names)]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        statements = super().visit_ImportFrom(node)
        names = [alias.asname or alias.name for alias in node.names if alias.name != "*"]
        if not isinstance(statements, list):
            return statements
        return [*statements, *(self._statement(node, name) for name in names)]

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id in ("__builtins__", "__loader__", "__spec__"):
            raise InterpreterError(f"Forbidden access to {node.id}.")
        return super().visit_Name(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr.startswith("__") and node.attr.endswith("__") and node.attr not in _OPEN_NAMES:
            raise InterpreterError(f"Forbidden access to dunder attribute: {node.attr}")
        return self._value(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        return self._value(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return self._value(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        return node  # a pattern may hold no call

    def _value(self, node: Any) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        return ast.copy_location(ast.Call(ast.Name(_CHECKED, ast.Load()), [node], []), node)

    def _statement(self, node: ast.stmt, name: str) -> ast.stmt:
        call = ast.Call(ast.Name(_CHECKED, ast.Load()), [ast.Name(name, ast.Load())], [])
        return ast.copy_location(ast.Expr(call), node)


def run_with_limit(function: Callable[[], Any], seconds: float) -> Any:
    """Call a function in a thread of its own, and interrupt it when its time is up or the run is cancelled.

    Args:
        function (`Callable`): what to call. It belongs to the run: spans, limits and interruptions are those of here.
        seconds (`float`): time that it may take.

    Raises:
        ExecutionTimeoutError: when it took longer; it may still be waiting for something in its thread.
        InterpreterError: when it raised what is no `Exception`, such as `SystemExit`.
        InterruptedTurn: when the run was cancelled.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:
            outcome.set_exception(error)
        except BaseException as error:  # `raise SystemExit` ends the step, not the process
            outcome.set_exception(InterpreterError(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    interruption, deadline = current_interruption(), time.monotonic() + seconds
    thread.start()
    try:
        while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            thread.join(min(left, 0.1))
            if interruption is not None and interruption.is_cancelled():
                raise InterruptedTurn("The run was cancelled.")
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
