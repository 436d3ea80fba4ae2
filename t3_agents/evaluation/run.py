"""Measuring an agent on a benchmark: run it over the tasks, several at a time, resumable, and score what it did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agent.rollout import rollout
from ..errors import InputError, RunFolderError
from ..progress import WorkProgress
from ..storage import SETTINGS_FILE, BlobStore, RunFolder, Shard, require, write_atomic
from ..task import Task
from ..trajectory import Trajectory
from .baselines import AgentFactory
from .benchmark import Benchmark
from .config import RunConfig, ScoreConfig
from .gaia.benchmark import GAIA
from .gta.benchmark import GTA
from .published import PublishedTable
from .results import (
    BLOBS_FOLDER,
    TRAJECTORIES_FILE,
    make_results,
    read_trajectories,
    task_digest,
    write_results,
)
from .scenarios import Scenarios
from .statistics import RESAMPLES


if TYPE_CHECKING:
    from smolagents import CodeAgent

    from ..agent.agent import T3Agent


BENCHMARKS: dict[str, type[Benchmark]] = {kind.options.benchmark: kind for kind in (Scenarios, GTA, GAIA)}
"""Benchmarks by name."""


def _absolute(task: Task) -> Task:
    """The same task, readable from any working directory: a code step changes that of the whole process."""
    files = [replace(f, source=f.source.absolute()) if isinstance(f.source, Path) else f for f in task.files]
    return replace(task, files=tuple(files))


def _finished(rows: Iterable[dict[str, Any]], tasks: dict[str, Task], folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of these tasks by id.

    Raises:
        RunFolderError: when a row has the id of a task but is about something else.
    """
    found = {}
    for row in rows:
        task_id = Trajectory.from_dict(row).task.id
        if task_id not in tasks:
            continue
        if row["task"] != json.loads(json.dumps(tasks[task_id].to_dict())):
            raise RunFolderError(
                f"{folder.name} holds another task with the id {task_id}: choose another output folder."
            )
        found[task_id] = row
    return found


def run_tasks(
    make_agent: Callable[[], T3Agent],
    tasks: Iterable[Task],
    output: str | Path,
    num_workers: int = 1,
) -> list[Trajectory]:
    """Run an agent over tasks and keep every trajectory.

    Each finished trajectory is appended to `output/trajectories.jsonl`, its pictures and files go to `output/blobs`.
    Started again on the same folder, the run skips the tasks that have a row, also after `kill -9`. A task that raises
    or blocks its thread beyond the agent's `time_limit` becomes a row with `end_reason` `failed` or `time_limit` and
    the reason in `provenance["failure"]`, and the others continue.

    Args:
        make_agent (`Callable[[], T3Agent]`): makes an agent. Each worker makes one, and another one after a failure.
            Agents may share a model that can be called from several threads.
        tasks (`Iterable[Task]`): what to run; ids must differ.
        output (`str` or `Path`): the folder, made when missing.
        num_workers (`int`, *optional*, defaults to 1): tasks that run at the same time, in threads.

    Returns:
        `list[Trajectory]`: one per task, in the order of the tasks.

    Raises:
        InputError: when two tasks have the same id or `num_workers` is less than 1.
        RunFolderError: when another process writes to the folder, or it holds other tasks under the same ids.
        KeyboardInterrupt: after Ctrl-C; the tasks in flight have no row and run again next time.
    """
    by_id: dict[str, Task] = {}
    for task in tasks:
        if task.id in by_id:
            raise InputError(f"Two tasks have the id {task.id}: each task may run once.")
        by_id[task.id] = _absolute(task)
    folder = Path(output).absolute()
    blobs = BlobStore(folder / BLOBS_FOLDER)
    with Shard(folder / TRAJECTORIES_FILE) as shard:
        rows = _finished(shard.rows, by_id, folder)
        pending = [task for task_id, task in by_id.items() if task_id not in rows]
        finished = rollout(make_agent, pending, num_workers)
        with closing(finished), _progress_bar(len(by_id), len(rows)) as advance:
            for trajectory in finished:
                row = _row(trajectory, blobs)
                shard.append(row)
                rows[row["task"]["id"]] = row
                advance()
    return [Trajectory.from_dict(rows[task_id], blobs) for task_id in by_id]


def _row(trajectory: Trajectory, blobs: BlobStore) -> dict[str, Any]:
    try:
        return trajectory.stored_in(blobs).to_dict()
    except (OSError, InputError):
        if trajectory.end_reason != "failed":
            raise
        return trajectory.to_dict()  # unreadable attachments are what it failed of


@contextmanager
def _progress_bar(total: int, done: int) -> Iterator[Callable[[], None]]:
    """Show how far the tasks are; gives the function that advances it."""
    with WorkProgress() as progress:
        bar = progress.add_task("Tasks", total=total, completed=done)
        yield lambda: progress.advance(bar)


# A benchmark


