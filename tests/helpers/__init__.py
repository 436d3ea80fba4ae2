"""What the tests share."""

import io
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image


ROOT = Path(__file__).parents[2]
"""The repository."""
DATA = ROOT / "tests" / "data"
"""Files that other programs made."""


def png(color: Any = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    """The content of a picture of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def noise(number: int, size: tuple[int, int], spread: float = 50) -> Image.Image:
    """A gray picture of noise: the same for a number, whatever else a run draws."""
    values = np.random.default_rng(number).normal(128, spread, size[::-1])
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def kill_when(process: subprocess.Popen, condition: Callable[[], Any], with_children: bool = False) -> None:
    """Kill a process, of which only `stderr` is read, as soon as a condition holds."""
    deadline = time.monotonic() + 1200
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.0005)
    for child in psutil.Process(process.pid).children(recursive=True) if with_children else []:
        child.kill()
    process.kill()
    process.communicate()


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of calls that run at the same time, each in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [result.result() for result in [pool.submit(call) for call in calls]]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for_page(process: subprocess.Popen, url: str) -> bytes:
    """What a server that is starting answers when it is there."""
    deadline = time.monotonic() + 600
    while True:
        try:
            return urllib.request.urlopen(url, timeout=30).read()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
