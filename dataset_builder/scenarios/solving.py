"""The teacher runs a program through a real agent with real tools and judges what came out."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t3_agents.agent.agent import T3Agent
from t3_agents.models.scripted import ScriptedModel
from t3_agents.storage import BlobStore
from t3_agents.task import Task
from t3_agents.tools.toolbox import make_toolbox
from t3_agents.trajectory import Step, Trajectory
from t3_agents.workspace import Workspace

from .base import ScenarioTask, final_expression, normalise, numbers_in, validate
from .families.reading import READING_IMPORTS


TEACHER = "scenarios"

_WORD = re.compile(r"[^\W\d_]+")


def make_agent(outputs: list[str]) -> T3Agent:
    """An agent that replays assistant turns with the tools of the `embedded` toolbox.

    Args:
        outputs (`list[str]`): the turns.
    """
    return T3Agent(
        tools=make_toolbox("embedded"),
        model=ScriptedModel(outputs),
        prompt="compact",
        additional_authorized_imports=list(READING_IMPORTS),
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
    problems = validate(made)
    agent = make_agent([move.text() for move in made.program])
    # A program that gives no answer must end as a dropped trajectory; the script has no further turn.
    agent.max_steps = min(agent.max_steps, len(made.program))
    trajectory = agent.run_task(made.task, workspace=workspace)
    trajectory.provenance["teacher"] = TEACHER
    reasons = judge(trajectory)
    trajectory.verification = {
        "query_file": {"passed": not problems, "reasons": problems},
        "trajectory": {"passed": not reasons, "reasons": reasons},
    }
    return trajectory


def solve_made(make: Callable[[Path], ScenarioTask], blobs: BlobStore) -> tuple[dict[str, Any], list[str]]:
    """Let the teacher solve a task with the real tools, store its files, and judge the result.

    Args:
        make (`Callable`): makes the task in the folder that it is given.
        blobs ([`~t3_agents.storage.BlobStore`]): takes the files and pictures.

    Returns:
        `tuple[dict, list[str]]`: the trajectory's record, and why it cannot be kept (empty when it can).
    """
    from ..mm_traj import placeholder_problem

    with tempfile.TemporaryDirectory(prefix="t3-build-") as scratch:
        made = make(Path(scratch, "files"))
        trajectory = solve(made, workspace=Workspace(Path(scratch, "run"))).stored_in(blobs)
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
    problem = placeholder_problem({"messages": trajectory.to_messages(), "images": trajectory.images})
    if problem:
        reasons.append(f"build: {problem}")
    return trajectory.to_dict(), reasons


def judge(trajectory: Trajectory) -> list[str]:
    """Why a trajectory is not worth learning from; empty when it is.

    It must end with the known answer, run without an error, call the expected tools in order, and state nothing that
    neither the query nor an earlier observation holds.
    """
    task, reasons = trajectory.task, []
    if trajectory.end_reason != "answer" or trajectory.answer is None:
        reasons.append(f"There is no answer: the run ended with {trajectory.end_reason}.")
    elif task.ground_truth is None or normalise(trajectory.answer) != normalise(task.ground_truth):
        reasons.append(f"The answer is {trajectory.answer!r}; {task.ground_truth!r} is known to be right.")
    reasons += [f"Step {n} failed: {step.error}" for n, step in enumerate(trajectory.actions, start=1) if step.error]
    called = [tool for step in trajectory.actions for tool in step.tools if tool != "final_answer"]
    if called != list(task.tools):
        reasons.append(f"The tools {called} were called; {list(task.tools)} are expected.")
    return reasons + ungrounded(task, trajectory.actions)


def ungrounded(task: Task, steps: list[Step]) -> list[str]:
    """What steps state although neither the query nor an earlier observation holds it.

    Looked at are the numbers and names of thoughts, the numbers and names of code, and all words of the last code. How
    a tool is asked is the controller's choice. Decimal places in `round` and values that code computes need no source.
    """
    reasons = []
    known = task.text()
    for number, step in enumerate(steps, start=1):
        if step.error:
            known += f"\n{step.observation}"
            continue
        words, numbers = _words(known), numbers_in(known)
        stated_words, stated_numbers = _stated(step, is_last=number == len(steps))
        lost = sorted(stated_words - words) + [f"{value:g}" for value in sorted(stated_numbers - numbers)]
        if lost:
            reasons.append(f"Step {number} states {', '.join(lost)}, which nothing before it shows.")
        if number == len(steps):
            expression = final_expression(step.code)
            literal = expression.value if isinstance(expression, ast.Constant) else None
            if isinstance(literal, str) and _plain(literal) not in _plain(known):
                reasons.append(f"Step {number} answers {literal!r}, which nothing before it shows in these words.")
        known += f"\n{step.observation}"
    return reasons


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _names(text: str) -> set[str]:
    """Capitalised words."""
    return {word.casefold() for word in _WORD.findall(text) if word[0].isupper() and len(word) > 1}


def _stated(step: Step, is_last: bool) -> tuple[set[str], set[float]]:
    """Words and numbers that a step claims to know."""
    # The first word of a sentence is capitalised whatever it is.
    words, numbers = _names(re.sub(r"^\W*\w+", "", step.thought)), numbers_in(step.thought)
    tree = ast.parse(step.code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    places = {id(place) for call in calls if call.func.id == "round" for place in call.args[1:]}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in places:
            continue
        if isinstance(node.value, str):
            words |= _words(node.value) if is_last else _names(node.value)
            numbers |= numbers_in(node.value) if is_last else set()
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            numbers.add(float(node.value))
    return words, numbers
