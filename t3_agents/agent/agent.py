"""[`T3Agent`]: smolagents' CodeAgent with pictures, a workspace, limits and a record of what it did."""

from __future__ import annotations

import ast
import functools
import io
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template
from PIL import Image
from smolagents import CodeAgent, Tool
from smolagents.agents import ActionOutput, LogLevel
from smolagents.local_python_executor import PythonExecutor
from smolagents.memory import ActionStep, FinalAnswerStep, MemoryStep, PlanningStep, ToolCall
from smolagents.models import ChatMessage, Model, agglomerate_stream_deltas
from smolagents.utils import AgentError, AgentExecutionError, AgentGenerationError, AgentParsingError

from .. import tracing
from ..errors import InputError
from ..hub.repos import AGENT_FILE, has_agent
from ..interruption import InterruptedTurn, Interruption, interruptible
from ..models.embedded import EMBEDDED
from ..models.vlm import Generation, VLMModel
from ..sandbox import PAPER_IMPORTS, SandboxExecutor, SandboxLimits, require_sandbox
from ..sandbox.local import TimedExecutor
from ..task import File, Task
from ..tools.base import WorkspaceTool
from ..tools.toolbox import make_toolbox
from ..trajectory import CODE_CLOSE, CODE_OPEN, Step, Trajectory
from ..turns import execution_error, parse_turn, shorten
from ..workspace import Workspace
from .config import T3AgentConfig, load_prompt
from .memory import pictures_of, to_messages, to_step
from .pretrained import PretrainedAgent


EXECUTORS = ("sandbox", "docker", "e2b", "modal", "blaxel", "local")


