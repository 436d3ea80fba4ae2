"""[`SandboxExecutor`]: smolagents' `PythonExecutor` over a sandboxed process."""

from __future__ import annotations

import inspect
import json
import secrets
import signal
import time
import weakref
from collections.abc import Callable
from typing import Any

from PIL import Image
from smolagents import Tool
from smolagents.local_python_executor import CodeOutput, ExecutionTimeoutError, InterpreterError, PythonExecutor
from smolagents.utils import BASE_BUILTIN_MODULES

from ..errors import InputError, T3Error
from ..interruption import InterruptedTurn, current_interruption, seconds_left
from ..workspace import Workspace, WorkspaceFullError
from .check import check_sandbox
from .child import decode, encode
from .local import run_with_limit
from .process import Sandbox, SandboxEnded, SandboxLimits, SandboxNotReady, SandboxTimeout


# Rule 8 of the system prompt of the released trajectories.
PAPER_IMPORTS = (
    "xml pydub stat Bio os PyPDF2 pandas scipy io csv pubchempy chess math re matplotlib pptx sympy zipfile fractions "
    "pickle queue torch sklearn PIL requests datetime collections bs4 statistics yahoo_finance json random itertools "
    "unicodedata cv2 numpy time"
).split()

_GRACE_SECONDS = 0.5
"""Time in which code may end by itself after its time is up, which keeps its variables."""


class SandboxError(T3Error):
    """The sandbox does not work here; the message says what to install and how to choose another executor."""


def require_sandbox() -> str:
    """The `bwrap` program that works here.

    Raises:
        SandboxError: when there is none, see [`check_sandbox`].
    """
    status = check_sandbox()
    if not status.available or status.bwrap is None:
        raise SandboxError(
            f"The sandbox for model-written code cannot be used: {status.reason} Or choose another executor: "
            '`executor_type="docker"`, `"e2b"` or `"modal"` (see smolagents), or `"local"`, which is no security '
            "boundary."
        )
    return status.bwrap


