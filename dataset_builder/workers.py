"""Jobs in worker processes that report every finished row, stop between rows and end with their parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from queue import Empty
from typing import Any

from t3_agents.errors import InputError, MissingExtraError


def run_jobs(
    work: Callable[[Any, Callable[[], None]], None], jobs: Sequence[Any], num_workers: int, on_row: Callable[[], None]
) -> None:
    """Do all jobs, in this process or in several.

    An interrupt (Ctrl-C) lets every worker finish its row.

    Args:
        work (`Callable`): a function of a module, called with a job and a function that it calls after each row.
        jobs (`Sequence`): what travels to a worker, the longest first.
        num_workers (`int`): processes; 1 works in this one.
        on_row (`Callable`): called here after each row.

    Raises:
        InputError: when an optional package is missing in a worker.
    """
    if num_workers == 1:

        def on_own_row() -> None:
            _return_freed_memory()
            on_row()

        for job in jobs:
            work(job, on_own_row)
        return
    context = multiprocessing.get_context("spawn")
    rows, stop = context.Queue(), context.Event()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    # OCR starts a thread for every core that its process may use; with a core for each worker they do not get in each
    # other's way.
    shares = context.Queue()
    for number in range(num_workers):
        shares.put([cores[number % len(cores)]] if num_workers >= len(cores) else cores)
    with ProcessPoolExecutor(min(num_workers, len(jobs)), context, _start_worker, (rows, stop, shares)) as pool:
        running: set[Future[None]] = {pool.submit(_work, work, job) for job in jobs}
        try:
            while running:
                finished, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for job in finished:
                    job.result()
                _drain(rows, on_row)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        _drain(rows, on_row)


def _drain(rows: Any, on_row: Callable[[], None]) -> None:
    while True:
        try:
            rows.get_nowait()
        except Empty:
            return
        on_row()


# Set in worker processes only.
_rows: Any = None
_stop: Any = None


def _start_worker(rows: Any, stop: Any, shares: Any) -> None:
    global _rows, _stop
    _rows, _stop = rows, stop
    # The parent gets the Ctrl-C of a terminal too, and says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share = shares.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this a worker goes on writing after its parent was killed, and the next start finds its shard in use."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(work: Callable[[Any, Callable[[], None]], None], job: Any) -> None:
    def on_row() -> None:
        _return_freed_memory()
        _rows.put(None)
        if _stop.is_set():
            raise InterruptedError("The run was stopped.")

    try:
        work(job, on_row)
    except MissingExtraError as error:
        # Its constructor takes other arguments than its message, so it does not travel between processes.
        raise InputError(str(error)) from None


def _return_freed_memory() -> None:
    """Glibc keeps what was freed between blocks in use: 100 to 200 MB after hundreds of rows with pictures."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