class T3Agent(PretrainedAgent, CodeAgent):
    """A code agent that sees pictures, works in a workspace and returns a [`Trajectory`].

    The inherited `run` keeps smolagents' behaviour and signature; [`run_task`] takes a [`Task`] with files and returns
    the record of the run. In both, a picture is shown to the model once, where it came up: attachments with the task,
    pictures that a step returned or saved in the turn after it.

    Args:
        tools (`list[Tool]`): the tools, see `tools/toolbox.py` for ready sets.
        model ([`~smolagents.Model`]): the controller. [`VLMModel`] keeps the ids that it produced in the trajectory.
        prompt (`str`, *optional*, defaults to `"paper"`): name of a prompt of the package; `prompt_templates`
            overrides it.
        max_steps (`int`, *optional*, defaults to 10): steps before the run ends.
        max_consecutive_errors (`int`, *optional*, defaults to 5): failed steps in a row before the run ends.
        token_budget (`int`, *optional*): input plus output tokens before the run ends.
        time_budget (`float`, *optional*): seconds before the run ends, also in the middle of a turn of the model.
        max_images_per_step (`int`, *optional*, defaults to 2): pictures that one step may show.
        max_observation_length (`int`, *optional*, defaults to 4000): characters of an observation.
        code_timeout (`float`, *optional*, defaults to 60): seconds that one code step may take.
        code_block_tags (`tuple[str, str]`, *optional*): tags around code, by default those of the released data.
        additional_authorized_imports (`list[str]`, *optional*): modules that code may import besides smolagents' base
            modules; for the prompt `paper` by default those of the released data.
        executor_type (`str`, *optional*, defaults to `"sandbox"`): where code runs. `sandbox` is a Python of its own
            behind bubblewrap, see [`SandboxExecutor`]; `docker`, `e2b`, `modal` and `blaxel` are smolagents';
            `local` is an interpreter inside this process and no security boundary. It is not saved with an agent.
        executor_kwargs (`dict`, *optional*): settings of the executor, such as `{"limits": SandboxLimits(...)}`.
        kwargs: everything else of [`~smolagents.CodeAgent`].
    """

    def __init__(
        self,
        tools: list[Tool],
        model: Model,
        prompt: str = "paper",
        prompt_templates: dict[str, Any] | None = None,
        max_steps: int = 10,
        max_consecutive_errors: int = 5,
        token_budget: int | None = None,
        time_budget: float | None = None,
        max_images_per_step: int = 2,
        max_observation_length: int = 4000,
        code_timeout: float = 60,
        code_block_tags: tuple[str, str] = (CODE_OPEN, CODE_CLOSE),
        additional_authorized_imports: list[str] | None = None,
        executor_type: str = "sandbox",
        verbosity_level: LogLevel = LogLevel.OFF,
        **kwargs: Any,
    ):
        self.prompt = prompt
        self.max_consecutive_errors = max_consecutive_errors
        self.token_budget = token_budget
        self.time_budget = time_budget
        self.max_images_per_step = max_images_per_step
        self.max_observation_length = max_observation_length
        self.code_timeout = code_timeout
        self.workspace = Workspace()
        self.end_reason = "answer"
        # run_task ends without an answer at a limit; run asks the model for one, as smolagents does.
        self._answer_at_limit = True
        self._files: dict[int, File] = {}
        self._interruption: Interruption | None = None
        self._started = time.monotonic()
        check_executor(executor_type)
        if additional_authorized_imports is None and prompt == "paper":
            additional_authorized_imports = PAPER_IMPORTS
        super().__init__(
            tools=tools,
            model=model,
            additional_authorized_imports=additional_authorized_imports,
            executor_type=executor_type,
            prompt_templates=prompt_templates or load_prompt(prompt),
            max_steps=max_steps,
            code_block_tags=code_block_tags,
            verbosity_level=verbosity_level,
            **kwargs,
        )
        self._bind(self.workspace)

    # The run

    def run_task(
        self, task: Task, workspace: Workspace | None = None, on_step: Callable[[Step], None] | None = None
    ) -> Trajectory:
        """Solve a task and return the record of the run.

        Args:
            task ([`Task`]): what is asked, with its files.
            workspace ([`Workspace`], *optional*): where files and results go; a temporary folder of this run by
            default.
            on_step (`Callable`, *optional*): called with every finished [`Step`].

        Returns:
            [`Trajectory`]: with `answer` set when the controller gave one, else with the limit in `end_reason`.

        Raises:
            InputError: when an attachment cannot be read.
            AgentGenerationError: when the model itself fails.
        """
        self._bind(workspace or Workspace())
        self._renew_executor()
        for file in task.files:
            self.workspace.add(file)
        images = [file.open_image() for file in task.images]
        self._files = {id(image): file for image, file in zip(images, task.images, strict=True)}
        self.state = {}
        self._answer_at_limit = False
        answer = None
        try:
            about = {tracing.INPUT: task.query}
            with (
                interruptible(self.time_budget) as self._interruption,
                tracing.span("AGENT", "T3Agent.run_task", about) as span,
            ):
                for item in self.run(task.text(), images=images or None, stream=True):
                    if isinstance(item, FinalAnswerStep) and self.end_reason == "answer":
                        answer = "" if item.output is None else str(item.output)
                    elif isinstance(item, ActionStep) and on_step and self.end_reason == "answer":
                        on_step(self._to_step(item))
                span.set({tracing.OUTPUT: answer})
        finally:
            self._answer_at_limit = True
            self.cleanup()
        return self._to_trajectory(task, answer)

    def interrupt(self) -> None:
        """End the run: the turn that is being written, or the code in the sandbox; other code when it is done."""
        super().interrupt()
        if self._interruption is not None:
            self._interruption.cancel()

    def _bind(self, workspace: Workspace) -> None:
        """Work in this workspace, with all tools and managed agents."""
        self.workspace = workspace
        for tool in self.tools.values():
            if isinstance(tool, WorkspaceTool):
                tool.workspace = workspace
                tool.controller = self.model
        for agent in self.managed_agents.values():
            if isinstance(agent, T3Agent):
                agent._bind(workspace)
                agent._renew_executor()

    def initialize_system_prompt(self) -> str:
        # As smolagents does it, but it compiles the template at every run, which takes as long as several steps.
        imports = self.authorized_imports
        return _compiled(self.prompt_templates["system_prompt"]).render(
            tools=self.tools,
            managed_agents=self.managed_agents,
            authorized_imports="You can import from any package you want." if "*" in imports else str(imports),
            custom_instructions=self.instructions,
            code_block_opening_tag=self.code_block_tags[0],
            code_block_closing_tag=self.code_block_tags[1],
        )

    def _renew_executor(self) -> None:
        self.cleanup()
        self.python_executor = self.create_python_executor()

    def _run_stream(self, task: str, max_steps: int, images: list[Image.Image] | None = None) -> Generator[Any]:
        self.end_reason = "answer"
        self._started = time.monotonic()
        # The pictures stand in the task step; handing them on would show them again at every step.
        steps = super()._run_stream(task=task, max_steps=max_steps, images=None)
        for item in steps:
            yield item
            if isinstance(item, ActionStep) and not item.is_final_answer and self.end_reason == "answer":
                limit = self._reached_limit()
                if limit:
                    steps.close()
                    self.end_reason = limit
                    yield FinalAnswerStep(self._answer_after_limit(task))
                    return

    def _reached_limit(self) -> str | None:
        actions = [step for step in self.memory.steps if isinstance(step, ActionStep)]
        recent = actions[-self.max_consecutive_errors :]
        if len(recent) == self.max_consecutive_errors and all(step.error for step in recent):
            return "max_errors"
        used = sum(step.token_usage.total_tokens for step in actions if step.token_usage)
        if self.token_budget is not None and used >= self.token_budget:
            return "token_budget"
        if self.time_budget is not None and time.monotonic() - self._started >= self.time_budget:
            return "time_budget"
        return None

    def _answer_after_limit(self, task: str) -> Any:
        return self.provide_final_answer(task).content if self._answer_at_limit else None

    def _handle_max_steps_reached(self, task: str) -> Any:
        self.end_reason = "max_steps"
        return super()._handle_max_steps_reached(task) if self._answer_at_limit else None

    # One step

    def _step_stream(self, memory_step: ActionStep) -> Generator[Any]:
        with tracing.span("CHAIN", f"Step {memory_step.step_number}") as span:
            yield from self._act(memory_step)
            span.set({tracing.INPUT: memory_step.code_action, tracing.OUTPUT: memory_step.observations})

    def _act(self, memory_step: ActionStep) -> Generator[Any]:
        memory_step.model_input_messages = self.write_memory_to_messages()
        chat_message = yield from self._generate(memory_step.model_input_messages)
        memory_step.model_output_message = chat_message
        memory_step.token_usage = chat_message.token_usage
        memory_step.model_output = self._turn_text(chat_message)

        code, note = self._parse(memory_step.model_output)
        memory_step.code_action = code
        tool_call = ToolCall(name="python_interpreter", arguments=code, id=f"call_{len(self.memory.steps)}")
        memory_step.tool_calls = [tool_call]
        yield tool_call

        self.logger.log_code(title="Executing parsed code:", content=code, level=LogLevel.INFO)
        try:
            self._limit_code_time()
            # Code that runs in this process finds its files by the working directory, unless it has no imports and
            # so reaches them through `open` and the tools only. Then concurrent runs need not take turns.
            shares_directory = self.executor_type == "local" and self.additional_authorized_imports
            with self.workspace.activate() if shares_directory else nullcontext():
                result = self.python_executor(code)
            shown = "" if result.output is None else str(result.output)
        except InterruptedTurn as error:
            raise AgentError(str(error), self.logger) from None
        except Exception as error:  # whatever model-written code or a tool raises is the model's to see
            keeps_prints = isinstance(self.python_executor, (SandboxExecutor, TimedExecutor))
            printed = str(self.python_executor.state.get("_print_outputs", "")) if keeps_prints else ""
            self._observe(memory_step, [printed, note])
            raise AgentExecutionError(execution_error(error), self.logger) from error
        if result.is_final_answer:
            shown = ""
        elif isinstance(result.output, Image.Image):
            shown = self.workspace.save_image(result.output)
        # The value of a last `print(...)` is None; a last expression is shown unless it was printed already.
        parts = [result.logs, shown if shown.strip() != result.logs.strip() else "", note]
        self._observe(memory_step, parts, show_images=not result.is_final_answer)
        self.logger.log(memory_step.observations, level=LogLevel.INFO)
        memory_step.action_output = result.output
        yield ActionOutput(output=result.output, is_final_answer=result.is_final_answer)

    def _limit_code_time(self) -> None:
        """Code may take no longer than what is left of the run's time."""
        left = self._interruption.seconds_left() if self._interruption else None
        if left is None:
            return
        seconds, executor = min(self.code_timeout, left), self.python_executor
        if isinstance(executor, SandboxExecutor):
            executor.limits = replace(executor.limits, seconds=min(seconds, executor.limits.seconds))
        elif isinstance(executor, TimedExecutor):
            executor.time_limit = seconds

    def _generate(self, messages: list[ChatMessage]) -> Generator[Any, None, ChatMessage]:
        stop_sequences = ["Observation:", self.code_block_tags[1]]
        try:
            if not self.stream_outputs:
                return self.model.generate(messages, stop_sequences=stop_sequences)
            deltas = []
            for delta in self.model.generate_stream(messages, stop_sequences=stop_sequences):
                deltas.append(delta)
                yield delta
            return agglomerate_stream_deltas(deltas)
        except InputError:  # the conversation is too long, say: a sentence for the person at the keyboard
            raise
        except InterruptedTurn as error:  # ends the step; the limit that was reached ends the run
            raise AgentError(str(error), self.logger) from None
        except Exception as error:  # a model behind an API may raise anything; smolagents wraps it all
            raise AgentGenerationError(f"The model could not write a turn: {error}", self.logger) from error

    def _turn_text(self, message: ChatMessage) -> str:
        """The turn as it stands in the conversation from now on."""
        if isinstance(message.raw, Generation):
            return message.raw.text
        text = message.content or ""
        _, code, blocks = parse_turn(text, self.code_block_tags)
        # Servers take the closing tag away, since it is a stop sequence.
        return text.rstrip("\n") + "\n" + self.code_block_tags[1] if blocks and not code else text

    def _parse(self, text: str) -> tuple[str, str]:
        """Code of a turn, and a note for the observation.

        Raises:
            AgentParsingError: when there is no code that compiles; the message is the model's observation.
        """
        opening, closing = self.code_block_tags
        _, code, blocks = parse_turn(text, self.code_block_tags)
        if not blocks:
            raise AgentParsingError(
                f"no code block was found. Write the code between {opening} and {closing}", self.logger
            )
        if not code.strip():
            raise AgentParsingError(
                f"the code block is empty or was not closed. Write short code and end it with {closing}", self.logger
            )
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise AgentParsingError(f"the code is not valid Python ({reason}{place})", self.logger) from None
        return code, "Only the first code block was run." if blocks > 1 else ""

    def _observe(self, memory_step: ActionStep, parts: list[str], show_images: bool = True) -> None:
        """Fill in what the step printed and the pictures that it brought; nobody looks at those of a last step."""
        new = self.workspace.new_images() if show_images else []
        shown = new[: self.max_images_per_step]
        memory_step.observations_images = [file.open_image() for file in shown] or None
        for image, file in zip(memory_step.observations_images or [], shown, strict=True):
            self._files[id(image)] = file
        unnamed = [file.path for file in shown if not any(file.path in part for part in parts)]
        if unnamed:
            parts = [*parts, f"Picture: {', '.join(unnamed)}"]
        if len(new) > len(shown):
            parts = [*parts, f"({len(new) - len(shown)} more pictures are not shown.)"]
        memory_step.observations = shorten(
            "\n".join(p.strip() for p in parts if p.strip()), self.max_observation_length
        )

    def create_python_executor(self) -> PythonExecutor:
        printed = self.max_print_outputs_length or 4 * self.max_observation_length
        if self.executor_type == "sandbox":
            limits = SandboxLimits(seconds=self.code_timeout, output_chars=printed)
            return SandboxExecutor(
                self.additional_authorized_imports, self.workspace, **{"limits": limits, **self.executor_kwargs}
            )
        if self.executor_type == "local":
            return TimedExecutor(
                self.additional_authorized_imports,
                time_limit=self.code_timeout,
                max_print_outputs_length=printed,
                additional_functions={"open": self._open},
                **self.executor_kwargs,
            )
        return super().create_python_executor()

    def _open(self, file: str, mode: str = "r", **kwargs: Any) -> Any:
        """`open` for model-written code: workspace paths only."""
        writes = any(letter in mode for letter in "wxa+")
        path = self.workspace.resolve(str(file), must_exist=not writes)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open(mode, **kwargs)

    # From memory to messages and to the record

    def write_memory_to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        """The conversation so far, by the renderer that training uses too.

        Args:
            summary_mode (`bool`, *optional*, defaults to `False`): leave out the system prompt and earlier plans.
        """
        memory = [step for step in self.memory.steps if not (summary_mode and isinstance(step, PlanningStep))]
        system_prompt = "" if summary_mode else self.memory.system_prompt.system_prompt
        return to_messages(memory, system_prompt, self.code_block_tags, self._callables)

    @property
    def _callables(self) -> set[str]:
        return {*self.tools, *self.managed_agents}

    def _to_step(self, memory_step: MemoryStep) -> Step:
        return to_step(memory_step, self.code_block_tags, self._callables)

    def _to_trajectory(self, task: Task, answer: str | None) -> Trajectory:
        steps, images = [], []
        for memory_step in self.memory.steps:
            step = self._to_step(memory_step)
            step.images = list(range(len(images), len(images) + len(step.images)))
            images += [self._file_of(image) for image in pictures_of(memory_step)]
            steps.append(step)
        return Trajectory(
            task=task,
            system_prompt=self.memory.system_prompt.system_prompt,
            steps=steps[1:],
            images=images,
            answer=answer,
            end_reason=self.end_reason,
            provenance=self.provenance(),
        )

    def _file_of(self, image: Image.Image) -> File:
        """The file behind a picture of the conversation."""
        if id(image) not in self._files:
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            self._files[id(image)] = File.from_bytes(buffer.getvalue(), f"outputs/picture_{len(self._files)}.png")
        return self._files[id(image)]

    def provenance(self) -> dict[str, Any]:
        """Where a trajectory of this agent comes from, JSON-safe."""
        return {
            "controller": self.model.model_id or type(self.model).__name__,
            "revision": self.model.revision if isinstance(self.model, VLMModel) else None,
            "toolbox": [
                {"name": tool.name, "version": tool.version if isinstance(tool, WorkspaceTool) else None}
                for tool in self.tools.values()
                if tool.name != "final_answer"
            ],
            "prompt": self.prompt,
            "package_version": _package_version(),
        }


