"""What the tests share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


ROOT = Path(__file__).parents[2]
"""The repository."""
DATA = ROOT / "tests" / "data"
"""Files that other programs made."""


def noise(number: int, size: tuple[int, int], spread: float = 50) -> Image.Image:
    """A gray picture of noise: the same for a number, whatever else a run draws."""
    values = np.random.default_rng(number).normal(128, spread, size[::-1])
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def in_threads(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of calls that run at the same time, each in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [result.result() for result in [pool.submit(call) for call in calls]]
