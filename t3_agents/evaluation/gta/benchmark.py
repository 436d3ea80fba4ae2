"""GTA: its rows as [`Task`]s, and the scores of runs on them.

The benchmark is `dataset.json` (an object of rows by id), `toolmeta.json` and a folder with pictures. A row is
`{"tools", "files", "dialogs", "gt_answer"}`; see `scoring.py` for what its known answer may be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jsonargparse.typing import PositiveInt

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.task import Task
from t3_agents.tools.gta import GTA_TO_PAPER
from t3_agents.trajectory import Trajectory
from t3_agents.verifiers import calls_in_place, tools_called

from ..benchmark import Benchmark, LoadedTasks, attachment, locate, unpack
from ..config import RunConfig, ScoreConfig
from ..error_types import error_type
from ..results import TaskScore, base_score
from . import scoring as gta_scoring
from .embedding import Embedding, load_embedding
from .scoring import Embed, Turn, assistant_turns, call_of
from .steps import StepAgent, score_steps, step_tasks


if TYPE_CHECKING:
    from smolagents import CodeAgent

HUB_ID = "Jize1/GTA"
DATASET_FILE, TOOLS_FILE = "dataset.json", "toolmeta.json"


@dataclass(kw_only=True)
class GTAConfig(RunConfig):
    """Measure an agent on GTA, by the benchmark's own rules.

    Args:
        dataset (`str`, *optional*, defaults to `"Jize1/GTA"`): folder, zip or Hub id of the benchmark.
        revision (`str`, *optional*): commit of the Hub copy.
        mode (`str`, *optional*, defaults to `"end_to_end"`): `end_to_end`, or `step_by_step` to predict each turn of
            the solution from those before it.
        scoring (`str`, *optional*, defaults to `"official"`): the benchmark's own rules, or `paper` for the looser
            ones of Multi-Modal Agent Tuning (substrings, no blacklist, open answers left out).
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for open answers, `embedded` for an offline one, `none` to leave them unscored.
    """

    benchmark: ClassVar[str] = "gta"
    bare: ClassVar[tuple[str, str]] = ("gta", "paper")

    dataset: str = HUB_ID
    revision: str | None = None
    mode: Literal["end_to_end", "step_by_step"] = "end_to_end"
    scoring: Literal["official", "paper"] = "official"
    embedding_model: str = ScoreConfig.embedding_model
    max_steps: PositiveInt = 10

    def check(self) -> None:
        super().check()
        if self.mode == "step_by_step" and self.scoring == "paper":
            raise InputError("The paper's scoring is of whole runs: use it with `--mode end_to_end`.")

    def score_config(self) -> ScoreConfig:
        config = super().score_config()
        config.scoring, config.embedding_model = self.scoring, self.embedding_model
        return config


def load_gta(dataset: str | Path = HUB_ID, revision: str | None = None) -> LoadedTasks:
    """Read the benchmark.

    Args:
        dataset (`str` or `Path`, *optional*, defaults to `"Jize1/GTA"`): folder, zip or Hub id.
        revision (`str`, *optional*): commit of the Hub copy.

    Raises:
        InputError: when it cannot be found or its files are not in GTA's form. Rows that cannot be used are in `bad`.
    """
    advice = "download gta_dataset.zip from https://github.com/open-compass/GTA/releases and pass it as `--dataset`"
    place, commit = locate("GTA", dataset, revision, advice)
    folder = _folder_with_rows(place)
    rows = _read_json(folder / DATASET_FILE)
    tools = _read_json(folder / TOOLS_FILE)
    inputs = {
        name: [entry["name"] for entry in tool.get("inputs", [])] for name, tool in tools if isinstance(tool, dict)
    }
    name = str(dataset) if commit else Path(dataset).name
    loaded = LoadedTasks([], name, "test", commit)
    for row_id, row in rows:
        loaded.add(row_id, partial(_task_of, row_id, row, folder, inputs))
    if not rows:
        raise InputError(f"{folder / DATASET_FILE} holds no rows.")
    return loaded


def _folder_with_rows(place: Path) -> Path:
    """The folder of `dataset.json`: the place itself, a folder in it, or an archive in it."""
    found = [
        path.parent for path in [place / DATASET_FILE, *sorted(place.glob(f"*/{DATASET_FILE}"))] if path.is_file()
    ]
    if found:
        return found[0]
    archives = sorted(place.glob("*.zip"))
    if len(archives) == 1:
        return _folder_with_rows(unpack(archives[0]))
    raise InputError(f"{place} is not GTA: it has no {DATASET_FILE}.")


def _read_json(path: Path) -> list[tuple[str, Any]]:
    """Names and values of a JSON object, with names that are there twice."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not GTA: it has no {path.name}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): download it again.") from None
    if not isinstance(pairs, _Pairs):
        raise InputError(f"{path} must be a JSON object of rows by id, not {type(pairs).__name__}.")
    return [(name, _plain(value)) for name, value in pairs]


