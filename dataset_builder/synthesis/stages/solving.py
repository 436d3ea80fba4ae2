"""The stage in which an agent that was not tuned solves the task with real tools."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from smolagents.utils import AgentGenerationError

from t3_agents.errors import T3Error
from t3_agents.verifiers import MachineFailure, machine_failure

from ..candidate import Candidate, Failed
from ..config import SynthConfig


if TYPE_CHECKING:
    from smolagents import Model

    from t3_agents.agent.agent import T3Agent

STAGE = "solve"
CODE_SECONDS = 300.0
"""What a step of the solving agent may take. Many at a time wait for each other's tools, and a step that is cut short
would be another trajectory on a busy machine than on an idle one."""


def solve(candidate: Candidate, agent: T3Agent) -> Candidate:
    """Let an agent solve the task.

    Args:
        candidate ([`Candidate`]): with its files.
        agent ([`T3Agent`]): the zero-shot agent, used by no other thread meanwhile.

    Returns:
        [`Candidate`]: with its trajectory, whatever its end was; [`verify_trajectory`] judges it.

    Raises:
        Failed: when the model behind the agent could not write a turn.
        T3Error: what the model itself raised: an outage or a spent budget is nothing that the candidate did.
        MachineFailure: when a step or a tool found the disk full, no memory and the like.
    """
    try:
        trajectory = agent.run_task(candidate.to_task())
    except AgentGenerationError as error:
        if isinstance(error.__cause__, T3Error | OSError | MemoryError):
            raise error.__cause__ from None
        raise Failed(STAGE, str(error), candidate) from error
    reason = machine_failure(trajectory)
    if reason:
        raise MachineFailure(f"{reason}.")
    provenance = {
        "model": trajectory.provenance["controller"],
        "prompt": trajectory.provenance["prompt"],
        "input_tokens": sum(step.input_tokens for step in trajectory.steps),
        "output_tokens": sum(step.output_tokens for step in trajectory.steps),
        "attempts": len(trajectory.steps),
        "end_reason": trajectory.end_reason,
    }
    return candidate.add(STAGE, provenance, trajectory=trajectory)


class AgentPool:
    """An agent for each thread.

    Args:
        config ([`SynthConfig`]): `toolbox`, `prompt`, `max_steps` and `executor` count.
        controller (`Callable`): gives the model of an agent.
    """

    def __init__(self, config: SynthConfig, controller: Callable[[], Model]):
        self.config = config
        self.controller = controller
        self._local = _Local()

    def solve(self, candidate: Candidate) -> Candidate:
        """The stage in which a task is solved."""
        agent, self._local.agent = self._local.agent or self._make(), None
        solved = solve(candidate, agent)
        self._local.agent = agent  # not after an error: nobody knows what it has left behind
        return solved

    def _make(self) -> T3Agent:
        from t3_agents.agent.agent import T3Agent
        from t3_agents.tools.toolbox import make_toolbox

        return T3Agent(
            make_toolbox(self.config.toolbox),
            self.controller(),
            prompt=self.config.prompt,
            max_steps=self.config.max_steps,
            code_time_limit=CODE_SECONDS,
            executor_type=self.config.executor,
        )


class _Local(threading.local):
    agent: T3Agent | None = None
