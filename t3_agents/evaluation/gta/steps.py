"""GTA step by step: each turn of the solution is predicted from the turns before it, without running a tool."""

from __future__ import annotations

import ast
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.messages import read_turn, to_chat
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step, parse_python, render_messages, write_turn
from t3_agents.verifiers import FINAL_ANSWER

from ..baselines import AgentWrapper
from ..results import TaskScore, base_score, total_usage
from .scoring import TOOLS, Embed, Turn, assistant_turns, call_of, step_counts


SUMMARY_REQUEST = "Now sum up what was found and give the final answer. Call no other tool."
"""Added before the last turn, as GTA's own step-by-step mode does in words of its own."""


def step_tasks(tasks: Sequence[Task]) -> list[Task]:
    """One task for each turn of the assistant, with the id `<row>.<number>`."""
    steps = []
    for task in tasks:
        solution = task.origin["solution"]
        places = [place for place, turn in enumerate(solution) if turn["role"] == "assistant"]
        for number, place in enumerate(places):
            origin = {**task.origin, "row": task.id, "place": place, "is_last": number == len(places) - 1}
            steps.append(replace(task, id=f"{task.id}.{number}", origin=origin))
    return steps


class StepAgent(AgentWrapper):
    """Predicts one turn: the agent's own prompt and controller, with the solution's turns as its past.

    Args:
        agent ([`T3Agent`]): an agent with GTA's tools.
        seed (`int`, *optional*, defaults to 0): of the run, for the record.

    Raises:
        InputError: when the agent has other tools.
    """

    def __init__(self, agent: T3Agent, seed: int = 0):
        if not set(agent.tools) & set(TOOLS):
            raise InputError(
                "Step by step, calls are compared with GTA's by name and arguments: use `--toolbox gta` and a "
                "controller or agent with these tools."
            )
        super().__init__(agent)
        self.seed = seed

    def run_task(self, task: Task) -> Trajectory:
        """Predict the turn that a task of [`step_tasks`] asks for."""
        past = _past_steps(task)
        messages = render_messages(self.agent.system_prompt, task.text(), len(task.images), past)
        if task.origin["is_last"]:
            messages[-1]["content"].append({"type": "text", "text": f"\n{SUMMARY_REQUEST}"})
        chat = to_chat(messages, [file.open_image() for file in task.images])
        step, started, tags = Step(), time.monotonic(), self.agent.code_block_tags
        read_turn(step, self.agent.model.generate(chat, stop_sequences=["Observation:", tags[1]]), tags, ())
        step.seconds = round(time.monotonic() - started, 3)
        turn = predicted_turn(step.code, task.origin["inputs"])
        step.error = turn["error"]["type"] if "error" in turn else None
        step.tools = [call["name"]] if (call := call_of(turn)) and call["name"] else []
        return Trajectory(
            task=task,
            system_prompt=self.agent.system_prompt,
            steps=[*past, step],
            images=list(task.images),
            answer=turn.get("content"),
            provenance=self.provenance(),
        )

    def provenance(self) -> dict[str, Any]:
        """Where a trajectory of this agent comes from, JSON-safe."""
        return {**self.agent.provenance(), "seed": self.seed}


def _past_steps(task: Task) -> list[Step]:
    """The solution's turns before the one that is asked for, as steps of a code agent."""
    steps: list[Step] = []
    for turn in task.origin["solution"][: task.origin["place"]]:
        if turn["role"] == "tool":
            content = turn.get("content")
            text = content.get("content") if isinstance(content, dict) else content
            if steps:
                steps[-1].observation = str(text or "")
            continue
        call = call_of(turn)
        if call is None:
            steps.append(Step(model_output=str(turn["content"]), thought=str(turn["content"])))
            continue
        arguments = ", ".join(f"{name}={value!r}" for name, value in call["arguments"].items())
        code = f"print({call['name']}({arguments}))"
        thought = str(turn.get("thought") or f"I call {call['name']}.")
        steps.append(Step(model_output=write_turn(thought, code), thought=thought, code=code, tools=[call["name"]]))
    return steps


def predicted_turn(code: str, inputs: dict[str, list[str]]) -> Turn:
    """The first call of a code block, in the form of GTA's `dialogs`: a call of a tool, or the answer.

    Args:
        code (`str`): the code, which is not run. Values are read where they are written out, or where a name was given
            one before; others are taken as the text of their expression.
        inputs (`dict[str, list[str]]`): names of the arguments by tool.

    Returns:
        `dict`: with `error` where there is no such call.
    """
    try:
        tree = parse_python(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _failed("no code" if not code.strip() else "not Python")
    names = _written_values(tree)
    for node in _calls(tree):
        if isinstance(node.func, ast.Name) and node.func.id == FINAL_ANSWER:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return {"role": "assistant", "content": str(_value(values[0], names)) if values else ""}
        if isinstance(node.func, ast.Name) and node.func.id in TOOLS:
            known = inputs.get(node.func.id, [])
            arguments = {name: _value(arg, names) for name, arg in zip(known, node.args, strict=False)}
            arguments |= {k.arg: _value(k.value, names) for k in node.keywords if k.arg}
            function = {"name": node.func.id, "arguments": arguments}
            return {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    return _failed("no call of a tool")


def _failed(reason: str) -> Turn:
    function = {"name": "", "arguments": {}}
    return {"role": "assistant", "tool_calls": [{"function": function}], "error": {"type": reason}}


def _calls(node: ast.AST) -> list[ast.Call]:
    """Calls in the order in which they are evaluated: arguments before the call."""
    found = [call for child in ast.iter_child_nodes(node) for call in _calls(child)]
    return [*found, node] if isinstance(node, ast.Call) else found


def _written_values(tree: ast.Module) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                names.pop(node.targets[0].id, None)
    return names


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def score_steps(trajectories: Sequence[Trajectory], embed: Embed | None) -> list[TaskScore]:
    """Score predicted turns: InstAcc, ToolAcc, ArgAcc and SummAcc, a row per task of the benchmark and seed.

    Args:
        trajectories (`Sequence[Trajectory]`): one per task of [`step_tasks`] and seed.
        embed (`Callable`, *optional*): sentence embeddings; without them open answers are left out.
    """
    rows: dict[tuple[str, int], list[Trajectory]] = {}
    for trajectory in trajectories:
        rows.setdefault((trajectory.task.origin["row"], trajectory.provenance.get("seed", 0)), []).append(trajectory)
    scores = []
    for (row, seed), parts in rows.items():
        parts.sort(key=lambda trajectory: trajectory.task.origin["place"])
        origin = parts[0].task.origin
        turns = [_turn_of(part) for part in parts]
        of_turns = [base_score(part) for part in parts]
        scores.append(
            TaskScore(
                task_id=row,
                seed=seed,
                counts=step_counts(turns, assistant_turns(origin["solution"]), origin["gt_answer"], embed),
                groups={"tool": sorted(set(parts[0].task.tools))},
                reason=next((score.reason for score in of_turns if score.reason), None),
                usage=total_usage(of_turns)["total"],
            )
        )
    return scores


def _turn_of(trajectory: Trajectory) -> Turn:
    predicted = trajectory.steps[-1] if trajectory.end_reason == "answer" and trajectory.steps else Step()
    return predicted_turn(predicted.code, trajectory.task.origin["inputs"])
