"""A finished evaluation as its folder holds it: trajectories, the score of each, and the results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import require
from ..trajectory import Trajectory
from .results import RESULTS_FILE, TaskScore, read_results, read_scores, read_trajectories


OUTCOMES = ("right", "wrong", "no verdict")
"""What an answer is; there is no verdict where a run was not scored, or its answer is scored by degrees."""


def outcome_of(score: TaskScore | None) -> str:
    """One of `OUTCOMES`."""
    return {True: "right", False: "wrong"}.get(score.correct if score else None, "no verdict")


def task_of(trajectory: Trajectory) -> str:
    """Id of the benchmark's row: that of the task, but step by step a row is several tasks."""
    return trajectory.task.origin.get("row", trajectory.task.id)


@dataclass(frozen=True)
class Attempt:
    """One trajectory and its score, `None` when it was not scored. Step by step, the turns of a row share one."""

    trajectory: Trajectory
    score: TaskScore | None = None

    @property
    def seed(self) -> int:
        return self.trajectory.provenance.get("seed") or 0

    @property
    def outcome(self) -> str:
        return outcome_of(self.score)

    @property
    def error_type(self) -> str | None:
        return self.score.error_type if self.score else None

    @property
    def groups(self) -> list[str]:
        """Parts of the tasks to which this one belongs, for example `["level: 1", "tool: ocr"]`."""
        found = self.score.groups if self.score else {}
        return [
            f"{name}: {value}"
            for name, values in found.items()
            for value in ([values] if isinstance(values, str) else values)
        ]

    @property
    def usage(self) -> dict[str, float]:
        """Tokens and seconds of the steps."""
        return {
            name: sum(getattr(step, name) for step in self.trajectory.steps)
            for name in ("input_tokens", "output_tokens", "seconds")
        }


@dataclass(frozen=True)
class ScoredRun:
    """A run of one benchmark.

    Args:
        name (`str`): what it is called in a report.
        attempts (`list[Attempt]`): one per task and seed.
        scores (`list[TaskScore]`, *optional*): the rows of `scores.jsonl`.
        results (`dict`, *optional*): the content of `results.json`; `None` when the run was not scored.
    """

    name: str
    attempts: Sequence[Attempt]
    scores: Sequence[TaskScore] = ()
    results: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: str | Path) -> ScoredRun:
        """Read a run folder, scored or not.

        Raises:
            InputError: when the folder holds no run, or a record in it cannot be used.
        """
        folder = Path(folder)
        trajectories = in_reading_order(read_trajectories(folder))
        if not (folder / RESULTS_FILE).is_file():
            return cls(folder.resolve().name, [Attempt(trajectory) for trajectory in trajectories])
        results, scores = read_results(folder), read_scores(folder)
        _check_results(results)
        by_task = {(score.task_id, score.seed): score for score in scores}
        attempts = []
        for trajectory in trajectories:
            seed = Attempt(trajectory).seed
            attempts.append(Attempt(trajectory, by_task.get((task_of(trajectory), seed))))
        return cls(results["agent"]["name"], attempts, scores, results)

    @property
    def benchmark(self) -> str | None:
        return self.results["benchmark"] if self.results else None


def in_reading_order(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Trajectories by family and id of their tasks, numbers in ids by their value: a run ends them in any order."""

    def place(trajectory: Trajectory) -> tuple[str, list[tuple[int, str]]]:
        parts = re.findall(r"[0-9]+|[^0-9]+", trajectory.task.id)
        # Where one id has a number and another has text, numbers come first.
        number_first = [(int(part), "") if part.isdecimal() else (10**30, part) for part in parts]
        return str(trajectory.task.origin.get("family", "")), number_first

    return sorted(trajectories, key=place)


def _check_results(results: Mapping[str, Any]) -> None:
    """Check what a report shows of `results.json`.

    Raises:
        InputError: naming the part that is missing or of a wrong type.
    """
    parts = {"benchmark": str, "mode": str, "scoring": str, "scoring_details": dict, "dataset": dict, "agent": dict}
    for name, kind in {**parts, "num_tasks": int, "metrics": dict, "breakdown": dict, "usage": dict}.items():
        require(results, name, kind, "results")
    require(results["agent"], "name", str, "results' agent")
    for metrics in (results["metrics"], *(part for parts in results["breakdown"].values() for part in parts.values())):
        for name, metric in metrics.items():
            value = require(metric, "value", (int, float, type(None)), f"metric `{name}`")
            bounds = require(metric, "ci95", list, f"metric `{name}`")
            numbers = [number for number in (value, *bounds) if number is not None]
            # Not at most 1: GTA's evaluator counts more right turns than turns where a picture is asked for.
            if len(bounds) != 2 or not all(isinstance(number, (int, float)) and number >= 0 for number in numbers):
                raise InputError(f"The metric `{name}` must be a fraction with two bounds, none below 0.")