def evaluate(
    benchmark: str | RunConfig, make_agent: Callable[[], CodeAgent] | None = None, **options: Any
) -> dict[str, Any]:
    """Run an agent on a benchmark and score it.

    The folder then holds the trajectories, `scores.jsonl` (a row per task and seed) and `results.json`.

    Args:
        benchmark (`str` or [`RunConfig`]): name of the benchmark, or all options of the run in one object.
        make_agent (`Callable[[], CodeAgent]`, *optional*): makes the agent, a [`T3Agent`] or any CodeAgent of
            smolagents, for each worker; `config.agent` is then its name in the results. Agents may share a model that
            can be called from several threads.
        options: options of the run, where the benchmark is given by name; those of `t3 eval BENCHMARK`.

    Returns:
        `dict`: the content of `results.json`.

    Raises:
        InputError: when agent, dataset or options cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    config = benchmark_named(benchmark).options(**options) if isinstance(benchmark, str) else benchmark
    config.check()
    if make_agent is None and len(config.seeds) > 1 and config.temperature is None:
        raise InputError("Several seeds give the same run without sampling: set a temperature, for example 0.7.")
    settings = config.settings()
    bench = benchmark_named(config.benchmark)(settings)
    loaded = bench.load()
    if not config.skip_bad_rows:
        loaded.refuse_bad()
    if not loaded.tasks:
        raise InputError(f"{loaded.name} has no rows that can be used.")
    chosen = loaded.tasks[: config.limit]
    config.score_config().check()
    bench.check_scoring(chosen, config.score_config())
    tasks = bench.prepare(chosen)
    settings["data"] = {
        "name": loaded.name,
        "revision": loaded.revision,
        "split": loaded.split,
        "digest": task_digest(tasks),
        "skipped_rows": len(loaded.bad),
    }
    with RunFolder(config.output, settings):
        make = AgentFactory(config) if make_agent is None else lambda seed: make_agent()
        _run_seeds(lambda seed: bench.wrap(make(seed), seed), tasks, config)
        return _score(Path(config.output), settings, config.score_config())


def benchmark_named(name: str) -> type[Benchmark]:
    """The benchmark of this name.

    Raises:
        InputError: when there is none.
    """
    if name not in BENCHMARKS:
        raise InputError(f"There is no benchmark `{name}`; choose one of: {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name]


def published_results(name: str) -> PublishedTable | None:
    """What was published on a benchmark; nothing on one that is not known here."""
    return BENCHMARKS[name].published() if name in BENCHMARKS else None


def _run_seeds(make: Callable[[int], Any], tasks: Sequence[Any], config: RunConfig) -> None:
    """Run the tasks with every seed; with several, each has a shard of its own that shares the blobs."""
    folder = Path(config.output)
    if len(config.seeds) == 1:
        run_tasks(lambda: make(config.seeds[0]), tasks, folder, num_workers=config.num_workers)
        return
    (folder / BLOBS_FOLDER).mkdir(exist_ok=True)
    rows = []
    for seed in config.seeds:
        part = folder / "seeds" / str(seed)
        part.mkdir(parents=True, exist_ok=True)
        if not (part / BLOBS_FOLDER).exists():
            (part / BLOBS_FOLDER).symlink_to(Path("..") / ".." / BLOBS_FOLDER, target_is_directory=True)
        run_tasks(lambda seed=seed: make(seed), tasks, part, num_workers=config.num_workers)
        rows.append((part / TRAJECTORIES_FILE).read_bytes())
    write_atomic(folder / TRAJECTORIES_FILE, b"".join(rows))


def score_run(config: ScoreConfig) -> dict[str, Any]:
    """Score the trajectories of a run and write `scores.jsonl` and `results.json`.

    Args:
        config ([`ScoreConfig`]): the run and how to score it.

    Returns:
        `dict`: the content of `results.json`.

    Raises:
        InputError: when the folder holds no run of `t3 eval`, or it cannot be scored in this way.
    """
    folder = Path(config.run)
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no run: it has no {SETTINGS_FILE}.") from None
    except ValueError:
        raise InputError(f"{folder / SETTINGS_FILE} is not JSON.") from None
    if require(settings, "command", str, SETTINGS_FILE) != "eval" or "data" not in settings:
        raise InputError(f"{folder} holds no run of this version of `t3 eval`.")
    return _score(folder, settings, config)


def _score(folder: Path, settings: dict[str, Any], config: ScoreConfig) -> dict[str, Any]:
    config.check()
    bench = benchmark_named(settings["benchmark"])(settings)
    trajectories = read_trajectories(folder)
    bench.check_scoring([trajectory.task for trajectory in trajectories], config)
    scores, details = bench.score(trajectories, config)
    for score in scores if config.prices else ():
        usage = score.usage
        usage["cost"] = sum(usage[f"{name}_tokens"] * price for name, price in config.prices.items()) / 1e6
    scores.sort(key=lambda score: (score.task_id, score.seed))  # whatever was finished first
    data = dict(settings["data"])
    description = {
        "benchmark": settings["benchmark"],
        "mode": settings.get("mode", "end_to_end"),
        "scoring": config.scoring or bench.scorings[0],
        "scoring_details": {
            **details,
            "skipped_rows": data.pop("skipped_rows"),
            "intervals": f"{RESAMPLES} bootstrap resamples of the tasks, seed 0; Wilson's where all are equal",
            "prices": config.prices,
        },
        "dataset": data,
        "agent": _agent_of(trajectories, settings["agent"]),
        "seeds": settings["seeds"],
    }
    results = make_results(description, scores)
    write_results(folder, results, scores)
    for name, text in bench.extra_files(trajectories).items():
        write_atomic(folder / name, text)
    return results


def _agent_of(trajectories: Sequence[Any], name: str) -> dict[str, Any]:
    made_by = trajectories[0].provenance if trajectories else {}
    return {
        "name": Path(name).resolve().name if Path(name).exists() else name,
        "controller": made_by.get("controller"),
        "revision": made_by.get("revision"),
        "toolbox": [tool["name"] for tool in made_by.get("toolbox", [])],
        "prompt": made_by.get("prompt"),
    }
