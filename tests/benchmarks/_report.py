"""What the scripts of this folder share: options, the machine, rounds, the peak of memory, the file of results."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any


ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.argv[0]).resolve()


def make_parser(doc: str | None, controller: bool = False, rounds: str = "", threads: bool = False) -> Any:
    """A parser with the options that several scripts have.

    Args:
        doc: docstring of the script.
        controller: whether the model can be chosen.
        rounds: what is measured in each round, where there are rounds.
        threads: whether the number of torch threads can be chosen.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=SCRIPT.parent / "results" / f"{SCRIPT.stem}.json")
    if controller:
        parser.add_argument("--controller", default="embedded", help="name or folder of the model")
    if rounds:
        parser.add_argument("--rounds", type=int, default=3, help=f"times that {rounds} measured")
        parser.add_argument("--seconds", type=float, help="time for the rounds; the first one always runs")
    if threads:
        parser.add_argument("--threads", type=int, help="torch threads; the fastest number by default")
    return parser


def use_threads(number: int | None) -> None:
    import torch

    from t3_agents.models.device import use_fastest_num_threads

    if number:
        torch.set_num_threads(number)
    else:
        use_fastest_num_threads()


def rounds_of(options: argparse.Namespace) -> Iterator[int]:
    """Numbers of the rounds, from 0; a round is started when it can be expected to end in time."""
    start, done = time.perf_counter(), 0
    while not done or (done < options.rounds and (time.perf_counter() - start) * (done + 1) / done <= options.seconds):
        yield done
        done += 1


def reset_peak() -> int:
    """Let Linux start a new maximum of the resident memory; gives the memory (bytes) in use now."""
    # What was freed goes back first, else a variant hides in the room that the one before it has left.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def machine(**more: Any) -> dict[str, Any]:
    """What the numbers are measured on, and its load now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30,
        "kernel": platform.release(),
        **more,
        "load": load(),
    }


def write_record(
    output: Path,
    argv: list[str],
    summary: dict[str, Any],
    details: dict[str, Any],
    before: dict[str, Any],
    packages: tuple[str, ...],
) -> int:
    """Write the file of results and print the summary as the last line.

    Args:
        output: the file.
        argv: arguments of the script.
        summary: the figures.
        details: what they were computed from.
        before: [`machine`] before the measurement.
        packages: distributions whose versions matter.
    """
    record = {
        **summary,
        **details,
        "command": " ".join(["python", str(SCRIPT.relative_to(ROOT)), *argv]),
        "machine": {**before, "load_after": load()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(summary))
    return 0