class _Pairs(list):
    """The names and values of a JSON object."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(inner) for name, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _task_of(row_id: str, row: Any, folder: Path, inputs: dict[str, list[str]]) -> Task:
    """A row as a task. What scoring needs is in its `origin`, so that a run can be scored without the dataset.

    Raises:
        InputError: saying what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise InputError("the row is no object")
    for name in ("tools", "files", "dialogs"):
        if not isinstance(row.get(name), list) or not all(isinstance(item, dict) for item in row[name]):
            raise InputError(f"`{name}` is not a list of objects")
    if "gt_answer" not in row:
        raise InputError("it has no `gt_answer`")
    gta_scoring.check_known(row["gt_answer"])
    for tool in row["tools"]:
        if tool.get("name") not in inputs:
            raise InputError(f"the tool {tool.get('name')} is not in {TOOLS_FILE}")
    query, turns = _dialog(row["dialogs"])
    files = []
    for file in row["files"]:
        if not isinstance(file.get("path"), str):
            raise InputError("a file has no path")
        if not (attached := attachment(folder, file["path"], file["path"])).is_image:
            raise InputError(f"the file {file['path']} is no picture")
        files.append(attached)
    names = [call["name"] for call in map(call_of, turns) if call]
    known = row["gt_answer"]
    return Task(
        id=row_id,
        query=query,
        files=tuple(files),
        ground_truth=json.dumps(known, ensure_ascii=False) if known else None,
        tools=tuple(names),
        origin={
            "benchmark": "gta",
            "solution": turns,
            "gt_answer": known,
            "inputs": {tool["name"]: inputs[tool["name"]] for tool in row["tools"]},
        },
    )


