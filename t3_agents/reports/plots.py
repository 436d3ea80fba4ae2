"""The two plots of a report. matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Two colours of the palette of Okabe and Ito, told apart with any colour vision and in grey.
COLOURS = {"untuned": "#E69F00", "tuned": "#0072B2"}
HATCHES = {"untuned": "//", "tuned": ""}
LABELS = {"ans_acc": "AnsAcc", "tool_acc": "ToolAcc", "code_exec": "CodeExec"}


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "train", "The plots of a report") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib, so that the same numbers give the same bytes.
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def draw_results(results: Mapping[str, Any]) -> bytes:
    """Bars of the three metrics, untuned beside tuned, with 95 % intervals as whiskers; one panel per split.

    Args:
        results (`dict`): the content of `report.json`.

    Returns:
        `bytes`: a PNG file.
    """
    figure = _figure(9.2, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, split in zip(panels, ("seen", "unseen"), strict=True):
        for side, run in enumerate(("untuned", "tuned")):
            scores = results[run][split]
            for place, metric in enumerate(LABELS):
                x = place + (side - 0.5) * 0.4
                value = scores[metric]
                if value is None:
                    axes.text(x, 0.02, "n/a", ha="center", va="bottom", fontsize=9, color="#555555")
                    continue
                low, high = scores["ci95"][metric]
                # Rounded bounds may lie a hair inside the rounded value.
                whisker = [[max(0.0, value - low)], [max(0.0, high - value)]]
                style = {"color": COLOURS[run], "hatch": HATCHES[run], "edgecolor": "white", "linewidth": 0}
                axes.bar(x, value, width=0.38, **style, label=run if place == 0 else None)
                axes.errorbar(x, value, yerr=whisker, color="#222222", capsize=4, linewidth=1.2)
                axes.text(x, max(high, value) + 0.02, f"{value:.2f}", ha="center", va="bottom", fontsize=9)
        axes.set_xticks(range(len(LABELS)), LABELS.values())
        axes.set_xlim(-0.6, len(LABELS) - 0.4)
        axes.set_title(f"{split} families (tasks: {results['untuned'][split]['n']})", fontsize=11)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.yaxis.grid(True, color="#dddddd", linewidth=0.8)
        _tidy(axes)
    panels[0].set_ylabel("share, with 95 % interval")
    _legend(figure)
    return _png(figure)


def draw_families(families: Sequence[Mapping[str, Any]]) -> bytes:
    """Share of right answers per family, untuned beside tuned.

    Args:
        families (`list[dict]`): in the order of the plot, each with `name`, `unseen`, and for `untuned` and `tuned` a
            pair of right answers and tasks.

    Returns:
        `bytes`: a PNG file.
    """
    figure = _figure(9.2, max(2.4, 1.2 + 0.52 * len(families)))
    axes = figure.subplots()
    for place, family in enumerate(families):
        for side, run in enumerate(("untuned", "tuned")):
            right, n = family[run]
            y = place + (side - 0.5) * 0.38
            value = right / n if n else math.nan
            style = {"color": COLOURS[run], "hatch": HATCHES[run], "edgecolor": "white", "linewidth": 0}
            axes.barh(y, 0 if math.isnan(value) else value, height=0.36, **style)
            label = f"{right} of {n}" if n else "not run"
            axes.text((0 if math.isnan(value) else value) + 0.012, y, label, va="center", fontsize=8)
    names = [_short(family["name"]) + (" (unseen)" if family["unseen"] else "") for family in families]
    axes.set_yticks(range(len(families)), names)
    for label in axes.get_yticklabels():
        # A name may hold a dollar sign, which would start a formula.
        label.set_parse_math(False)
    axes.set_ylim(len(families) - 0.4, -0.6)
    axes.set_xlim(0, 1.14)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.xaxis.grid(True, color="#dddddd", linewidth=0.8)
    axes.set_xlabel("AnsAcc: share of right answers")
    _tidy(axes)
    _legend(figure)
    return _png(figure)


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=COLOURS[run], hatch=HATCHES[run], edgecolor="white", label=run) for run in COLOURS]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)


def _short(name: str) -> str:
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= 34 else name[:33] + "…"