class SandboxExecutor(PythonExecutor):
    """Runs code steps in a separate CPython behind bubblewrap: no network, a read-only system, one writable folder.

    Variables, functions and imports live on from step to step. Tools run outside, in this process: code has functions
    that look like them, and their arguments and results travel as JSON. A picture travels as its path in the
    workspace. When the process crashes or uses more than it may, the step ends with an error that says so, and the
    next step gets a fresh process.

    The list of modules is a help for the model and no boundary: what protects the host are the namespaces and limits.

    Args:
        additional_authorized_imports (`list[str]`): modules that code may import besides smolagents' base modules; `*`
            for all that are installed.
        workspace ([`Workspace`]): the working directory of the code.
        limits ([`SandboxLimits`], *optional*): what a step may use.

    Raises:
        SandboxError: when there is no working bubblewrap here, see [`check_sandbox`].
    """

    def __init__(
        self, additional_authorized_imports: list[str], workspace: Workspace, limits: SandboxLimits | None = None
    ):
        self._program = require_sandbox()
        self.workspace = workspace
        self.limits = limits or SandboxLimits()
        self.imports = sorted({*BASE_BUILTIN_MODULES, *additional_authorized_imports})
        # smolagents looks here for what a step printed before it failed.
        self.state: dict[str, Any] = {"_print_outputs": ""}
        self._tools: dict[str, Callable[..., Any]] = {}
        self._variables: dict[str, Any] = {}
        self._images: dict[str, str] = {}
        # What the process is told before its next step; it stands still until then.
        self._unsent: list[dict[str, Any]] = []
        self._at_first: dict[str, int] | None = None
        self._names: list[str] = []
        self._sandbox: Sandbox | None = None
        self._begun = False
        self._end: Callable[[], Any] = lambda: None

    # smolagents' interface

    def send_tools(self, tools: dict[str, Callable[..., Any]]) -> None:
        """Give code these tools, and start the process, which is ready by the time the model has written a turn."""
        self._tools = dict(tools)
        self._start()
        self._unsent.append(self._tools_message())

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Give code these variables.

        Raises:
            InputError: when a value is neither JSON nor a picture.
        """
        values, images = {}, {}
        for name, value in variables.items():
            if isinstance(value, Image.Image):
                images[name] = self.workspace.save_image(value)
                continue
            try:
                values[name] = encoded(value, self.workspace, strict=True)
            except TypeError:
                raise InputError(
                    f"The argument `{name}` is a {type(value).__name__}: the sandbox takes numbers, strings, lists, "
                    "dicts, arrays, tables, times and pictures; anything else goes in as a file in the workspace."
                ) from None
        self._variables.update(values)
        self._images.update(images)
        self._unsent.append({"variables": values, "images": images})

    def __call__(self, code_action: str) -> CodeOutput:
        """Run a code step.

        Raises:
            ExecutionTimeoutError: when it took longer than it may.
            InterpreterError: when the code raised something, crashed or used more than it may.
            InterruptedTurn: when the run in this thread was cancelled.
            SandboxError: when no process could be started, which is not the code's fault.
        """
        self.state["_print_outputs"] = ""
        finished, seconds = False, seconds_left(self.limits.time_limit)
        try:
            before = self.workspace.measure()
            self._at_first = before if self._at_first is None else self._at_first
            self._begin()
            sandbox, result = self._sandbox, None
            try:
                result = self._run(code_action, seconds)
                sandbox.freeze()
                sandbox.drain()
                self._check_disk()
            except WorkspaceFullError as error:
                self._stop()
                self.workspace.keep_only(before)
                raise SandboxEnded(f"{error}. The files that this step made were deleted") from None
            finally:
                self.state["_print_outputs"] = sandbox.printed.text()
            finished = True
        except SandboxNotReady as error:
            raise SandboxError(f"The sandbox does not start: {error}. Run `t3 doctor`.") from None
        except SandboxEnded as error:
            raise InterpreterError(f"The Python process of the code is gone: {error}.{self._say_lost()}") from None
        except _TimeOver as error:
            lost = self._say_lost() if error.killed else ""
            finished = not error.killed
            raise ExecutionTimeoutError(
                f"Code execution exceeded the maximum execution time of {round(seconds, 1):g} seconds.{lost}"
            ) from None
        finally:
            if not finished:
                self._stop()
        if "error" in result:
            raise InterpreterError(result["error"])
        return CodeOutput(result["output"], self.state["_print_outputs"], result["final"])

    def cleanup(self) -> None:
        """End the process. The next step starts a fresh one."""
        self._stop()
        self._names = []

    def memory_bytes(self) -> int:
        """Memory that the process holds now; 0 without a process."""
        return self._sandbox.memory_bytes() if self._begun else 0

    # The process

    def _start(self) -> None:
        if self._sandbox is not None and not self._sandbox.is_mine:  # this process was forked off
            self._stop()
        if self._sandbox is None:
            self._sandbox = Sandbox(self._program, self.workspace.root, self.limits, self.imports)
            self._end = weakref.finalize(self, self._sandbox.kill)

    def _begin(self) -> None:
        """A process that is ready for a step."""
        self._start()
        if not self._begun:
            try:
                self._sandbox.begin()
            except SandboxEnded as error:
                raise SandboxNotReady(str(error)) from None
            self._begun = True
            self._unsent = [self._tools_message(), {"variables": self._variables, "images": self._images}]
        while self._unsent:
            self._sandbox.send(self._unsent.pop(0))

    def _tools_message(self) -> dict[str, Any]:
        return {"tools": [_tool_spec(name, tool) for name, tool in self._tools.items()]}

    def _stop(self) -> None:
        self._end()
        self._sandbox, self._begun = None, False

    def _say_lost(self) -> str:
        names, self._names = self._names, []
        gone = f"; these names are gone: {', '.join(names)}" if names else ""
        return f" The next step starts afresh{gone}."

    # A step

    def _run(self, code: str, seconds: float) -> dict[str, Any]:
        """Hand the code over, answer its tool calls, and return its checked result."""
        sandbox = self._sandbox
        sandbox.printed = type(sandbox.printed)(self.limits.output_chars)
        deadline, is_over = time.monotonic() + seconds, False
        interruption = current_interruption()

        def watch() -> None:
            self._check_disk()
            if interruption is not None and interruption.is_cancelled():
                raise InterruptedTurn("The run was cancelled.")

        cpu_before = sandbox.cpu_seconds()
        # A result must name its step, so that one that was sent in advance is passed over.
        step = secrets.token_hex(8)
        sandbox.send({"code": code, "step": step})
        while True:
            try:
                frame = sandbox.receive(deadline, cpu_before, watch)
                if "call" in frame:
                    sandbox.freeze()
                    reply = {"error": "The time of the step is up."} if is_over else self._call(frame, deadline)
                    if not is_over and time.monotonic() >= deadline:
                        is_over, deadline = True, time.monotonic() + _GRACE_SECONDS
                        sandbox.signal(signal.SIGUSR1)
                    sandbox.send(
                        {**reply, "number": frame.get("number")}, max(_GRACE_SECONDS, deadline - time.monotonic())
                    )
                elif frame.get("step") == step:
                    break
            except SandboxTimeout:
                if is_over:
                    raise _TimeOver(killed=True) from None
                is_over, deadline = True, time.monotonic() + _GRACE_SECONDS
                sandbox.signal(signal.SIGUSR1)
        self._names = _names(frame.get("names"))
        result = _result(frame.get("result"))
        if is_over or "timeout" in result:
            sandbox.freeze()
            sandbox.drain()
            raise _TimeOver(killed=False)
        return result

    def _call(self, frame: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Run a tool for the code; what goes wrong is part of the reply."""
        tool, arguments = self._tools.get(str(frame["call"])), frame.get("arguments")
        if tool is None or not isinstance(arguments, dict):
            return {"error": f"There is no tool `{str(frame['call'])[:100]}`."}
        try:
            arguments = {name: self._argument(tool, name, decode(value)) for name, value in arguments.items()}
            value = run_with_limit(lambda: tool(**arguments), deadline - time.monotonic())
            return {"value": encoded(value, self.workspace)}
        except Exception as error:  # whatever a tool raises is the model's to see
            return {"error": f"{type(error).__name__}: {error}"[:4000]}

    def _argument(self, tool: Callable[..., Any], name: str, value: Any) -> Any:
        """A stock tool takes a picture where the code has its path."""
        is_image = isinstance(tool, Tool) and tool.inputs.get(name, {}).get("type") == "image"
        return self.workspace.open_image(value) if is_image and isinstance(value, str) else value

    def _check_disk(self) -> None:
        now, before = self.workspace.measure(), self._at_first or {}
        if len(now) - len(before) > self.limits.num_files:
            raise WorkspaceFullError(f"it made more than {self.limits.num_files} files")
        grown = sum(now.values()) - sum(before.values()) + self._sandbox.deleted_bytes()
        if grown > self.limits.disk_mb * 2**20:
            raise WorkspaceFullError(f"its files grew by more than {self.limits.disk_mb} MB")


