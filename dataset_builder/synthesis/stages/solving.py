"""The stage in which an agent that was not tuned solves the task with real tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smolagents.utils import AgentGenerationError

from t3_agents.errors import T3Error

from ..candidate import Candidate, Failed


if TYPE_CHECKING:
    from t3_agents.agent.agent import T3Agent

STAGE = "solve"


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
    """
    try:
        trajectory = agent.run_task(candidate.to_task())
    except AgentGenerationError as error:
        if isinstance(error.__cause__, T3Error):
            raise error.__cause__ from None
        raise Failed(STAGE, str(error), candidate) from error
    provenance = {
        "model": trajectory.provenance["controller"],
        "prompt": trajectory.provenance["prompt"],
        "input_tokens": sum(step.input_tokens for step in trajectory.steps),
        "output_tokens": sum(step.output_tokens for step in trajectory.steps),
        "attempts": len(trajectory.steps),
        "end_reason": trajectory.end_reason,
    }
    return candidate.add(STAGE, provenance, trajectory=trajectory)
