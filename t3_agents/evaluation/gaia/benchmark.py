"""GAIA: its rows as [`Task`]s, the form of its answers, and the scores of runs on it.

The benchmark is `2023/<split>/metadata.parquet` (or `metadata.jsonl`, as it was at first) beside the attachments. Its
authors ask that questions are not published in a form that crawlers read. So nothing here prints them, and only the
trajectories of a run hold them, not its scores and results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import yaml
from jsonargparse.typing import PositiveInt
from smolagents.models import ChatMessage, MessageRole

from t3_agents.errors import InputError
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory

from ..baselines import AgentWrapper
from ..benchmark import Benchmark, LoadedTasks, attachment, locate
from ..config import RunConfig, ScoreConfig
from ..error_types import error_type
from ..results import TaskScore, base_score
from .scoring import answers_match


if TYPE_CHECKING:
    from smolagents import CodeAgent

    from t3_agents.agent.agent import T3Agent

HUB_ID = "gaia-benchmark/GAIA"
SPLITS = ("validation", "test")
LEVELS = ("1", "2", "3")
SUBMISSION_FILE = "submission.jsonl"
PLACEHOLDER = "0-0-0-0-0"
"""Id of a row without a question that early copies hold; the benchmark's own loader leaves it out."""

_PROMPTS = yaml.safe_load(Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8"))
ANSWER_FORM: str = _PROMPTS["answer_form"]
"""What the leaderboard asks of answers, in our words."""


@dataclass(kw_only=True)
class GAIAConfig(RunConfig):
    """Measure an agent on GAIA, by the rules of its leaderboard.

    Args:
        dataset (`str`, *optional*, defaults to `"gaia-benchmark/GAIA"`): folder or Hub id of the benchmark; the Hub's
            copy is gated.
        revision (`str`, *optional*): commit of the Hub copy.
        split (`str`, *optional*, defaults to `"validation"`): `validation`, or `test`, whose answers are not public:
            such a run writes the leaderboard's `submission.jsonl`.
        levels (`list[str]`, *optional*, defaults to all three): levels of difficulty, for example `--levels 1 2`.
        format_answers (`bool`, *optional*, defaults to `False`): let the controller bring each answer into the
            leaderboard's form, in one more call.
    """

    benchmark: ClassVar[str] = "gaia"
    bare: ClassVar[tuple[str, str]] = ("gaia", "paper")

    dataset: str = HUB_ID
    revision: str | None = None
    split: Literal["validation", "test"] = "validation"
    levels: list[Literal["1", "2", "3"]] = field(default_factory=lambda: list(LEVELS))
    format_answers: bool = False
    max_steps: PositiveInt = 10


def load_gaia(
    dataset: str | Path = HUB_ID,
    split: str = "validation",
    levels: Sequence[str] = LEVELS,
    revision: str | None = None,
) -> LoadedTasks:
    """Read the benchmark.

    Args:
        dataset (`str` or `Path`, *optional*, defaults to `"gaia-benchmark/GAIA"`): folder or Hub id. A folder is a
            copy of the whole repo, or of the split.
        split (`str`, *optional*, defaults to `"validation"`): `validation` or `test`, whose answers are not public.
        levels (`Sequence[str]`, *optional*): of `1`, `2` and `3`.
        revision (`str`, *optional*): commit of the Hub repo.

    Raises:
        InputError: when it cannot be found or read. Rows that cannot be used are in `bad`.
    """
    if split not in SPLITS or not set(levels) <= set(LEVELS) or not levels:
        raise InputError(f"GAIA has the splits {' and '.join(SPLITS)} and the levels {', '.join(LEVELS)}.")
    advice = (
        f"it is gated, accept its conditions at https://huggingface.co/datasets/{HUB_ID} and log in with `hf auth "
        "login`, or pass a folder with your copy as `--dataset`"
    )
    place, commit = locate("GAIA", dataset, revision, advice, allow_patterns=[f"2023/{split}/*"])
    folder = place / "2023" / split if (place / "2023" / split).is_dir() else place
    loaded = LoadedTasks([], str(dataset) if commit else Path(dataset).resolve().name, split, commit)
    for number, row in enumerate(_read_rows(folder), start=1):
        row_id = row.get("task_id") if isinstance(row, dict) else None
        if row_id == PLACEHOLDER:
            continue
        label = row_id if isinstance(row_id, str) and row_id else f"row {number}"
        loaded.add(label, partial(_task_of, row, split, folder))
    loaded.tasks = [task for task in loaded.tasks if task.origin["level"] in set(levels)]
    if not loaded.tasks and not loaded.bad:
        raise InputError(f"{loaded.name} has no {split} tasks of level {', '.join(levels)}.")
    return loaded


def _read_rows(folder: Path) -> list[Any]:
    """Rows of the split's metadata; a line that is no JSON is passed on as it is, to be reported.

    Raises:
        InputError: when there is no metadata.
    """
    lines = folder / "metadata.jsonl"
    if lines.is_file():
        return [_json_or_text(line) for line in lines.read_text(encoding="utf-8").split("\n") if line.strip()]
    tables = [folder / "metadata.parquet"]
    if not tables[0].is_file():
        tables = sorted(folder.glob("metadata.level*.parquet"))
    if not tables:
        raise InputError(f"{folder} is no split of GAIA: it has no metadata.jsonl and no metadata.parquet.")
    import pyarrow
    import pyarrow.parquet

    try:
        return [row for table in tables for row in pyarrow.parquet.read_table(table).to_pylist()]
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{tables[0]} is not a readable Parquet file ({type(error).__name__}).") from None


def _json_or_text(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _task_of(row: Any, split: str, folder: Path) -> Task:
    """A row as a task. Messages hold no text of it.

    Raises:
        InputError: saying what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise InputError("the line is not a JSON object")
    if not isinstance(row.get("task_id"), str) or not row["task_id"]:
        raise InputError("it has no `task_id`")
    question = row.get("Question")
    if not isinstance(question, str) or not question.strip():
        raise InputError("`Question` is empty or no text")
    level = str(row.get("Level"))
    if level not in LEVELS:
        raise InputError(f"`Level` is {level[:20]}, not one of {', '.join(LEVELS)}")
    answer = row.get("Final answer")
    if split == "test" and answer in (None, "", "?"):
        answer = None
    elif not isinstance(answer, str) or not answer.strip():
        raise InputError("`Final answer` is empty or no text")
    name = row.get("file_name") or ""
    if not isinstance(name, str):
        raise InputError("`file_name` is no text")
    files = (attachment(folder, name, f"files/{PurePosixPath(name).name}"),) if name else ()
    return Task(
        id=row["task_id"],
        query=f"{question}\n\n{ANSWER_FORM}",
        files=files,
        ground_truth=answer,
        origin={"benchmark": "gaia", "split": split, "level": level},
    )


class FormattingAgent(AgentWrapper):
    """An agent whose controller brings each answer into the leaderboard's form, in one more call.

    The result is `provenance["formatted_answer"]`; a reply without `FINAL ANSWER:` leaves the answer as it is.

    Args:
        agent ([`RecordedAgent`]): the agent.
    """

    def run_task(self, task: Task) -> Trajectory:
        """Solve a task and format its answer."""
        trajectory = self.agent.run_task(task)
        if trajectory.answer is not None:
            work = "\n".join(f"{step.thought}\n{step.observation_text()}" for step in trajectory.actions)
            question = task.query.removesuffix(ANSWER_FORM).strip()
            request = _PROMPTS["format_request"].format(
                question=question, work=work[-8000:], answer=trajectory.answer, form=ANSWER_FORM
            )
            content = [{"type": "text", "text": request}]
            reply = self.model.generate([ChatMessage(role=MessageRole.USER, content=content)])
            trajectory.provenance["formatted_answer"] = final_answer_of(str(reply.content)) or trajectory.answer
            if reply.token_usage:
                used = reply.token_usage
                trajectory.provenance["formatting_tokens"] = [used.input_tokens, used.output_tokens]
        return trajectory


def final_answer_of(reply: str) -> str | None:
    """What follows the last `FINAL ANSWER:` on its line, or nothing."""
    found = re.findall(r"FINAL ANSWER:[^\S\n]*(.*)", reply, re.IGNORECASE)
    return (found[-1].strip() or None) if found else None


def answer_of(trajectory: Trajectory) -> str | None:
    """The answer that counts: the formatted one, where there is one."""
    return trajectory.provenance.get("formatted_answer", trajectory.answer)


def score_gaia(trajectories: Sequence[Trajectory]) -> list[TaskScore]:
    """Score runs by the leaderboard's rules. Tasks without a public answer have no score."""
    scores = []
    for trajectory in trajectories:
        task = trajectory.task
        score = base_score(trajectory)
        if task.ground_truth is not None:
            # A run that gave up has no answer; the leaderboard's scorer would read the word `None`.
            answer = answer_of(trajectory)
            score.correct = answer is not None and answers_match(answer, task.ground_truth)
            score.counts = {"ans_acc": [int(score.correct), 1], **score.counts}
        score.error_type = error_type(trajectory, score.correct)
        if score.reason:
            score.reason = score.reason.split(":")[0]  # what follows may quote the question
        kind = PurePosixPath(task.files[0].path).suffix.lstrip(".").lower() if task.files else "none"
        score.groups = {"level": task.origin["level"], "attachment": kind}
        scores.append(score)
    return scores


def submission(trajectories: Sequence[Trajectory]) -> str:
    """The leaderboard's submission file: a line `{"task_id", "model_answer", "reasoning_trace"}` per task."""
    rows = [
        {
            "task_id": trajectory.task.id,
            "model_answer": answer_of(trajectory) or "",
            "reasoning_trace": "\n".join(step.model_output for step in trajectory.actions),
        }
        for trajectory in trajectories
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


class GAIA(Benchmark):
    """GAIA, validation or test."""

    options = GAIAConfig
    is_private = True

    def load(self) -> LoadedTasks:
        settings = self.settings
        return load_gaia(settings["dataset"], settings["split"], settings["levels"], settings["revision"])

    def wrap(self, agent: T3Agent | CodeAgent, seed: int) -> Any:
        wrapped = super().wrap(agent, seed)
        return FormattingAgent(wrapped) if self.settings["format_answers"] else wrapped

    def score(self, trajectories: Sequence[Trajectory], config: ScoreConfig) -> tuple[list[TaskScore], dict[str, Any]]:
        return score_gaia(trajectories), {"formatted_answers": self.settings["format_answers"]}

    def extra_files(self, trajectories: Sequence[Trajectory]) -> dict[str, str]:
        if self.settings["split"] != "test":
            return {}
        parts: dict[int, list[Trajectory]] = {}
        for trajectory in trajectories:
            parts.setdefault(trajectory.provenance.get("seed", 0), []).append(trajectory)
        return {
            SUBMISSION_FILE if len(parts) == 1 else f"submission-{seed}.jsonl": submission(part)
            for seed, part in parts.items()
        }
