"""Where models run: the accelerator, or how many threads of the processor."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress

from ..hub.wheel_weights import cache_dir
from ..storage import write_atomic


_DAY = 24 * 60 * 60


def num_cores() -> int:
    """CPU cores that this process may use; where the system does not say it (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_device() -> str:
    """The accelerator of this machine, by torch's own choice, or `cpu`."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return str(accelerator) if accelerator else "cpu"


def use_fastest_num_threads() -> int:
    """Give torch the number of CPU threads that is fastest; `OMP_NUM_THREADS` overrides it.

    On cores that are shared with other work, threads that wait for each other can be slower than one alone. It is
    measured once a day on each machine, and kept in the cache folder.

    Returns:
        `int`: the number of threads.
    """
    import torch

    if torch.cuda.is_available():
        return torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        best = max(1, int(os.environ["OMP_NUM_THREADS"]))
    else:
        kept = cache_dir() / f"threads-{platform.node()}-{num_cores()}-{torch.__version__}"
        if kept.is_file() and time.time() - kept.stat().st_mtime < _DAY and kept.read_text().isdigit():
            best = int(kept.read_text())
        else:
            best = _measure_num_threads()
            with suppress(OSError):  # a cache that cannot be written
                write_atomic(kept, str(best))
    torch.set_num_threads(best)
    return best


def _measure_num_threads() -> int:
    import torch

    most = num_cores()
    # Products of the size that a prompt or a training batch has in a small model; the best of several turns counts.
    left, right = torch.randn(512, 576), torch.randn(576, 1536)
    fastest: dict[int, float] = {}
    for number in [1, max(1, most // 2), most] * 4:
        torch.set_num_threads(number)
        start = time.perf_counter()
        for _ in range(10):
            left @ right
        seconds = time.perf_counter() - start
        fastest[number] = min(seconds, fastest.get(number, seconds))
    return min(fastest, key=fastest.__getitem__)
