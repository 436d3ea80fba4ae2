"""Where models run: the accelerator, or how many threads of the processor."""

from __future__ import annotations

import os
import time


def best_device() -> str:
    """The accelerator of this machine, by torch's own choice, or `cpu`."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return str(accelerator) if accelerator else "cpu"


def use_fastest_num_threads() -> int:
    """Give torch the number of CPU threads that is fastest right now; `OMP_NUM_THREADS` overrides it.

    On cores that are shared with other work, threads that wait for each other can be slower than one alone.

    Returns:
        `int`: the number of threads.
    """
    import torch

    if torch.cuda.is_available():
        return torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        torch.set_num_threads(max(1, int(os.environ["OMP_NUM_THREADS"])))
        return torch.get_num_threads()
    most = len(os.sched_getaffinity(0))
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
    best = min(fastest, key=fastest.__getitem__)
    torch.set_num_threads(best)
    return best
