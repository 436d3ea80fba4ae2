"""Synthesize tasks, files and trajectories with a teacher, and look at such a run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError, MissingExtraError, T3Error
from t3_agents.progress import LINE_SECONDS
from t3_agents.reports.markdown import visible
from t3_agents.storage import SETTINGS_FILE, RunFolder, write_atomic

from .config import SCENARIOS, InspectConfig, StatusConfig, SynthConfig
from .progress import Progress
from .run_folder import IN_FLIGHT, KEPT, QUERIES, TASKS_FILE, journal_files, progress_of


LOG_WIDTH = 120


def main(config: SynthConfig) -> int:
    """The command `t3 synth`."""
    config.check()
    if config.teacher == SCENARIOS:
        from ..scenarios.at_scale import print_comparison, synthesize_scenarios

        dataset = synthesize_scenarios(config.output, config.num_tasks, config.seed, config.num_workers, config.prompt)
        print_comparison(dataset)
        print(dataset)
        return 0
    return synthesize(config)


def synthesize(config: SynthConfig) -> int:
    """Run a config with the teacher at its endpoint, then write the report and the dataset; the exit status.

    Raises:
        T3Error: when the run cannot begin, had to stop, or kept no row: what is finished is on disk.
    """
    from ..export import export_run
    from .report import write_report

    check_endpoint(config)
    folder = Path(config.output)
    with RunFolder(folder, config.settings()):
        stopped: T3Error | None = None
        try:
            if config.backend == "ray":
                from .ray_backend import run_with_ray

                write_atomic(folder / TASKS_FILE, f"{config.num_tasks}\n")
                run_with_ray(config, folder)
            else:
                _run_here(config, folder)
        except T3Error as error:
            if not (folder / TASKS_FILE).exists():
                raise
            stopped = error
        progress = progress_of(folder)
        print(write_report(folder, config, progress))
        complete = progress.done >= config.num_tasks
        if complete or progress.finished_by.get(KEPT):
            print(export_run(folder))
    if stopped is not None:
        raise stopped
    if not complete:
        print("Stopped; run the same command to resume.", file=sys.stderr)
        return 130
    return 0


def check_endpoint(config: SynthConfig) -> None:
    """Ask the teacher for a word, so that a wrong key, address or name is said before a run begins. One that is slow
    or busy is not wrong.

    Raises:
        InputError: when there is no such endpoint, or it refuses the request.
    """
    from t3_agents.models.endpoint import Endpoint, EndpointError, RefusedRequest

    endpoint = Endpoint(config.teacher, request_time_limit=min(config.request_time_limit, 10), max_retries=0)
    request = {"model": config.model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 16}
    try:
        endpoint.post("chat/completions", request)
    except EndpointError as error:
        if isinstance(error, RefusedRequest) or "no connection" in str(error):
            raise InputError(str(error)) from error
    finally:
        endpoint.close()


def _run_here(config: SynthConfig, folder: Path) -> None:
    try:
        from .stages.assembly import endpoint_teacher, make_pipeline
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "pydantic", "synthesis", "A teacher behind an endpoint") from error
    from .progress import Ledger

    teacher = endpoint_teacher(config, Ledger(config.token_budget, config.money_budget))
    try:
        pipeline = make_pipeline(config, folder, teacher)
        write_atomic(folder / TASKS_FILE, f"{config.num_tasks}\n")
        with _finishing_at_interrupt(pipeline.finish), _shown(pipeline.progress):
            pipeline.run()
    finally:
        teacher.endpoint.close()


def status(config: StatusConfig) -> int:
    """`t3 synth status RUN`: show how far a run is, also while it is running."""
    from rich.console import Console

    folder = _run_of(config.run)
    if _is_of_scenarios(folder):
        return _scenario_status(folder)
    console = Console()
    (console if console.is_terminal else Console(width=LOG_WIDTH)).print(progress_of(folder).table())
    waiting = len(journal_files(folder, f"{IN_FLIGHT}/*.json"))
    print(f"{waiting} candidates are under way or were when it stopped.")
    return 0


def _scenario_status(folder: Path) -> int:
    from t3_agents.reports.tables import Table, print_tables

    from ..scenarios.at_scale import rows_by_split

    rows = [[split, *(f"{number:,}" for number in numbers)] for split, numbers in rows_by_split(folder).items()]
    print_tables(Table("", ["split", "planned", "kept", "rejected"], rows, right=3))
    return 0


def inspect(config: InspectConfig) -> int:
    """`t3 synth inspect RUN ID`: show the whole story of one candidate.

    Raises:
        InputError: when the run has no such candidate.
    """
    from rich.console import Console

    from .story import tell

    console = Console(soft_wrap=True)
    for title, text in tell(_run_of(config.run), config.id):
        console.print(visible(title), style="bold", markup=False)
        console.print(visible(text), markup=False, highlight=False)
    return 0


def _run_of(run: str) -> Path:
    folder = Path(run)
    if not (folder / SETTINGS_FILE).is_file() or not (journal_files(folder, QUERIES) or _is_of_scenarios(folder)):
        raise InputError(f"{folder} is no folder of a run: give the one that was its `--output`.")
    return folder


def _is_of_scenarios(folder: Path) -> bool:
    """Whether a folder is a run of the offline teacher that has its plan."""
    from ..scenarios.at_scale import PLAN_FILE

    return (folder / PLAN_FILE).is_file()


@contextmanager
def _finishing_at_interrupt(finish: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl+C lets what is under way come to its end; the second one stops at once."""

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("Finishing what is under way; Ctrl+C again stops at once.", file=sys.stderr)
        # Not here: the interrupted code of this thread may hold the lock that this needs.
        threading.Thread(target=finish, daemon=True).start()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(progress: Progress) -> Iterator[None]:
    """The table of the run, live in a terminal, else a line now and then."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=progress.table, console=console, refresh_per_second=2):
            yield
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(LINE_SECONDS):
            print(progress.headline(), file=sys.stderr)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        Console(stderr=True, width=LOG_WIDTH).print(progress.table())
