"""[`TaskAgent`]: the loop. It generates, parses, executes and observes, each on one [`Step`] that is kept.

Messages for the model, the trajectory and its row, and smolagents' memory are read from these steps.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from jinja2 import StrictUndefined, Template
from PIL import Image
from smolagents import CodeAgent, Tool
from smolagents.agent_types import AgentImage
from smolagents.agents import ActionOutput, LogLevel
from smolagents.local_python_executor import CodeOutput, PythonExecutor
from smolagents.memory import ActionStep, FinalAnswerStep, MemoryStep, PlanningStep, TaskStep, ToolCall
from smolagents.models import (
    CODEAGENT_RESPONSE_FORMAT,
    ChatMessage,
    ChatMessageStreamDelta,
    Model,
    agglomerate_stream_deltas,
)
from smolagents.utils import AgentError, AgentExecutionError, AgentGenerationError, AgentParsingError

from .. import tracing
from ..errors import InputError
from ..interruption import InterruptedTurn, Interruption, current_interruption, interruptible
from ..media import encode_image, is_picture_type, media_type_of, to_rgb
from ..models.messages import read_structured_turn, read_turn, text_of, to_chat
from ..sandbox import PAPER_IMPORTS, SandboxError, SandboxExecutor, SandboxLimits, require_sandbox
from ..sandbox.local import LocalExecutor
from ..task import File, Task
from ..tools.base import WorkspaceTool
from ..tools.toolbox import toolbox_of
from ..trajectory import Trajectory
from ..turns import (
    CODE_CLOSE,
    CODE_OPEN,
    Step,
    execution_error,
    parse_python,
    render_messages,
    shorten,
)
from ..workspace import OUTPUTS, Workspace
from .config import Executor, load_prompt


EXECUTORS = get_args(Executor)


class TaskAgent(CodeAgent):
    """A code agent that sees pictures, works in a workspace and returns a [`Trajectory`].

    The inherited `run` keeps smolagents' behavior and signature; [`run_task`] takes a [`Task`] with files and returns
    the record of the run. In both, a picture is shown to the model once, where it came up: attachments with the task,
    pictures that a step returned or saved in the turn after it. `steps` and `images` are the record of the
    conversation, the request first; `memory` is a copy of it for smolagents' callbacks, replays and monitoring.

    Args:
        tools (`list[Tool]`): the tools, see `tools/toolbox.py` for ready sets.
        model ([`~smolagents.Model`]): the controller. [`VLMModel`] keeps the ids that it produced in the trajectory.
        prompt (`str`, *optional*, defaults to `"paper"`): name of a prompt of the package; `prompt_templates`
            overrides it.
        max_steps (`int`, *optional*, defaults to 10): steps before the run ends.
        max_consecutive_errors (`int`, *optional*, defaults to 5): failed steps in a row before the run ends.
        token_budget (`int`, *optional*): input plus output tokens before the run ends.
        time_limit (`float`, *optional*): seconds before the run ends, also in the middle of a turn of the model.
        max_images_per_step (`int`, *optional*, defaults to 2): pictures that one step may show.
        max_observation_length (`int`, *optional*, defaults to 4000): characters of an observation.
        code_time_limit (`float`, *optional*, defaults to 60): seconds that one code step may take.
        code_block_tags (`tuple[str, str]` or `"markdown"`, *optional*): tags around code, by default those of the
            released data.
        additional_authorized_imports (`list[str]`, *optional*): modules that code may import besides smolagents' base
            modules; for the prompt `paper` by default those of the released data.
        executor_type (`str`, *optional*, defaults to `"sandbox"`): where code runs. `sandbox` is a Python of its own
            behind bubblewrap, see [`SandboxExecutor`]; `docker`, `e2b`, `modal` and `blaxel` are smolagents';
            `local` is an interpreter inside this process and no security boundary. It is not saved with an agent.
        executor_kwargs (`dict`, *optional*): settings of the executor, such as `{"limits": SandboxLimits(...)}`.
        max_print_outputs_length (`int`, *optional*): characters of what a step prints, and of its observation in place
            of `max_observation_length`.
        use_structured_outputs_internally (`bool`, *optional*, defaults to `False`): let the model write JSON with
            `thought` and `code`, by smolagents' own prompt; for models that know `response_format`.
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
        time_limit: float | None = None,
        max_images_per_step: int = 2,
        max_observation_length: int = 4000,
        code_time_limit: float = 60,
        code_block_tags: tuple[str, str] | str | None = None,
        additional_authorized_imports: list[str] | None = None,
        executor: PythonExecutor | None = None,
        executor_type: str = "sandbox",
        use_structured_outputs_internally: bool = False,
        verbosity_level: LogLevel = LogLevel.OFF,
        **kwargs: Any,
    ):
        self.prompt = prompt
        self.max_consecutive_errors = max_consecutive_errors
        self.token_budget = token_budget
        self.time_limit = time_limit
        self.max_images_per_step = max_images_per_step
        self.max_observation_length = max_observation_length
        self.code_time_limit = code_time_limit
        self.steps: list[Step] = []
        self.images: list[File] = []
        self.end_reason = "answer"
        self.workspace = Workspace()
        # Decoded pictures by digest of their file, and the files of the pictures that `run_task` hands to `run`.
        self._pictures: dict[str, Image.Image] = {}
        self._attachments: Sequence[File] = ()
        # run_task ends without an answer at a limit; run asks the model for one, as smolagents does.
        self._answer_at_limit = self._hands_out_pictures = True
        self._interruption: Interruption | None = None
        self._started = time.monotonic()
        self._first = 0  # of the steps of this run
        self._given_executor = executor
        if executor is None:
            check_executor(executor_type)
        if isinstance(code_block_tags, list):
            code_block_tags = tuple(code_block_tags)
        if additional_authorized_imports is None and prompt == "paper":
            additional_authorized_imports = PAPER_IMPORTS
        super().__init__(
            tools=tools,
            model=model,
            additional_authorized_imports=additional_authorized_imports,
            executor=executor,
            executor_type=executor_type,
            prompt_templates=prompt_templates or (None if use_structured_outputs_internally else load_prompt(prompt)),
            max_steps=max_steps,
            code_block_tags=code_block_tags or (CODE_OPEN, CODE_CLOSE),
            use_structured_outputs_internally=use_structured_outputs_internally,
            verbosity_level=verbosity_level,
            **kwargs,
        )
        self._bind(self.workspace)

    # The run

    def run_task(
        self,
        task: Task,
        workspace: Workspace | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_text: Callable[[str], None] | None = None,
        reset: bool = True,
    ) -> Trajectory:
        """Solve a task and return the record of the run.

        Args:
            task ([`Task`]): what is asked, with its files.
            workspace ([`Workspace`], *optional*): where files and results go; a temporary folder of this run by
            default.
            on_step (`Callable`, *optional*): called with every finished [`Step`].
            on_text (`Callable`, *optional*): called with the words of a turn as they come, where the model has
                `generate_stream`.
            reset (`bool`, *optional*, defaults to `True`): begin a new conversation; else the task is a further
                request in the last one, whose files are there where its workspace is given again.

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
        pictures = [file.open_image() for file in task.images]
        self.state, self._attachments = {}, task.images
        self._answer_at_limit = self._hands_out_pictures = False
        streamed, self.stream_outputs = (
            self.stream_outputs,
            self.stream_outputs or (on_text is not None and hasattr(self.model, "generate_stream")),
        )
        answer = None
        try:
            with tracing.span("AGENT", "T3Agent.run_task", {tracing.INPUT: task.query}) as span:
                for item in self.run(task.text(), images=pictures or None, stream=True, reset=reset):
                    if isinstance(item, FinalAnswerStep) and self.end_reason == "answer":
                        answer = self._answer_text(item.output)
                    elif isinstance(item, ActionStep) and on_step and self.end_reason == "answer":
                        on_step(self.steps[-1])
                    elif isinstance(item, ChatMessageStreamDelta) and on_text and item.content:
                        on_text(item.content)
                span.set({tracing.OUTPUT: answer})
        finally:
            self._attachments, self.stream_outputs = (), streamed
            self._answer_at_limit = self._hands_out_pictures = True
            self.cleanup()
        return Trajectory(
            task=task,
            system_prompt=self.memory.system_prompt.system_prompt,
            steps=self.steps[1:],
            images=list(self.images),
            answer=answer,
            end_reason=self.end_reason,
            provenance=self.provenance(),
        )

    def _answer_text(self, answer: Any) -> str:
        if isinstance(answer, AgentImage):
            return self.workspace.save_image(answer.to_raw())
        return "" if answer is None else str(answer)

    def _with_pictures(self, answer: Any) -> Any:
        """An answer with the pictures that it names by their paths: the folder may be gone when it is looked at."""
        if isinstance(answer, (list, tuple)):
            return type(answer)(map(self._with_pictures, answer))
        if isinstance(answer, dict):
            return {key: self._with_pictures(value) for key, value in answer.items()}
        if isinstance(answer, str) and answer.startswith(f"{OUTPUTS}/") and is_picture_type(media_type_of(answer)):
            with suppress(InputError):
                return self.workspace.open_image(answer)
        return answer

    def __call__(self, task: str, **kwargs: Any) -> Any:
        """Run for the agent that manages this one, and report in words: in their workspace a path is enough."""
        self._hands_out_pictures = False
        try:
            return super().__call__(task, **kwargs)
        finally:
            self._hands_out_pictures = True

    def interrupt(self) -> None:
        """End the run: the turn that is being written, or the code, also that of the agents which it called."""
        super().interrupt()
        if self._interruption is not None:
            self._interruption.cancel()

    def _bind(self, workspace: Workspace) -> None:
        """Work in this workspace, with all tools and managed agents."""
        self.workspace = workspace
        for tool in self.tools.values():
            if isinstance(tool, WorkspaceTool):
                tool.workspace, tool.controller, tool.spawn = workspace, self.model, TaskAgent
        for agent in self.managed_agents.values():
            if isinstance(agent, TaskAgent):
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

    def _run_stream(self, task: str, max_steps: int, images: list[Image.Image] | None = None) -> Generator[Any]:
        self.end_reason, self._started = "answer", time.monotonic()
        outer = current_interruption()
        deadline = None if self.time_limit is None else self._started + self.time_limit
        self._interruption = Interruption(deadline, outer)
        self._ask(task, images or [])
        # The pictures stand in the task step; handing them on would show them again at every step.
        items = super()._run_stream(task=task, max_steps=max_steps, images=None)
        while True:
            # Not around all of it: whoever takes the items may do so from several threads.
            with interruptible(given=self._interruption):
                item = next(items, None)
            if item is None:
                return
            if isinstance(item, FinalAnswerStep) and isinstance(item.output, AgentImage):
                # smolagents' type holds a picture and is an empty one; here it is the picture too.
                vars(item.output).update(vars(item.output.to_raw().copy()))
            yield item
            if isinstance(item, ActionStep) and not item.is_final_answer and self.end_reason == "answer":
                self.end_reason = self._reached_limit() or "answer"
                if self.end_reason != "answer":
                    # smolagents' loop takes this step for the last one, and the time is up for its steps only.
                    self.step_number, self._limit_step = max_steps, item.step_number
                    self._interruption = Interruption(outer=outer)

    def _ask(self, request: str, pictures: Sequence[Image.Image | str | Path]) -> None:
        """Open the record with a request of the user, or add it to the conversation (`run` with `reset=False`)."""
        *earlier, task = self.memory.steps
        self._adopt(earlier)
        self._first = len(self.steps)
        shown = self._attach(pictures, self._attachments)
        task.record = Step(kind="task", observation=request, images=shown)
        self.steps.append(task.record)

    def _attach(self, pictures: Sequence[Image.Image | str | Path], files: Sequence[File] = ()) -> list[int]:
        """Take pictures that came without files, or with them, into the record."""
        pictures = [
            to_rgb(picture) if isinstance(picture, Image.Image) else File.from_path(picture).open_image()
            for picture in pictures
        ]
        return self._show(files or [picture_file(p, len(self.images) + n) for n, p in enumerate(pictures)], pictures)

    def _adopt(self, memory_steps: Sequence[MemoryStep]) -> None:
        """Make the record that of smolagents' memory, which others may have filled or emptied."""
        steps, images, shown = self.steps, self.images, self._pictures
        records = [getattr(step, "record", step) for step in memory_steps]
        if list(map(id, filter(None, records))) == list(map(id, steps)):
            return
        self.steps, self.images, self._pictures = [], [], {}
        for memory_step, step in zip(memory_steps, records, strict=True):
            if step is memory_step:  # somebody else's
                step = memory_step.record = self._step_of(memory_step)
                pictures = getattr(memory_step, "task_images", getattr(memory_step, "observations_images", None))
                step.images = self._attach(pictures or [])
            elif step is not None:
                files = [images[index] for index in step.images]
                step.images = self._show(files, [shown[file.sha256] for file in files])
            if step is not None:
                self.steps.append(step)

    def _step_of(self, memory_step: MemoryStep) -> Step:
        """A step that stands in smolagents' memory only."""
        if isinstance(memory_step, TaskStep):
            return Step(kind="task", observation=memory_step.task)
        if isinstance(memory_step, PlanningStep):
            return Step(kind="plan", model_output=memory_step.plan)
        step = Step(observation=memory_step.observations or "", is_final=memory_step.is_final_answer)
        step.error = memory_step.error.message if memory_step.error else None
        step.read(text_of(memory_step.model_output), self.code_block_tags, {*self.tools, *self.managed_agents})
        return step

    def _reached_limit(self) -> str | None:
        actions = [step for step in self.steps[self._first :] if step.kind == "action"]
        recent = actions[-self.max_consecutive_errors :]
        if len(recent) == self.max_consecutive_errors and all(step.error for step in recent):
            return "max_errors"
        used = sum(step.input_tokens + step.output_tokens for step in actions)
        if self.token_budget is not None and used >= self.token_budget:
            return "token_budget"
        if self.time_limit is not None and time.monotonic() - self._started >= self.time_limit:
            return "time_limit"
        return None

    def _handle_max_steps_reached(self, task: str) -> Any:
        if self.end_reason == "answer":
            self.end_reason = "max_steps"
        else:
            self.step_number = self._limit_step + 1
        if not self._answer_at_limit:
            return None
        answer = super()._handle_max_steps_reached(task)
        self.memory.steps[-1].record = None  # it answers in place of the model and is not shown to it
        return answer

    def _generate_planning_step(self, task: str, is_first_step: bool, step: int) -> Generator[Any]:
        started = time.monotonic()
        for item in super()._generate_planning_step(task, is_first_step, step):
            if isinstance(item, PlanningStep):
                plan = Step(kind="plan", model_output=item.plan, seconds=_since(started))
                plan.input_tokens, plan.output_tokens = item.token_usage.input_tokens, item.token_usage.output_tokens
                self.steps.append(plan)
                item.record = plan
            yield item

    # One step

    def _step_stream(self, memory_step: ActionStep) -> Generator[Any]:
        # An instrumentation of smolagents (OpenInference) wraps the method that this one stands for.
        wrapper = getattr(CodeAgent._step_stream, "_self_wrapper", None)
        return wrapper(self._steps_of, self, (memory_step,), {}) if wrapper else self._steps_of(memory_step)

    def _steps_of(self, memory_step: ActionStep) -> Generator[Any]:
        memory_step.model_input_messages = self.write_memory_to_messages()
        step, started = Step(), time.monotonic()
        self.steps.append(step)
        memory_step.record = step
        with tracing.span("CHAIN", f"Step {memory_step.step_number}") as span:
            try:
                message = yield from self._generate(memory_step.model_input_messages)
                memory_step.model_output_message, memory_step.token_usage = message, message.token_usage
                self._parse(step, message)
                tool_call = ToolCall("python_interpreter", step.code, id=f"call_{len(self.memory.steps)}")
                memory_step.tool_calls = [tool_call]
                yield tool_call
                result = self._execute(step)
                memory_step.action_output = result.output
            except AgentError as error:
                step.error = step.error or error.message
                raise
            finally:
                step.seconds = _since(started)
                self._copy(step, memory_step)
                span.set({tracing.INPUT: memory_step.code_action, tracing.OUTPUT: memory_step.observations})
            yield ActionOutput(output=result.output, is_final_answer=step.is_final)

    def _generate(self, messages: list[ChatMessage]) -> Generator[Any, None, ChatMessage]:
        opening, closing = self.code_block_tags
        # At the start of a line: within one the word is that of the code.
        stops = {"stop_sequences": ["\nObservation:", *([] if closing in opening else [closing])]}
        if self._use_structured_outputs_internally:
            stops["response_format"] = CODEAGENT_RESPONSE_FORMAT
        try:
            if not self.stream_outputs:
                message = self.model.generate(messages, **stops)
                self.logger.log_markdown(
                    text_of(message.content), title="Output message of the LLM:", level=LogLevel.DEBUG
                )
                return message
            deltas, stream = [], self.model.generate_stream(messages, **stops)
            while True:
                try:
                    delta = next(stream)
                except StopIteration as end:  # this package's models return the turn with the ids of its tokens
                    return end.value or agglomerate_stream_deltas(deltas)
                deltas.append(delta)
                yield delta
        except InputError:  # the conversation is too long, say: a sentence for the person at the keyboard
            raise
        except InterruptedTurn as error:  # ends the step; the limit that was reached ends the run
            raise AgentError(str(error), self.logger) from None
        except Exception as error:  # a model behind an API may raise anything; smolagents wraps it all
            raise AgentGenerationError(f"The model could not write a turn: {error}", self.logger) from error

    def _parse(self, step: Step, message: ChatMessage) -> None:
        """Fill in what the model wrote.

        Raises:
            AgentParsingError: when there is no code that compiles; the message is the model's observation.
        """
        opening, closing = self.code_block_tags
        called = {*self.tools, *self.managed_agents}
        if self._use_structured_outputs_internally:
            blocks = read_structured_turn(step, message, self.code_block_tags, called)
        else:
            blocks = read_turn(step, message, self.code_block_tags, called)
        if not blocks and self._use_structured_outputs_internally:
            raise AgentParsingError("the turn is no JSON object with `thought` and `code`", self.logger)
        if not blocks:
            raise AgentParsingError(
                f"no code block was found. Write the code between {opening} and {closing}", self.logger
            )
        if not step.code.strip():
            raise AgentParsingError(
                f"the code block is empty or was not closed. Write short code and end it with {closing}", self.logger
            )
        try:
            parse_python(step.code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            is_whole = message.content == step.model_output and step.model_output.rstrip().endswith(closing)
            hint = ""
            if not is_whole and any(words in reason for words in ("unterminated", "never closed", "EOF")):
                hint = (
                    f". A turn ends at {closing} and at a line that begins with Observation: - where one belongs to a "
                    "string, write it in two parts, such as 'Observation' + ':'"
                )
            raise AgentParsingError(f"the code is not valid Python ({reason}{place}){hint}", self.logger) from None
        if blocks > 1:
            step.observation = "Only the first code block was run."

    def _execute(self, step: Step) -> CodeOutput:
        """Run the code, and fill in what came of it.

        Raises:
            AgentExecutionError: when it failed; the message is the model's observation.
        """
        self.logger.log_code(title="Executing parsed code:", content=step.code, level=LogLevel.INFO)
        try:
            result = self.python_executor(step.code)
            shown = "" if result.output is None else str(result.output)
        except InterruptedTurn as error:
            raise AgentError(str(error), self.logger) from None
        except SandboxError:  # the machine's failure; nothing that the model could mend
            raise
        except Exception as error:  # whatever model-written code or a tool raises is the model's to see
            state = getattr(self.python_executor, "state", None)
            self._observe(step, str(state.get("_print_outputs", "")) if isinstance(state, dict) else "")
            if "Import of " in str(error) and " is not allowed" in str(error):
                self.logger.log(
                    "Code imports what it may not: pass the module in `additional_authorized_imports` of the agent.",
                    level=LogLevel.INFO,
                )
            step.error = execution_error(error)
            # As smolagents' interpreter begins its errors, which callbacks and logs look for.
            place = re.search(r"\n\(in line \d+: (.*?)(?:, in line \d+.*)?\)$", step.error)
            start = f"Code execution failed at line '{place[1]}' due to: " if place else ""
            raise AgentExecutionError(start + step.error, self.logger) from error
        step.is_final = result.is_final_answer
        if step.is_final:
            shown = ""
            if self._hands_out_pictures:
                result.output = self._with_pictures(result.output)
        elif isinstance(result.output, Image.Image):
            shown = self.workspace.save_image(result.output)
        # The value of a last `print(...)` is None; a last expression is shown unless it was printed already.
        self._observe(step, result.logs, shown if shown.strip() != result.logs.strip() else "")
        self.logger.log(step.observation, level=LogLevel.INFO)
        return result

    def _observe(self, step: Step, *parts: str) -> None:
        """Fill in what the step printed and the pictures that it brought; nobody looks at those of a last step."""
        parts = (*parts, step.observation)
        new = [] if step.is_final else self.workspace.new_images()
        files = new[: self.max_images_per_step]
        step.images = self._show(files, [file.open_image() for file in files])
        unnamed = [file.path for file in files if not any(file.path in part for part in parts)]
        if unnamed:
            parts = (*parts, f"Picture: {', '.join(unnamed)}")
        if len(new) > len(files):
            parts = (*parts, f"({len(new) - len(files)} more pictures are not shown.)")
        limit = self.max_print_outputs_length or self.max_observation_length
        step.observation = shorten("\n".join(p.strip() for p in parts if p.strip()), limit)

    def _show(self, files: Sequence[File], pictures: Sequence[Image.Image]) -> list[int]:
        """Take pictures into the record; their places in it."""
        self.images += files
        self._pictures.update((file.sha256, picture) for file, picture in zip(files, pictures, strict=True))
        return list(range(len(self.images) - len(files), len(self.images)))

    # Where the code runs

    def create_python_executor(self) -> PythonExecutor:
        printed = self.max_print_outputs_length or 4 * self.max_observation_length
        if self.executor_type == "sandbox":
            limits = SandboxLimits(time_limit=self.code_time_limit, output_chars=printed)
            return SandboxExecutor(
                self.additional_authorized_imports, self.workspace, **{"limits": limits, **self.executor_kwargs}
            )
        if self.executor_type == "local":
            return LocalExecutor(
                self.additional_authorized_imports,
                self.workspace,
                **{"time_limit": self.code_time_limit, "max_print_outputs_length": printed, **self.executor_kwargs},
            )
        return super().create_python_executor()

    def _renew_executor(self) -> None:
        if self._given_executor is None:
            self.cleanup()
            self.python_executor = self.create_python_executor()

    # What others read of the record

    def write_memory_to_messages(self, summary_mode: bool = False) -> list[ChatMessage]:
        """The conversation so far, by the renderer that training uses too.

        Args:
            summary_mode (`bool`, *optional*, defaults to `False`): leave out the system prompt and earlier plans.
        """
        if any(not hasattr(step, "record") for step in self.memory.steps):
            self._adopt(self.memory.steps)
        steps = [step for step in self.steps if not (summary_mode and step.kind == "plan")]
        if summary_mode:
            messages = [message for step in steps for message in render_messages("", None, 0, [step])]
        else:
            messages = render_messages(self.memory.system_prompt.system_prompt, None, 0, steps)
        pictures = (self._pictures[file.sha256] for file in self.images)
        return to_chat(messages, pictures, (step.output_ids for step in steps if step.has_turn))

    def _copy(self, step: Step, memory_step: ActionStep) -> None:
        """Fill in smolagents' step, which callbacks, replays, monitoring and GradioUI read."""
        message = memory_step.model_output_message
        if message is not None:
            closing = self.code_block_tags[1]
            is_open = step.model_output and not step.model_output.strip().endswith(closing)
            is_open = is_open and not self._use_structured_outputs_internally
            memory_step.model_output = step.model_output + closing if is_open else step.model_output
            message.content = memory_step.model_output
        memory_step.code_action = step.code or None
        answer = str(memory_step.action_output) if step.is_final else None
        memory_step.observations = step.observation or answer
        memory_step.observations_images = [self._pictures[self.images[i].sha256] for i in step.images] or None

    def _validate_final_answer(self, final_answer: Any) -> None:
        try:
            super()._validate_final_answer(final_answer)
        except AgentError as error:
            self.steps[-1].is_final, self.steps[-1].error = False, error.message
            raise

    def provenance(self) -> dict[str, Any]:
        """Where a trajectory of this agent comes from, JSON-safe."""
        return {
            "controller": self.model.model_id or type(self.model).__name__,
            "revision": getattr(self.model, "revision", None),
            "toolbox": [
                {"name": tool.name, "version": tool.version if isinstance(tool, WorkspaceTool) else None}
                for tool in self.tools.values()
                if tool.name != "final_answer"
            ],
            "toolbox_name": toolbox_of(self.tools.values()),
            "prompt": self.prompt,
            "imports": list(self.additional_authorized_imports),
            "code_block_tags": list(self.code_block_tags),
            "package_version": _package_version(),
        }


def picture_file(picture: Image.Image, number: int) -> File:
    """A picture that came without a file, as one."""
    return File.from_bytes(encode_image(picture), f"outputs/picture_{number}.png")


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


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


@functools.cache
def _compiled(template: str) -> Template:
    return Template(template, undefined=StrictUndefined)


@functools.cache
def _package_version() -> str:
    return version("t3-agents")
