"""Accuracy against tokens or money per task, drawn as SVG without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.results import ScoredRun
from .tables import label_of, usage_means
from .templating import environment


WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 20, 52
# The palette of Okabe and Ito, told apart with any colour vision; the shapes differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Point:
    """An agent in the plot: `cost` per task (tokens or money), `value` and its interval in 0..1."""

    name: str
    cost: float
    value: float
    low: float
    high: float


def points_of(runs: Sequence[ScoredRun], metric: str = "ans_acc") -> tuple[str, list[Point]]:
    """What can be drawn of these runs.

    Args:
        runs (`list[ScoredRun]`): runs with results.
        metric (`str`, *optional*, defaults to `"ans_acc"`): the vertical axis.

    Returns:
        `tuple[str, list[Point]]`: name of the horizontal axis (money where it is known of every run, else tokens), and
            the runs that have both numbers.
    """
    means = [usage_means(run) for run in runs]
    money = bool(runs) and all(mean["cost"] for mean in means)
    points = []
    for run, mean in zip(runs, means, strict=True):
        result = run.results["metrics"].get(metric)
        tokens = [mean["input_tokens"], mean["output_tokens"]]
        cost = mean["cost"] if money else (None if None in tokens else sum(tokens))
        if cost and result and result["value"] is not None:
            value = result["value"]
            low, high = (value if bound is None else bound for bound in result["ci95"])
            points.append(Point(run.name, cost, value, low, high))
    return "cost per task" if money else "tokens per task (read and written)", points


def draw_cost_accuracy(runs: Sequence[ScoredRun], metric: str = "ans_acc", background: str = "none") -> str:
    """Accuracy against the cost of a task, with 95 % intervals as whiskers.

    Args:
        runs (`list[ScoredRun]`): runs with results.
        metric (`str`, *optional*, defaults to `"ans_acc"`): the vertical axis.
        background (`str`, *optional*, defaults to `"none"`): colour behind the plot; text is in the current colour.

    Returns:
        `str`: an SVG element, or nothing when no run has both numbers.
    """
    axis, points = points_of(runs, metric)
    if not points:
        return ""
    ticks, place = _scale([point.cost for point in points])

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - value * (HEIGHT - _TOP - _BOTTOM), 1)

    marks = [
        {
            "point": point,
            "x": place(point.cost),
            "y": y(point.value),
            "low": y(point.low),
            "high": y(point.high),
            "colour": _COLOURS[index % len(_COLOURS)],
            "shape": index % 3,
            "left": place(point.cost) > WIDTH * 0.6,
        }
        for index, point in enumerate(points)
    ]
    return (
        environment()
        .get_template("plot.svg")
        .render(
            width=WIDTH,
            height=HEIGHT,
            left=_LEFT,
            right=WIDTH - _RIGHT,
            bottom=HEIGHT - _BOTTOM,
            background=background,
            axis=axis,
            metric=label_of(metric),
            marks=marks,
            x_ticks=[(place(tick), f"{tick:,.10g}") for tick in ticks],
            y_ticks=[(y(share / 100), f"{share} %") for share in range(0, 101, 20)],
        )
    )


def _scale(values: Sequence[float]):
    """Round ticks and the function from a value to its place: from zero, or by powers of ten over a wide range."""
    inner = WIDTH - _LEFT - _RIGHT
    if max(values) > 10 * min(values):
        first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return (
            [10.0**power for power in range(first, last + 1)],
            lambda value: round(_LEFT + inner * (math.log10(value) - first) / (last - first), 1),
        )
    power = 10.0 ** math.floor(math.log10(max(values)))
    step = next(size * power for size in (0.2, 0.5, 1, 2) if max(values) / (size * power) <= 6)
    top = step * math.ceil(max(values) * 1.05 / step)
    ticks = [step * number for number in range(round(top / step) + 1)]
    return ticks, lambda value: round(_LEFT + inner * value / top, 1)
