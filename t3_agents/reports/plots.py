"""Every plot of the reports and cards, in one style. matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import needs_extra
from ..evaluation.published import Distribution
from ..evaluation.results import ScoredRun
from ..storage import write_atomic
from .markdown import Markdown, escape, render
from .tables import label_of, usage_means


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, told apart with any color vision; bars of the second color are hatched too.
PALETTE = BLUE, ORANGE, GREEN, PINK, RED, SKY = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MAX_BARS = 16
_MAX_NAME = 34


@dataclass(frozen=True)
class Plot:
    """A plot of a page: name of its file, what it shows, and the file's content, PNG or SVG."""

    name: str
    caption: str
    content: bytes | str

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_atomic(folder / self.name, self.content)

    @property
    def markdown(self) -> Markdown:
        return Markdown(f"![{escape(self.caption)}]({self.name})")


@dataclass(frozen=True)
class Series:
    """Numbers of one kind in a plot.

    Args:
        label (`str`): entry of the legend.
        values (`list[float]`): bar lengths, or heights of points; `None` where there is none.
        at (`list[float]`, *optional*): places of the points; of a bar, its name says the place.
        bounds (`list[tuple[float, float]]`, *optional*): intervals around the values.
        texts (`list[str]`, *optional*): what is written beside the bars.
        color (`str`, *optional*): one of the palette.
    """

    label: str
    values: Sequence[float | None]
    at: Sequence[float] = ()
    bounds: Sequence[Sequence[float | None]] | None = None
    texts: Sequence[str] = ()
    color: str = BLUE

    def whiskers(self) -> list[list[float]] | None:
        """Lengths of the intervals below and above the values; a rounded bound may lie a hair inside its value."""
        if self.bounds is None:
            return None
        pairs = [
            (0.0, 0.0) if None in (value, low, high) else (max(0.0, value - low), max(0.0, high - value))
            for value, (low, high) in zip(self.values, self.bounds, strict=True)
        ]
        return [list(side) for side in zip(*pairs, strict=True)]


