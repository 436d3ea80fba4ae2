"""Agents as the runner takes them: saved ones, bare controllers, and any smolagents CodeAgent as a baseline."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from smolagents import CodeAgent, Tool
from smolagents.memory import ActionStep, FinalAnswerStep, PlanningStep
from smolagents.models import Model
from smolagents.utils import AgentMaxStepsError

from ..agent.agent import T3Agent, load_agent
from ..agent.loop import TaskAgent, picture_file
from ..models.server import ServerModel
from ..models.vlm import VLMModel
from ..task import Task
from ..tools.base import WorkspaceTool
from ..trajectory import Trajectory
from ..turns import Step, called_tools
from ..verifiers import FINAL_ANSWER
from ..workspace import Workspace
from .config import RunConfig


class PlainAgent:
    """A stock smolagents CodeAgent behind the methods that the runner calls.

    Its memory becomes a [`Trajectory`]. It is told real paths, since its interpreter knows no workspace; the record
    holds workspace paths. At the limit of steps it answers as smolagents has it.

    Args:
        agent ([`~smolagents.CodeAgent`]): the agent.
        token_budget (`int`, *optional*): input plus output tokens before the run ends.
        time_limit (`float`, *optional*): seconds before the run ends; looked at between steps.
    """

    def __init__(self, agent: CodeAgent, token_budget: int | None = None, time_limit: float | None = None):
        self.agent = agent
        self.model: Model = agent.model
        self.tools: dict[str, Tool] = agent.tools
        self.token_budget = token_budget
        self.time_limit = time_limit
        for tool in agent.tools.values():
            if isinstance(tool, WorkspaceTool):
                tool.controller, tool.spawn = agent.model, TaskAgent

    def run_task(self, task: Task) -> Trajectory:
        """Solve a task and return the record of the run.

        Raises:
            InputError: when an attachment cannot be read.
            AgentError: when the model itself fails.
        """
        with Workspace() as workspace:
            for file in task.files:
                workspace.add(file)
            pictures = [file.open_image() for file in task.images]
            paths = ", ".join(str(workspace.root / file.path) for file in task.files)
            started, answer, end_reason = time.monotonic(), None, "answer"
            for item in self.agent.run(
                f"{task.query}\nFiles: {paths}" if paths else task.query, images=pictures or None, stream=True
            ):
                if isinstance(item, FinalAnswerStep):
                    answer = "" if item.output is None else str(item.output)
                elif isinstance(item, ActionStep) and not item.is_final_answer:
                    end_reason = self._reached_limit(started) or "answer"
                    if end_reason != "answer":
                        break
            steps = [step for step in self.agent.memory.steps if isinstance(step, (ActionStep, PlanningStep))]
            if steps and isinstance(steps[-1], ActionStep) and isinstance(steps[-1].error, AgentMaxStepsError):
                end_reason = "max_steps"
                steps.pop()

            def hide(text: object) -> str:
                return str(text or "").replace(f"{workspace.root}/", "")

            images, records = list(task.images), []
            for step in steps:
                record = self._record(step, hide)
                for picture in (step.observations_images or []) if isinstance(step, ActionStep) else []:
                    # smolagents repeats the attachments at every step.
                    if not any(picture is attached for attached in pictures):
                        record.images.append(len(images))
                        images.append(picture_file(picture, len(images)))
                records.append(record)
        return Trajectory(
            task=task,
            system_prompt=self.agent.memory.system_prompt.system_prompt,
            steps=records,
            images=images,
            answer=None if answer is None else hide(answer),
            end_reason=end_reason,
            provenance=self.provenance(),
        )

    def _reached_limit(self, started: float) -> str | None:
        steps = [step for step in self.agent.memory.steps if isinstance(step, ActionStep)]
        used = sum(step.token_usage.total_tokens for step in steps if step.token_usage)
        if self.token_budget is not None and used >= self.token_budget:
            return "token_budget"
        if self.time_limit is not None and time.monotonic() - started >= self.time_limit:
            return "time_limit"
        return None

    def _record(self, step: ActionStep | PlanningStep, hide: Callable[[object], str]) -> Step:
        usage = step.token_usage
        record = Step(
            kind="plan" if isinstance(step, PlanningStep) else "action",
            model_output=hide(step.plan if isinstance(step, PlanningStep) else step.model_output),
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            seconds=max(0.0, round(step.timing.duration or 0.0, 3)),  # the clock may have been set back
        )
        if isinstance(step, ActionStep):
            record.read(record.model_output, self.agent.code_block_tags)
            record.code = hide(step.code_action)
            record.observation = hide(step.observations)
            record.error = hide(step.error.message) if step.error else None
            record.tools = called_tools(record.code, {*self.agent.tools, *self.agent.managed_agents})
            record.is_final = step.is_final_answer
        return record

    def provenance(self) -> dict[str, Any]:
        """Where a trajectory of this agent comes from, JSON-safe."""
        names = [name for name in self.agent.tools if name != FINAL_ANSWER]
        return {
            "controller": self.model.model_id or type(self.model).__name__,
            "revision": None,
            "toolbox": [{"name": name, "version": None} for name in names],
            "prompt": "smolagents",
            "package_version": version("t3-agents"),
        }

    def interrupt(self) -> None:
        self.agent.interrupt()

    def cleanup(self) -> None:
        self.agent.cleanup()


class AgentWrapper:
    """Hands on what a rollout calls of an agent, for agents that do more around `run_task`.

    Args:
        agent ([`T3Agent`], [`PlainAgent`] or another wrapper): the agent.
    """

    def __init__(self, agent: Any):
        self.agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)


class RecordedAgent(AgentWrapper):
    """An agent whose trajectories also hold the seed and the calls of its tools as they were made.

    `provenance["calls"]` has one `{"name", "arguments", "error"}` per call, in order, with the values that the code
    passed. Steps only name the tools.

    Args:
        agent ([`T3Agent`] or [`PlainAgent`]): the agent.
        seed (`int`, *optional*, defaults to 0): of the run, for the record.
    """

    def __init__(self, agent: T3Agent | PlainAgent, seed: int = 0):
        super().__init__(agent)
        self.seed = seed
        self._calls: list[dict[str, Any]] = []
        for name, tool in agent.tools.items():
            if name != FINAL_ANSWER:
                agent.tools[name] = self._recorded(tool)

    def _recorded(self, tool: Tool) -> Tool:
        # A copy, since agents of other workers may have the same tool.
        tool = copy.copy(tool)
        forward, names = tool.forward, list(tool.inputs)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            arguments = {**dict(zip(names, args, strict=False)), **kwargs}
            call = {
                "name": tool.name,
                "arguments": {key: _json_safe(value) for key, value in arguments.items()},
                "error": None,
            }
            self._calls.append(call)
            try:
                return forward(*args, **kwargs)
            except Exception as error:
                call["error"] = type(error).__name__
                raise

        tool.forward = recorded
        return tool

    def run_task(self, task: Task) -> Trajectory:
        """Solve a task and return the record of the run."""
        self._calls = []
        trajectory = self.agent.run_task(task)
        trajectory.provenance.update(seed=self.seed, calls=self._calls)
        return trajectory

    def provenance(self) -> dict[str, Any]:
        """Where a trajectory of this agent comes from, JSON-safe."""
        return {**self.agent.provenance(), "seed": self.seed}


def _json_safe(value: Any) -> Any:
    """The same value, or its text where JSON does not know it."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)[:500]


class AgentFactory:
    """Makes agents that share one model, loaded at the first call: a finished run needs none.

    Args:
        config ([`RunConfig`]): options of the run; a local model takes the requests of all its workers together.
    """

    def __init__(self, config: RunConfig):
        self.config = config
        self._model: Model | None = None
        self._lock = threading.Lock()

    def __call__(self, seed: int) -> T3Agent:
        """An agent whose model samples with this seed.

        Raises:
            InputError: when nothing can be loaded under the name.
        """
        config = self.config
        with self._lock:
            agent = load_agent(config.agent, model=self._model, **config.arguments())
            if self._model is None:
                self._model = agent.model
                self._configure(agent.model)
            if config.temperature is not None:
                agent.model.generation["seed"] = seed
            return agent

    def _configure(self, model: VLMModel | ServerModel) -> None:
        if isinstance(model, VLMModel):
            model.engine.decoder.max_batch_size = self.config.num_workers
        if self.config.max_new_tokens is not None:
            model.generation["max_new_tokens"] = self.config.max_new_tokens
        if self.config.temperature is not None:
            model.generation.update(do_sample=True, temperature=self.config.temperature)
