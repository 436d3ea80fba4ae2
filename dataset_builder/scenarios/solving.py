"""The teacher runs a program through a real agent with real tools and judges what came out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from t3_agents.agent.agent import T3Agent
from t3_agents.models.scripted import ScriptedModel
from t3_agents.sandbox import PAPER_IMPORTS, SandboxError
from t3_agents.storage import BlobStore, scratch_folder
from t3_agents.tools.toolbox import make_toolbox
from t3_agents.trajectory import Trajectory
from t3_agents.verifiers import SOLUTION, MachineFailure, machine_failure, verify
from t3_agents.workspace import Workspace

from .base import ScenarioTask, program_problems
from .families.files import READING_IMPORTS


TEACHER = "scenarios"
_ATTEMPTS = 3


def make_agent(outputs: list[str], prompt: str = "compact") -> T3Agent:
    """An agent that replays assistant turns with the tools of the `embedded` toolbox.

    Args:
        outputs (`list[str]`): the turns.
        prompt (`str`, *optional*, defaults to `"compact"`): name of its prompt.
    """
    # `compact` does not name the modules, so those that the program needs are enough.
    needed = [name for name in READING_IMPORTS if re.search(rf"\b(import|from) {name}\b", "\n".join(outputs))]
    imports = {*PAPER_IMPORTS, *READING_IMPORTS} if prompt == "paper" else needed
    return T3Agent(
        tools=make_toolbox("embedded"),
        model=ScriptedModel(outputs),
        prompt=prompt,
        additional_authorized_imports=sorted(imports),
    )


def solve(
    made: ScenarioTask,
    make_agent: Callable[[list[str]], T3Agent] = make_agent,
    workspace: Workspace | None = None,
) -> Trajectory:
    """Run a program and judge the trajectory.

    Args:
        made ([`ScenarioTask`]): the task and its program.
        make_agent (`Callable`, *optional*): makes the agent that replays the given turns.
        workspace ([`Workspace`], *optional*): keeps the pictures that steps bring, so give one that outlives the call
            when the trajectory is stored; a temporary one by default.

    Returns:
        [`Trajectory`]: with the verdicts `query_file` and `trajectory` in `verification`.
    """
    problems = program_problems(made)
    agent = make_agent([move.text() for move in made.program])
    # A program that gives no answer must end as a dropped trajectory; the script has no further turn.
    agent.max_steps = min(agent.max_steps, len(made.program))
    trajectory = agent.run_task(made.task, workspace=workspace)
    trajectory.provenance["teacher"] = TEACHER
    trajectory.verification = {
        "query_file": {"passed": not problems, "reasons": problems},
        "trajectory": verify(trajectory, SOLUTION).to_dict(),
    }
    return trajectory


def solve_made(
    make: Callable[[Path], ScenarioTask], blobs: BlobStore, prompt: str = "compact"
) -> tuple[dict[str, Any], list[str]]:
    """Let the teacher solve a task with the real tools, store its files, and judge the result.

    Args:
        make (`Callable`): makes the task in the folder that it is given.
        blobs ([`~t3_agents.storage.BlobStore`]): takes the files and pictures.
        prompt (`str`, *optional*, defaults to `"compact"`): name of the prompt of the solving agent.

    Returns:
        `tuple[dict, list[str]]`: the trajectory's record, and why it cannot be kept (empty when it can).

    Raises:
        MachineFailure: when the machine fails again and again: a full disk, no memory, a sandbox that does not start.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with scratch_folder() as scratch:
                made = make(Path(scratch, "files"))
                agent = partial(make_agent, prompt=prompt)
                trajectory = solve(made, agent, Workspace(Path(scratch, "run"))).stored_in(blobs)
            reason = machine_failure(trajectory)
        except (OSError, SandboxError) as error:
            reason = str(error)
        if reason is None:
            break
        time.sleep(attempt)
    else:
        raise MachineFailure(reason)
    for step in trajectory.steps:
        # The time of a step differs from run to run; a row does not.
        step.seconds = 0.0
    reasons = [
        f"{verifier}: {reason}"
        for verifier, verdict in trajectory.verification.items()
        if not verdict["passed"]
        for reason in verdict["reasons"] or ["no reason was given."]
    ]
    if not trajectory.verification:
        reasons.append("build: no verifier has judged it.")
    return trajectory.to_dict(), reasons
