"""The benchmarks behind one interface: their tasks, what wraps an agent, and how runs are scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from smolagents import CodeAgent

from ..agent.agent import T3Agent
from ..errors import InputError
from ..task import Task
from ..trajectory import Trajectory
from .baselines import PlainAgent, RecordedAgent
from .config import EvalConfig, GAIAConfig, GTAConfig, RunConfig, ScoreConfig
from .embedding import Embedding, load_embedding
from .gaia import benchmark as gaia
from .gta import benchmark as gta
from .gta.steps import StepAgent, score_steps, step_tasks
from .results import TaskScore
from .rows import LoadedTasks
from .scenarios import blank_images, load_scenarios, score_scenarios


Prices = tuple[float, float] | None


def prices_of(config: ScoreConfig) -> Prices:
    """Prices of a million input and output tokens, where they are given.

    Raises:
        InputError: when only one of them is.
    """
    if (config.input_price is None) != (config.output_price is None):
        raise InputError("The cost needs both prices: give `--input-price` and `--output-price`.")
    return None if config.input_price is None else (config.input_price, config.output_price)


class Suite(ABC):
    """A benchmark.

    Args:
        settings (`dict`): settings of the run, as its folder holds them.
    """

    scoring = "official"

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    @abstractmethod
    def load(self) -> LoadedTasks:
        """Its rows as tasks."""

    def prepare(self, tasks: Sequence[Task]) -> list[Task]:
        """Tasks as they are run."""
        return list(tasks)

    def wrap(self, agent: T3Agent | CodeAgent, seed: int) -> Any:
        """An agent as the runner takes it."""
        plain = agent
        if not isinstance(agent, T3Agent):
            plain = PlainAgent(agent, self.settings["token_budget"], self.settings["time_budget"])
        return RecordedAgent(plain, seed)

    def check_scoring(self, tasks: Sequence[Task], config: ScoreConfig) -> None:
        """Check before the run that it can be scored.

        Raises:
            InputError: when only one price is given, or an embedding model cannot be loaded.
        """
        prices_of(config)

    @abstractmethod
    def score(
        self, trajectories: Sequence[Trajectory], config: ScoreConfig, prices: Prices
    ) -> tuple[list[TaskScore], dict[str, Any]]:
        """Scores of runs, and details of how they were scored."""

    def extra_files(self, trajectories: Sequence[Trajectory]) -> dict[str, str]:
        """Further files of a run: content by name."""
        return {}


class Scenarios(Suite):
    """Held-out tasks of a dataset in the MM-Traj form."""

    scoring = "scenarios"

    def load(self) -> LoadedTasks:
        return load_scenarios(self.settings["dataset"], self.settings["split"], self.settings["subset"])

    def prepare(self, tasks: Sequence[Task]) -> list[Task]:
        return [blank_images(task) for task in tasks] if self.settings["blank"] else list(tasks)

    def score(
        self, trajectories: Sequence[Trajectory], config: ScoreConfig, prices: Prices
    ) -> tuple[list[TaskScore], dict[str, Any]]:
        return score_scenarios(trajectories, prices), {}


class GTA(Suite):
    """GTA, end to end or step by step."""

    @property
    def by_steps(self) -> bool:
        return self.settings["mode"] == "step_by_step"

    def load(self) -> LoadedTasks:
        return gta.load_gta(self.settings["dataset"], self.settings["revision"])

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
        needed = any(bool(answer) if self.by_steps else True for answer in known if not isinstance(answer, dict))
        if not needed or config.scoring == "paper" or config.embedding_model == "none":
            return None
        return load_embedding(config.embedding_model)

    def score(
        self, trajectories: Sequence[Trajectory], config: ScoreConfig, prices: Prices
    ) -> tuple[list[TaskScore], dict[str, Any]]:
        embed = self._embedding([trajectory.task for trajectory in trajectories], config)
        details: dict[str, Any] = {"embedding_model": embed.name if embed else None}
        if self.by_steps:
            scores = score_steps(trajectories, embed, prices)
            details["unscored"] = {"open": sum("summ_acc" not in score.counts for score in scores)}
            return scores, details
        scores = gta.score_end_to_end(trajectories, config.scoring, embed, prices)
        details["unscored"] = {
            kind: sum(score.groups["answer"] == kind and metric not in score.counts for score in scores)
            for kind, metric in (("open", "ans_acc"), ("picture", "ans_acc_image"))
        }
        return scores, details


class GAIA(Suite):
    """GAIA, validation or test."""

    def load(self) -> LoadedTasks:
        settings = self.settings
        return gaia.load_gaia(settings["dataset"], settings["split"], settings["levels"], settings["revision"])

    def wrap(self, agent: T3Agent | CodeAgent, seed: int) -> Any:
        wrapped = super().wrap(agent, seed)
        return gaia.FormattingAgent(wrapped) if self.settings["format_answers"] else wrapped

    def score(
        self, trajectories: Sequence[Trajectory], config: ScoreConfig, prices: Prices
    ) -> tuple[list[TaskScore], dict[str, Any]]:
        return gaia.score_gaia(trajectories, prices), {"formatted_answers": self.settings["format_answers"]}

    def extra_files(self, trajectories: Sequence[Trajectory]) -> dict[str, str]:
        if self.settings["split"] != "test":
            return {}
        parts: dict[int, list[Trajectory]] = {}
        for trajectory in trajectories:
            parts.setdefault(trajectory.provenance.get("seed", 0), []).append(trajectory)
        return {
            gaia.SUBMISSION_FILE if len(parts) == 1 else f"submission-{seed}.jsonl": gaia.submission(part)
            for seed, part in parts.items()
        }


SUITES: dict[str, tuple[type[Suite], type[RunConfig]]] = {
    "scenarios": (Scenarios, EvalConfig),
    "gta": (GTA, GTAConfig),
    "gaia": (GAIA, GAIAConfig),
}
"""Benchmarks by name, with their options."""
