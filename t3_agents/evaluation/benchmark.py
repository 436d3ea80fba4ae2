"""What a benchmark is: options, tasks, what wraps an agent, how runs are scored, and what reports show of it.

A benchmark is a subclass of [`Benchmark`] in a module or folder of its own, and a line in `BENCHMARKS` of `run.py`.
"""

from __future__ import annotations

import inspect
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..agent.agent import T3Agent
from ..errors import InputError
from ..hub.wheel_weights import cache_dir
from ..media import decode_image, media_type_of, zip_entries
from ..storage import scratch_folder, sha256_of, sha256_of_file
from ..task import MAX_FILE_BYTES, File, Task, check_workspace_path
from ..trajectory import Trajectory
from .baselines import PlainAgent, RecordedAgent
from .config import RunConfig, ScoreConfig
from .published import PublishedTable
from .results import TaskScore


if TYPE_CHECKING:
    from smolagents import CodeAgent


MAX_ARCHIVE_BYTES = 8 * 2**30
"""Unpacked size above which an archive is refused."""


class Benchmark(ABC):
    """A benchmark.

    Args:
        settings (`dict`): settings of the run, as its folder holds them.

    Attributes:
        options (`type[RunConfig]`): options of a run, with the benchmark's name.
        scorings (`tuple[str, ...]`): names of the rules by which it can be scored, the default first.
        metrics (`dict[str, str]`): names of its metrics as people write them.
        is_private (`bool`): its authors ask that questions and answers are kept out of what is published.
    """

    options: ClassVar[type[RunConfig]]
    scorings: ClassVar[tuple[str, ...]] = ("official",)
    metrics: ClassVar[Mapping[str, str]] = {"ans_acc": "AnsAcc", "tool_acc": "ToolAcc", "code_exec": "CodeExec"}
    is_private: ClassVar[bool] = False

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    @classmethod
    def published(cls) -> PublishedTable | None:
        """Published numbers to set beside own ones: `published.yaml` beside the module, where there is one."""
        path = Path(inspect.getfile(cls)).with_name("published.yaml")
        return PublishedTable.read(path) if path.is_file() else None

    @abstractmethod
    def load(self) -> LoadedTasks:
        """Its rows as tasks."""

    def prepare(self, tasks: Sequence[Task]) -> list[Task]:
        """Tasks as they are run."""
        return list(tasks)

    def wrap(self, agent: T3Agent | CodeAgent, seed: int) -> Any:
        """An agent as the runner takes it."""
        budgets = self.settings["token_budget"], self.settings["time_limit"]
        return RecordedAgent(agent if isinstance(agent, T3Agent) else PlainAgent(agent, *budgets), seed)

    def check_scoring(self, tasks: Sequence[Task], config: ScoreConfig) -> None:
        """Check before the run that it can be scored.

        Raises:
            InputError: when there are no such rules, or a model that they need cannot be loaded.
        """
        if config.scoring not in (None, *self.scorings):
            raise InputError(f"There is no scoring `{config.scoring}`; choose one of: {', '.join(self.scorings)}.")

    @abstractmethod
    def score(self, trajectories: Sequence[Trajectory], config: ScoreConfig) -> tuple[list[TaskScore], dict[str, Any]]:
        """Scores of runs, and details of how they were scored."""

    def extra_files(self, trajectories: Sequence[Trajectory]) -> dict[str, str]:
        """Further files of a run: content by name."""
        return {}


@dataclass
class LoadedTasks:
    """Tasks of a benchmark and where they come from.

    Args:
        tasks (`list[Task]`): rows that can be used.
        name (`str`): Hub id, or name of the folder.
        split (`str`): the split.
        revision (`str`, *optional*): commit of a Hub dataset.
        bad (`dict[str, str]`): why other rows cannot be used, by id.
    """

    tasks: list[Task]
    name: str
    split: str
    revision: str | None = None
    bad: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set, repr=False)

    def add(self, row_id: str, make: Callable[[], Task]) -> None:
        """Keep the task of a row, or the reason why it cannot be used; none of the rows that share an id can.

        Args:
            row_id (`str`): what the row is called in messages, its id where it has one.
            make (`Callable[[], Task]`): makes the task; raises [`InputError`] when the row cannot be used.
        """
        try:
            if row_id in self._seen:
                raise InputError("the id is there twice")
            self._seen.add(row_id)
            self.tasks.append(make())
        except InputError as error:
            self.bad[f"{row_id} (again)" if row_id in self.bad else row_id] = str(error)
            self.tasks = [task for task in self.tasks if task.id != row_id]

    def refuse_bad(self) -> None:
        """Stop at rows that cannot be used.

        Raises:
            InputError: naming every one of them.
        """
        if self.bad:
            rows = "\n".join(f"  {row}: {reason}" for row, reason in self.bad.items())
            raise InputError(
                f"{len(self.bad)} rows of {self.name} cannot be used; correct them, or leave them out with "
                f"`--skip-bad-rows true`:\n{rows}"
            )


def attachment(folder: Path, name: str, path: str) -> File:
    """A file of a benchmark, checked.

    Args:
        folder (`Path`): the benchmark's folder.
        name (`str`): where the file is in it, as the row has it.
        path (`str`): its path in the workspace.

    Raises:
        InputError: when the name leads out of the folder, or the file is missing, empty, too large or no picture
            although its name says so.
    """
    source = folder / check_workspace_path(name)
    if not source.is_file():
        raise InputError(f"there is no file {name}")
    size = source.stat().st_size
    if size == 0 or size > MAX_FILE_BYTES:
        raise InputError(f"the file {name} has {size} bytes")
    data = source.read_bytes()
    file = File(check_workspace_path(path), media_type_of(path), sha256_of(data), source)
    if file.is_image:
        decode_image(data, name)
    return file


def locate(
    name: str, dataset: str | Path, revision: str | None, advice: str, **options: Any
) -> tuple[Path, str | None]:
    """Folder with a benchmark, and the commit of a Hub copy.

    Args:
        name (`str`), advice (`str`): of the benchmark, and what to do when it cannot be fetched, for the message.
        dataset (`str` or `Path`): folder, zip or Hub id.
        revision (`str`, *optional*): commit.
        options: of `snapshot_download`.

    Raises:
        InputError: when it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    path = Path(dataset)
    if path.exists():
        return path if path.is_dir() else unpack(path), None
    try:
        snapshot = Path(snapshot_download(str(dataset), repo_type="dataset", revision=revision, **options))
        return snapshot, snapshot.name
    except (HFValidationError, HTTPError, OSError) as error:
        raise InputError(
            f"{name} is neither at `{dataset}` nor reachable on the Hub ({type(error).__name__}): {advice}."
        ) from error


def unpack(archive: Path) -> Path:
    """Unpack a zip into the cache, once, and return the folder.

    Raises:
        InputError: when it is no zip, or a member would be written outside the folder, is a link or is too large.
    """
    target = cache_dir() / "benchmarks" / sha256_of_file(archive)[:16]
    if target.is_dir():
        return target
    try:
        with zipfile.ZipFile(archive) as packed:
            size = sum(entry.file_size for entry in zip_entries(packed, str(archive)).values())
            if size > MAX_ARCHIVE_BYTES:
                raise InputError(f"{archive} was not unpacked: it would need more than {MAX_ARCHIVE_BYTES >> 30} GiB.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(target.parent, ".unpack-") as scratch:
                try:
                    packed.extractall(scratch)
                    os.replace(scratch, target)
                except OSError:
                    if not target.is_dir():  # another process may have been faster
                        raise
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a readable zip archive ({error}).") from None
    return target