@functools.cache
def _compiled(template: str) -> Template:
    return Template(template, undefined=StrictUndefined)


@functools.cache
def _package_version() -> str:
    return version("t3-agents")


def check_executor(executor_type: str) -> None:
    """Refuse an executor that does not exist, or does not work here, before anything is loaded.

    Raises:
        InputError: when there is no executor of this name.
        SandboxError: when there is no working bubblewrap for `sandbox`.
    """
    if executor_type not in EXECUTORS:
        raise InputError(f"There is no executor `{executor_type}`; choose one of: {', '.join(EXECUTORS)}.")
    if executor_type == "sandbox":
        require_sandbox()


def load_agent(
    name: str | Path,
    model: Model | None = None,
    toolbox: str = "embedded",
    prompt: str = "compact",
    revision: str | None = None,
    api_base: str | None = None,
    api_model: str | None = None,
    **limits: Any,
) -> T3Agent:
    """A saved agent, or a new one around a bare controller.

    Args:
        name (`str` or `Path`): folder or Hub id of an agent or of a vision-language model; `embedded` is the offline
            one.
        model ([`~smolagents.Model`], *optional*): a model that is loaded already.
        toolbox (`str`, *optional*, defaults to `"embedded"`), prompt (`str`, *optional*, defaults to `"compact"`): of
            a new agent.
        revision (`str`, *optional*): branch, tag or commit.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`.
        api_model (`str`, *optional*): the controller's name there; by default the only one that the server lists, or
            `name` for a bare controller.
        limits: settings of [`T3Agent`], such as `max_steps` or `executor_type`.

    Raises:
        InputError: when nothing can be loaded under this name.
    """
    is_saved = (Path(name) / AGENT_FILE).is_file() or (
        not Path(name).is_dir() and api_base is None and str(name) != EMBEDDED and has_agent(str(name), revision)
    )
    if api_base is not None and model is None:
        from ..models.server import ServerModel

        generation = T3AgentConfig.from_folder(Path(name)).generation if is_saved else {}
        model = ServerModel(api_model or (None if is_saved else str(name)), api_base=api_base, **generation)
    if is_saved:
        return T3Agent.from_pretrained(name, model=model, revision=revision, **limits)
    model = model or VLMModel.from_pretrained(name, revision=revision)
    return T3Agent(tools=make_toolbox(toolbox), model=model, prompt=prompt, **limits)