def _dialog(dialogs: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """The query and the solution's turns, up to a second request, as the benchmark's evaluator has it.

    Raises:
        InputError: saying what is wrong with them.
    """
    if not dialogs or dialogs[0].get("role") != "user":
        raise InputError("the dialog does not begin with the user")
    query = dialogs[0].get("content")
    if not isinstance(query, str) or not query.strip():
        raise InputError("the query is empty")
    turns: list[Turn] = []
    for turn in dialogs[1:]:
        role = turn.get("role")
        if role == "user":
            break
        if role not in ("assistant", "tool"):
            raise InputError(f"a turn of the dialog has the role {role}")
        if "tool_calls" in turn:
            _check_call(turn)
        elif role == "assistant" and not isinstance(turn.get("content"), str):
            raise InputError("a turn of the assistant has neither a call nor text")
        turns.append(turn)
    if not assistant_turns(turns):
        raise InputError("the dialog has no turn of the assistant")
    return query, turns


def _check_call(turn: Turn) -> None:
    calls = turn["tool_calls"]
    function = calls[0].get("function") if isinstance(calls, list) and calls and isinstance(calls[0], dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
        raise InputError('a call of the dialog is not {"function": {"name", "arguments"}}')
    if function.get("name") not in gta_scoring.TOOLS:
        raise InputError(f"the dialog calls the tool {function.get('name')}, which GTA does not have")


# Scores


def score_end_to_end(trajectories: Sequence[Trajectory], scoring: str, embed: Embed | None) -> list[TaskScore]:
    """Score runs from the query alone.

    Tool F1 and pictures are compared by GTA's names and arguments of tools, so that they are scored for agents with
    GTA's toolbox only. ToolAcc and CodeExec are those of the paper on agent tuning.

    Args:
        trajectories (`Sequence[Trajectory]`): what was run.
        scoring (`str`): `official` or `paper`.
        embed (`Callable`, *optional*): sentence embeddings; without them open answers and pictures are left out.
    """
    scores = []
    for trajectory in trajectories:
        origin = trajectory.task.origin
        score = base_score(trajectory)
        own = any(tool["name"] in gta_scoring.TOOLS for tool in trajectory.provenance.get("toolbox", []))
        calls = [call for call in map(call_of, origin["solution"]) if call]
        expected = [(call["name"],) if own else GTA_TO_PAPER[call["name"]] for call in calls]
        expected = [names for names in expected if names]
        known = origin["gt_answer"]
        if scoring == "paper":
            value = gta_scoring.paper_score(trajectory.answer, known)
            counts = {} if value is None else {"ans_acc": [value, 1]}
        else:
            counts = gta_scoring.end_to_end_counts(turns_of(trajectory), origin["solution"], known, embed)
            if not own:
                counts = {name: counts[name] for name in counts if name == "ans_acc"}
        places = calls_in_place(tools_called(trajectory), expected)
        score.counts = {**counts, "tool_acc": [sum(places), len(places)], **score.counts}
        if isinstance(known, dict) and "ans_acc" in counts:
            score.correct = counts["ans_acc"][0] == 1
        arguments = [(call["name"], call["arguments"]) for call in calls] if own else []
        score.error_type = error_type(trajectory, score.correct, expected, arguments)
        kind = "picture" if not known else "closed" if isinstance(known, dict) else "open"
        score.groups = {"answer": kind, "tool": sorted(set(trajectory.task.tools))}
        scores.append(score)
    return scores


def turns_of(trajectory: Trajectory) -> list[Turn]:
    """What was done, in the form of GTA's `dialogs`: the calls that the code made, then the answer."""
    turns: list[Turn] = []
    for call in trajectory.provenance.get("calls", []):
        function = {"name": call["name"], "arguments": call["arguments"]}
        turn: dict[str, Any] = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
        turns.append({**turn, "error": {"type": call["error"]}} if call["error"] else turn)
    if trajectory.answer is not None:
        turns.append({"role": "assistant", "content": trajectory.answer})
    return turns


class GTA(Benchmark):
    """GTA, end to end or step by step."""

    options = GTAConfig
    scorings = gta_scoring.SCORINGS
    metrics = {
        **Benchmark.metrics,
        "ans_acc_image": "AnsAcc with image generation",
        "inst_acc": "InstAcc",
        "arg_acc": "ArgAcc",
        "summ_acc": "SummAcc",
        **{f"f1_{category}": f"Tool F1, {category}" for category in gta_scoring.CATEGORIES},
    }

    @property
    def by_steps(self) -> bool:
        return self.settings["mode"] == "step_by_step"

    def load(self) -> LoadedTasks:
        return load_gta(self.settings["dataset"], self.settings["revision"])

    def prepare(self, tasks: Sequence[Task]) -> list[Task]:
        return step_tasks(tasks) if self.by_steps else list(tasks)

    def wrap(self, agent: T3Agent | CodeAgent, seed: int) -> Any:
        if not self.by_steps:
            return super().wrap(agent, seed)
        if not isinstance(agent, T3Agent):
            raise InputError("Step by step, turns are predicted by a T3Agent: put the model into one.")
        return StepAgent(agent, seed)

    def check_scoring(self, tasks: Sequence[Task], config: ScoreConfig) -> None:
        super().check_scoring(tasks, config)
        self._embedding(tasks, config)

    def _embedding(self, tasks: Sequence[Task], config: ScoreConfig) -> Embedding | None:
        known = [task.origin["gt_answer"] for task in tasks]
        # Pictures are scored end to end only.
        needed = any(bool(answer) or not self.by_steps for answer in known if not isinstance(answer, dict))
        if not needed or config.scoring == "paper" or config.embedding_model == "none":
            return None
        return load_embedding(config.embedding_model)

    def score(self, trajectories: Sequence[Trajectory], config: ScoreConfig) -> tuple[list[TaskScore], dict[str, Any]]:
        embed = self._embedding([trajectory.task for trajectory in trajectories], config)
        details: dict[str, Any] = {"embedding_model": embed.name if embed else None}
        if self.by_steps:
            scores = score_steps(trajectories, embed)
            details["unscored"] = {"open": sum("summ_acc" not in score.counts for score in scores)}
            return scores, details
        scores = score_end_to_end(trajectories, config.scoring or self.scorings[0], embed)
        details["unscored"] = {
            kind: sum(score.groups["answer"] == kind and metric not in score.counts for score in scores)
            for kind, metric in (("open", "ans_acc"), ("picture", "ans_acc_image"))
        }
        return scores, details
