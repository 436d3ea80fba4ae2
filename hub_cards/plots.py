"""Plots for cards. Each takes plain numbers and writes a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any


# Two of the colours of Okabe and Ito, which readers with any colour vision tell apart.
COLOURS = ("#0072B2", "#E69F00")
MAX_BARS = 16


def plot_shares(path: Path, title: str, here: dict[str, float], paper: dict[str, float], paper_label: str) -> Path:
    """Horizontal bars: shares of this dataset beside those of a paper.

    Args:
        path (`Path`): the PNG to write.
        title (`str`): title of the plot.
        here (`dict[str, float]`): share by name, per cent.
        paper (`dict[str, float]`): the same of the paper; empty when there is nothing to compare with.
        paper_label (`str`): legend entry of the paper's bars.

    Raises:
        ImportError: when matplotlib is missing.
    """
    names = [*here, *(name for name in paper if name not in here)]
    left_out = len(names) - MAX_BARS
    names = names[:MAX_BARS]
    figure, axes = _new_figure(max(2.2, 0.42 * len(names) + 1.2))
    series = [("this dataset", here, COLOURS[0])] + ([(paper_label, paper, COLOURS[1])] if paper else [])
    height = 0.8 / len(series)
    for number, (label, shares, colour) in enumerate(series):
        values = [shares.get(name, 0.0) for name in names]
        places = [place + (number - (len(series) - 1) / 2) * height for place in range(len(names))]
        bars = axes.barh(places, values, height=height, label=label, color=colour)
        axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=2, fontsize=8)
    labels = ["".join(c for c in name if c.isprintable()) for name in names]
    labels = [name if len(name) <= 32 else f"{name[:31]}…" for name in labels]
    # Names come from the data: a dollar sign in them is no formula.
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("share (%)" + (f"; {left_out} more are not shown" if left_out > 0 else ""))
    axes.set_title(title, loc="left", fontsize=11)
    if len(series) > 1:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No software version in the file: the same numbers give the same picture.
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path


def _new_figure(height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("Plots need `matplotlib`: run `pip install matplotlib`.") from None
    # Not pyplot: it keeps every figure and picks a window system.
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
