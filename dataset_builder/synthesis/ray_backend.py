"""A synthesis run on several machines with Ray: workers with a part of the batches each, one run.

The run's folder is on a path that all machines share. Worker `k` of `n` makes the batches `k`, `k + n`, `k + 2n`, ...
and takes their candidates through the stages, with the same pipeline as a run on one machine: its rows are in shards
of its own beside those of the others, its journal in `workers/<k>/`. A worker whose machine is lost is started again
on another one, where it goes on from its journal; the locks of its shards keep two of them from writing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import MissingExtraError, RunFolderError, T3Error
from t3_agents.progress import LINE_SECONDS

from .config import SynthConfig
from .pipeline import Stages
from .run_folder import WORKERS, progress_of, read_queries


if TYPE_CHECKING:
    from .stages.queries import NearDuplicates

LOCK_SECONDS = 120.0
"""How long a worker that is started again waits for the locks of its lost predecessor."""


def run_with_ray(config: SynthConfig, folder: Path) -> None:
    """Run a config with `num_workers` workers in the Ray cluster at `RAY_ADDRESS`, or else on this machine.

    The environment variable `OPENAI_API_KEY` has to be there on every machine. Budgets and `concurrency` are divided
    among the workers.

    Args:
        config ([`SynthConfig`]): settings.
        folder (`Path`): folder of the run, held by the caller.

    Raises:
        T3Error: when the run cannot begin, or a worker had to stop: what is finished is on disk.
    """
    try:
        import ray
        from ray.exceptions import RayTaskError
    except ImportError as error:
        raise MissingExtraError(error.name or "ray", "ray", "A run on several machines") from error

    folder = folder.resolve()
    # Counts of the users of Ray are nobody's business.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    # Restarted with what is on disk when its machine is lost.
    duplicates = ray.remote(SharedDuplicates).options(max_restarts=-1, max_task_retries=-1, num_cpus=0)
    seen = duplicates.remote(asdict(config), str(folder))
    work = ray.remote(run_worker).options(max_retries=-1, scheduling_strategy="SPREAD")
    waiting = [work.remote(asdict(config), str(folder), number, seen) for number in range(config.num_workers)]
    workers = list(waiting)
    errors: list[T3Error] = []
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=LINE_SECONDS)
            for worker in ended:
                try:
                    ray.get(worker)
                except RayTaskError as error:
                    if not isinstance(error.cause, T3Error):
                        raise
                    errors.append(error.cause)
            if not ended:
                print(progress_of(folder).headline(), file=sys.stderr)
    except BaseException:
        for worker in workers:
            ray.cancel(worker)
        raise
    finally:
        ray.kill(seen)
    if errors:
        raise errors[0]


def run_worker(settings: dict[str, Any], folder: str, number: int, seen: Any) -> None:
    """One worker's part of a run, on the machine where it is called.

    Args:
        settings (`dict`): fields of the [`SynthConfig`].
        folder (`str`): folder of the run on the shared path.
        number (`int`): which of the `num_workers` workers.
        seen (`ActorHandle`): the [`SharedDuplicates`].

    Raises:
        T3Error: when it had to stop early.
    """
    import ray

    from .progress import Ledger
    from .stages.assembly import endpoint_teacher, make_pipeline, paper_stages

    config = worker_config(SynthConfig(**settings), number)
    if not config.num_tasks:
        return
    teacher = endpoint_teacher(config, Ledger(config.token_budget, config.money_budget))
    ray.get(seen.begin.remote(number))
    stages = part_of(
        paper_stages(config, teacher),
        number,
        config.num_workers,
        lambda queries: ray.get(seen.add.remote(number, queries)),
    )
    name, journal = f"{config.flavor}-{number:03d}", Path(folder, WORKERS, f"{number:03d}")
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                pipeline = make_pipeline(config, Path(folder), teacher, stages, name, journal)
                break
            except RunFolderError:
                # The machine of the one before is lost, but its process has not noticed yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        pipeline.run()
    finally:
        teacher.endpoint.close()


def worker_config(config: SynthConfig, number: int) -> SynthConfig:
    """The settings of a worker: its part of the candidates, of the calls at a time, and of the budgets."""
    workers = config.num_workers
    return replace(
        config,
        num_tasks=config.num_tasks // workers + (number < config.num_tasks % workers),
        concurrency=max(1, config.concurrency // workers),
        token_budget=config.token_budget and max(1, config.token_budget // workers),
        money_budget=config.money_budget and config.money_budget / workers,
    )


def part_of(stages: Stages, number: int, workers: int, duplicates: Callable[[list[str]], list[str | None]]) -> Stages:
    """The stages of a worker: every `workers`-th batch, with the near duplicates of all workers.

    Numbers of batches are those of the whole run, so ids, which are made of them, are of one candidate each.
    """
    return replace(stages, generate=lambda batch: stages.generate(batch * workers + number), duplicates=duplicates)


class SharedDuplicates:
    """The near duplicates of all workers.

    Args:
        settings (`dict`): fields of the [`SynthConfig`].
        folder (`str`): folder of the run, whose queries on disk are the first ones.
    """

    def __init__(self, settings: dict[str, Any], folder: str):
        self._config = SynthConfig(**settings)
        self._folder = Path(folder)
        self._last: dict[int, list[str]] = {}
        self._near = self._from_disk()

    def begin(self, worker: int) -> None:
        """A worker begins. What its lost predecessor asked for last, and perhaps did not write, is forgotten:
        the worker will ask for it again."""
        if self._last.pop(worker, None) is not None:
            self._near = self._from_disk()

    def add(self, worker: int, queries: list[str]) -> list[str | None]:
        """For each query the earlier one that it is near to. A worker asks again only when it has written these."""
        self._last[worker] = queries
        return self._near.add(queries)

    def _from_disk(self) -> NearDuplicates:
        from .corpus.embedding import TextEmbedding
        from .stages.queries import NearDuplicates

        near = NearDuplicates(self._config.duplicate_threshold, TextEmbedding(self._config.embedding))
        written = [record["query"] for record in read_queries(self._folder)]
        for queries in (written, *self._last.values()):
            if queries:
                near.add(queries)
        return near