def _figure(height: float, panels: tuple[int, int] = (1, 1), **options: Any) -> tuple[Figure, list[Axes]]:
    with needs_extra("matplotlib", "train", "A plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    # Not pyplot: it keeps every figure and picks a window system.
    figure = Figure(figsize=(9.2 if panels[1] > 1 else 7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(*panels, squeeze=False, **options).flat)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib, so that the same numbers give the same bytes.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def draw_bars(
    panels: Mapping[str, tuple[Sequence[str], Sequence[Series]]], axis: str, top: float | None = None
) -> bytes:
    """Horizontal bars, those of one name below each other; a panel for each title.

    Args:
        panels (`dict`): names and series by title, the same names in all of them.
        axis (`str`): what the length of a bar is.
        top (`float`, *optional*): length of the longest bar that there can be.

    Returns:
        `bytes`: a PNG file.
    """
    most = max((len(names) * len(series) for names, series in panels.values()), default=0)
    figure, axes = _figure(max(2.2, 1.3 + 0.25 * most), (1, len(panels)), sharey=True)
    for each, (title, (names, series)) in zip(axes, panels.items(), strict=True):
        height = 0.8 / len(series)
        for number, one in enumerate(series):
            places = [place + (number - (len(series) - 1) / 2) * height for place in range(len(names))]
            values = [value or 0.0 for value in one.values]
            hatch = "//" if one.color == ORANGE else ""
            style = {"label": one.label, "color": one.color, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            whiskers = one.whiskers()
            each.barh(places, values, height=0.94 * height, xerr=whiskers, capsize=3, ecolor="#222222", **style)
            for place, value, more, text in zip(
                places, values, whiskers[1] if whiskers else [0.0] * len(values), one.texts, strict=True
            ):
                each.annotate(text, (value + more, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        # Names come from the data: a dollar sign in them is no formula.
        each.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
        each.set_ylim(len(names) - 0.4, -0.6)
        each.margins(x=0.15)
        if top is not None:
            each.set(xlim=(0, 1.18 * top), xticks=[top * share / 5 for share in range(6)])
        each.xaxis.grid(True, color="#dddddd", linewidth=0.8)
        each.set_xlabel(axis)
        each.set_title(title, loc="left", fontsize=11)
    if most and len(series) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(series), frameon=False)
    return _png(figure)


def draw_shares(found: Distribution, label: str = "this dataset") -> bytes:
    """Bars of the shares of a dataset beside those of the paper's MM-Traj, as a PNG file."""
    names = found.names[:MAX_BARS]
    series = [
        Series(label, shares, texts=[f"{share:.1f}" for share in shares], color=color)
        for label, color, shares in (
            (label, BLUE, [found.here.get(name, 0.0) for name in names]),
            ("MM-Traj (paper)", ORANGE, [found.paper.get(name, 0.0) for name in names]),
        )
    ]
    more = len(found.names) - len(names)
    return draw_bars({found.title: (names, series)}, "share (%)" + (f"; {more} more are not shown" if more else ""))


def draw_lines(panels: Mapping[str, Sequence[Series]], axis: str, start_at_zero: Sequence[str] = ()) -> bytes:
    """Lines over a common horizontal axis, one panel below the other.

    Args:
        panels (`dict`): series by what their height is.
        axis (`str`): the horizontal axis.
        start_at_zero (`list[str]`, *optional*): panels whose vertical axis begins at zero.

    Returns:
        `bytes`: a PNG file.
    """
    figure, axes = _figure(max(3.6, 2.3 * len(panels)), (len(panels), 1), sharex=True)
    for each, (height, series) in zip(axes, panels.items(), strict=True):
        for one in series:
            few = "o-" if len(one.values) <= 30 else "-"
            values = [math.nan if value is None else value for value in one.values]
            style = {"color": one.color, "label": one.label, "markersize": 4}
            each.errorbar(one.at, values, yerr=one.whiskers(), fmt=few, ecolor="#555555", capsize=4, **style)
        each.set_ylabel(height)
        if height in start_at_zero:
            each.set_ylim(0, None)
        each.grid(color="#dddddd", linewidth=0.8)
        if len(series) > 1:
            each.legend(frameon=False)
    axes[-1].set_xlabel(axis)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def _short(name: str) -> str:
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"


# Accuracy against cost: SVG without a plotting library, since evaluations do not need one.

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 20, 52


@dataclass(frozen=True)
class Point:
    """An agent in the plot: `cost` per task (tokens or money), `value` and its interval in 0..1."""

    name: str
    cost: float
    value: float
    low: float
    high: float


def points_of(runs: Sequence[ScoredRun]) -> tuple[str, list[Point]]:
    """What can be drawn of these runs.

    Args:
        runs (`list[ScoredRun]`): runs with results.

    Returns:
        `tuple[str, list[Point]]`: name of the horizontal axis (money where it is known of every run, else tokens), and
            the runs that have both numbers.
    """
    means = [usage_means(run) for run in runs]
    money = bool(runs) and all(mean["cost"] for mean in means)
    points = []
    for run, mean in zip(runs, means, strict=True):
        result = run.results["metrics"].get("ans_acc")
        tokens = [mean["input_tokens"], mean["output_tokens"]]
        cost = mean["cost"] if money else (None if None in tokens else sum(tokens))
        if cost and result and result["value"] is not None:
            value = result["value"]
            low, high = (value if bound is None else bound for bound in result["ci95"])
            points.append(Point(run.name, cost, value, low, high))
    return "cost per task" if money else "tokens per task (read and written)", points


def draw_cost_accuracy(runs: Sequence[ScoredRun], background: str = "none") -> str:
    """Accuracy against the cost of a task, with 95 % intervals as whiskers.

    Args:
        runs (`list[ScoredRun]`): runs with results.
        background (`str`, *optional*, defaults to `"none"`): color behind the plot; text is in the current color.

    Returns:
        `str`: an SVG element, or nothing when no run has both numbers.
    """
    axis, points = points_of(runs)
    if not points:
        return ""
    ticks, x = _scale([point.cost for point in points])

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - value * (HEIGHT - _TOP - _BOTTOM), 1)

    return render(
        "t3_agents.reports",
        "plot.svg",
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        bottom=HEIGHT - _BOTTOM,
        background=background,
        axis=axis,
        metric=label_of("ans_acc"),
        points=points,
        palette=PALETTE,
        x=x,
        y=y,
        ticks=ticks,
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
