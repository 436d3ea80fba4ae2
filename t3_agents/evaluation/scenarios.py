"""Held-out tasks of a dataset in the MM-Traj form: its `tasks` config, as [`Task`]s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image as PILImage

from ..errors import InputError
from ..media import decode_image, encode_image
from ..task import File, Task
from ..trajectory import Trajectory
from ..verifiers import calls_in_place, is_correct, tools_called, tools_expected
from .benchmark import Benchmark, LoadedTasks
from .config import RunConfig, ScoreConfig
from .error_types import error_type
from .results import TaskScore, base_score
from .statistics import wilson_interval


METRICS = tuple(Benchmark.metrics)
SUBSETS: dict[str, Callable[[Task], bool]] = {
    "all": lambda task: True,
    "seen": lambda task: not task.origin.get("unseen"),
    "unseen": lambda task: bool(task.origin.get("unseen")),
    "vision": lambda task: bool(task.origin.get("vision_only")),
}
"""Parts of the tasks: families that training saw, families kept out of it, families where only the picture tells."""


@dataclass(kw_only=True)
class EvalConfig(RunConfig):
    """Measure an agent on held-out tasks of a dataset.

    Args:
        dataset (`str`): folder or Hub id of the dataset with the tasks.
        split (`str`, *optional*, defaults to `"test"`): split of the tasks.
        subset (`str`, *optional*, defaults to `"all"`): `all`, `seen`, `unseen` or `vision` families.
        blank (`bool`, *optional*, defaults to `False`): replace every picture by a plain one, to see what the pictures
            bring.
    """

    benchmark: ClassVar[str] = "scenarios"

    dataset: str
    split: str = "test"
    subset: Literal["all", "seen", "unseen", "vision"] = "all"
    blank: bool = False


def load_tasks(dataset: str | Path) -> list[Task]:
    """The `test` tasks of a dataset, as [`load_scenarios`] reads them.

    Raises:
        InputError: as there, and when a row cannot be used.
    """
    loaded = load_scenarios(dataset)
    loaded.refuse_bad()
    return loaded.tasks


def load_scenarios(dataset: str | Path, split: str = "test", subset: str = "all") -> LoadedTasks:
    """Tasks of a dataset folder or Hub repo, sorted by family.

    Args:
        dataset (`str` or `Path`): a built dataset, or its Hub id.
        split (`str`, *optional*, defaults to `"test"`): the split.
        subset (`str`, *optional*, defaults to `"all"`): one of `SUBSETS`.

    Raises:
        InputError: when the dataset or its `tasks` config cannot be loaded, or the subset is unknown or empty.
    """
    from datasets import Image, List, load_dataset

    if subset not in SUBSETS:
        raise InputError(f"There is no subset `{subset}`; choose one of: {', '.join(SUBSETS)}.")
    folder = Path(dataset)
    try:
        rows = load_dataset(str(folder.resolve()) if folder.is_dir() else str(dataset), "tasks", split=split)
    except (ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"`{dataset}` has no tasks to evaluate on (config tasks, split {split}): {reason}") from error
    rows = rows.cast_column("images", List(Image(decode=False)))
    loaded = LoadedTasks([], folder.resolve().name if folder.is_dir() else str(dataset), split)
    for row in rows:
        loaded.add(row["id"], partial(_task_of, row))
    loaded.tasks = list(filter(SUBSETS[subset], loaded.tasks))
    if not loaded.tasks and not loaded.bad:
        raise InputError(f"`{dataset}` has no tasks in split {split}, subset {subset}.")
    loaded.tasks.sort(key=lambda task: (str(task.origin.get("family")), task.id))
    return loaded


def _task_of(row: dict[str, Any]) -> Task:
    files = {file["path"]: File.from_bytes(file["bytes"], file["path"]) for file in row["files"]}
    pictures = [path for path in row["paths"] if path not in files]
    if len(pictures) != len(row["images"]):
        raise InputError(f"there are {len(row['images'])} pictures for {len(pictures)} paths")
    for path, image in zip(pictures, row["images"], strict=True):
        decode_image(image["bytes"] or b"", path)
        files[path] = File.from_bytes(image["bytes"], path)
    return Task(
        id=row["id"],
        query=row["query"],
        files=tuple(files[path] for path in row["paths"]),
        ground_truth=row["ground_truth"],
        tools=tuple(row["tools"]),
        domain=row["domain"],
        origin=row["origin"] or {},
    )


def blank_images(task: Task) -> Task:
    """The same task with every picture replaced by a plain grey one of its size: what is left to a controller that is
    blind."""

    def blank(file: File) -> File:
        grey = PILImage.new("RGB", file.open_image().size, (200, 200, 200))
        return File.from_bytes(encode_image(grey), file.path)

    return replace(task, files=tuple(blank(file) if file.is_image else file for file in task.files))


def score_scenarios(trajectories: Sequence[Trajectory]) -> list[TaskScore]:
    """Score runs on scenarios, whose answers are compared by the rule in `answers.py`."""
    scores = []
    for trajectory in trajectories:
        task = trajectory.task
        score = base_score(trajectory)
        score.correct = is_correct(trajectory)
        expected = [(tool,) for tool in tools_expected(task)]
        places = calls_in_place(tools_called(trajectory), expected)
        score.counts["tool_acc"] = [sum(places), len(places)]
        if score.correct is not None:
            score.counts = {"ans_acc": [int(score.correct), 1], **score.counts}
        score.error_type = error_type(trajectory, score.correct, expected)
        score.groups = {
            "split": "unseen" if task.origin.get("unseen") else "seen",
            "family": str(task.origin.get("family")),
        }
        scores.append(score)
    return scores


def score(trajectories: Iterable[Trajectory]) -> dict[str, Any]:
    """AnsAcc, ToolAcc and CodeExec of trajectories, each with a Wilson interval.

    Trajectories without a known answer count for the other two only, those without expected tools not for ToolAcc. One
    that failed before its first turn has a wrong answer, no right call and no turns.

    Args:
        trajectories (`Iterable[Trajectory]`): what was run.

    Returns:
        `dict`: `ans_acc`, `tool_acc` and `code_exec` in 0..1 (`None` where nothing was counted), `n` trajectories,
        `counts` (answers, expected calls and turns by metric), and `ci95` (bounds by metric).
    """
    scores = score_scenarios(list(trajectories))
    counts = {name: [sum(s.counts.get(name, [0, 0])[i] for s in scores) for i in (0, 1)] for name in METRICS}
    return {
        **{name: right / n if n else None for name, (right, n) in counts.items()},
        "n": len(scores),
        "counts": {name: n for name, (_, n) in counts.items()},
        "ci95": {name: wilson_interval(right, n) for name, (right, n) in counts.items()},
    }


class Scenarios(Benchmark):
    """Held-out tasks of a dataset in the MM-Traj form."""

    options = EvalConfig
    scorings = ("scenarios",)

    def load(self) -> LoadedTasks:
        return load_scenarios(self.settings["dataset"], self.settings["split"], self.settings["subset"])

    def prepare(self, tasks: Sequence[Task]) -> list[Task]:
        return [blank_images(task) for task in tasks] if self.settings["blank"] else list(tasks)

    def score(self, trajectories: Sequence[Trajectory], config: ScoreConfig) -> tuple[list[TaskScore], dict[str, Any]]:
        return score_scenarios(trajectories), {}