class _TimeOver(Exception):
    """The step took too long; `killed` says whether its process had to be ended."""

    def __init__(self, killed: bool):
        super().__init__()
        self.killed = killed


def _result(result: Any) -> dict[str, Any]:
    """The part of a result frame that may be believed: its types.

    Raises:
        SandboxEnded: when it is of another form, which only code that writes to the channel by itself can bring about.
    """
    if isinstance(result, dict):
        if isinstance(result.get("error"), str):
            return {"error": result["error"]}
        if result.get("timeout") is True:
            return {"timeout": True}
        return {"output": decode(result.get("output")), "final": result.get("final") is True}
    raise SandboxEnded("it sent something else than frames")


def _names(names: Any) -> list[str]:
    listed = names if isinstance(names, list) else []
    return [name for name in listed[:100] if isinstance(name, str) and name.isidentifier() and len(name) < 100]


def encoded(value: Any, workspace: Workspace | None, strict: bool = False) -> Any:
    """A value on its way to the code: JSON where it has that form, pictures as their paths in the workspace."""
    try:
        text = json.dumps(value, allow_nan=False)
        if _has_text_keys(value):
            return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        pass
    return encode(value, workspace.save_image if workspace else str, strict)


def _has_text_keys(value: Any) -> bool:
    """Whether JSON would leave all keys as they are."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_has_text_keys, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))


def _tool_spec(name: str, tool: Callable[..., Any]) -> dict[str, Any]:
    """Name and arguments of a tool as the program inside rebuilds them."""
    function = tool.forward if isinstance(tool, Tool) else type(tool).__call__
    declared = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    parameters: list[dict[str, Any]] = []
    if isinstance(tool, Tool) and {parameter.name for parameter in declared} != set(tool.inputs):
        # A tool that wraps another one takes `*args`; its inputs tell more.
        for key, spec in tool.inputs.items():
            optional = "default" in spec or spec.get("nullable")
            parameters.append({"name": key, **({"default": spec.get("default")} if optional else {})})
        parameters.sort(key=lambda parameter: "default" in parameter)
        declared = []
    for parameter in declared:
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            optional = parameter.default is not inspect.Parameter.empty
            default = {"default": encoded(parameter.default, None)} if optional else {}
            parameters.append({"name": parameter.name, **default})
    more = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in declared)
    return {"name": name, "description": str(tool.description or ""), "parameters": parameters, "more": more}
