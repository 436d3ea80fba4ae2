"""The report of a tuning run: `report.json`, `report.md`, two plots and the pictures that the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.scenarios import METRICS, score
from ..media import encode_image
from ..storage import write_atomic
from ..task import File
from ..trajectory import Trajectory
from ..verifiers import is_correct
from . import FAMILIES_FILE, QUICKSTART_FILE
from .markdown import Markdown, PathScrubber, escape, fenced, render, table
from .page import shrunk
from .plots import BLUE, ORANGE, Plot, Series, draw_bars
from .tables import NOTHING, Table, label_of, print_tables


REPORT_MD = "report.md"
FILES_FOLDER = "report_files"
MAX_SIDE = 800
"""Longest side (pixels) of a picture in the report."""

Runs = Mapping[str, Mapping[str, Sequence[Trajectory]]]

_RUNS, _SPLITS, _VISION = ("untuned", "tuned"), ("seen", "unseen"), {"images": "as they are", "blanked": "blanked"}
_COLORS = dict(zip(_RUNS, (ORANGE, BLUE), strict=True))
# Content that a browser would run when the copy is opened.
_ACTIVE = (".html", ".htm", ".xhtml", ".xml", ".svg", ".js", ".mjs")


def build_results(
    runs: Runs,
    vision: Mapping[str, Sequence[Trajectory]],
    stage_seconds: Mapping[str, float],
    seed: int,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Score trajectories and put together what `report.json` holds, rounded as it is printed.

    Args:
        runs (`dict`): trajectories by `untuned` and `tuned`, then by `seen` and `unseen` families.
        vision (`dict`): trajectories of the same tasks by `images` and `blanked` (every picture replaced by a plain
            one).
        stage_seconds (`dict`): wall-clock seconds by stage.
        seed (`int`): seed of the run.
        versions (`dict`): versions by package.
    """
    results = {run: {split: _rounded(score(runs[run][split])) for split in _SPLITS} for run in _RUNS}
    results["vision"] = {name: _rounded(score(vision[name])) for name in _VISION}
    results["stage_seconds"] = {stage: round(seconds, 1) for stage, seconds in stage_seconds.items()}
    return {**results, "seed": seed, "versions": dict(versions)}


def _rounded(scores: dict[str, Any]) -> dict[str, Any]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        **scores,
        **{metric: short(scores[metric]) for metric in METRICS},
        "ci95": {metric: [short(bound) for bound in scores["ci95"][metric]] for metric in METRICS},
    }


def write_report(output: str | Path, results: dict[str, Any], runs: Runs, description: str = "") -> None:
    """Write the report of a run into a folder.

    `report.json` is `results`. `report.md` shows the same numbers, two plots (`results.png`, `families.png`) and three
    complete trajectories of the tuned controller: the first right one (with a picture where there is one), the first
    wrong one, and the first of an unseen family. Pictures and files of these are copied to `report_files/`.

    Args:
        output (`str` or `Path`): the folder, made when missing.
        results (`dict`): see [`build_results`].
        runs (`dict`): the trajectories behind them, by run and split. The family of a task is `origin["family"]`.
        description (`str`, *optional*): one paragraph on what was run.

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    families = _families(runs)
    plots = [_plot_of_results(results), _plot_of_families(families)]
    named = {split: [family for place, family in families if place == split] for split in _SPLITS}
    tasks = [[split, results["tuned"][split]["n"], ", ".join(named[split]) or NOTHING] for split in _SPLITS]
    times = results["stage_seconds"].items()
    page = render(
        "t3_agents.reports",
        "quickstart.md",
        description=description,
        results=results,
        tasks=table(["tasks", "n", "families"], tasks),
        controllers=table(["run", "controller"], [[run, _controllers(runs, run) or NOTHING] for run in _RUNS]),
        versions=table(["package", "version"], results["versions"].items()),
        comparison=_comparison(results).markdown,
        plots=plots,
        vision=_vision(results).markdown,
        times=table(["stage", "seconds"], times, right=1) if times else None,
        chosen=choose_trajectories(runs),
        family_of=family_of,
        is_correct=is_correct,
        fenced=fenced,
        link=partial(_link, folder),
    )
    for plot in plots:
        plot.write(folder)
    write_atomic(folder / REPORT_MD, PathScrubber(folder)(page))
    write_atomic(folder / QUICKSTART_FILE, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def family_of(trajectory: Trajectory) -> str:
    """The scenario family of a task, as its origin names it."""
    return str(trajectory.task.origin.get("family", "no family"))


def _families(runs: Runs) -> dict[tuple[str, str], dict[str, list[int]]]:
    """Right answers and tasks with a known answer by split and family: seen families first, in order of appearance."""
    families: dict[tuple[str, str], dict[str, list[int]]] = {}
    for split in _SPLITS:
        for run in _RUNS:
            for trajectory in runs[run][split]:
                counts = families.setdefault((split, family_of(trajectory)), {run: [0, 0] for run in _RUNS})[run]
                correct = is_correct(trajectory)
                counts[0] += bool(correct)
                counts[1] += correct is not None
    return families


def _plot_of_results(results: Mapping[str, Any]) -> Plot:
    """The three metrics, untuned beside tuned, one panel for each split."""

    def series(run: str, split: str) -> Series:
        scores = results[run][split]
        values = [scores[metric] for metric in METRICS]
        texts = ["n/a" if value is None else f"{value:.2f}" for value in values]
        bounds = [scores["ci95"][metric] for metric in METRICS]
        return Series(run, values, bounds=bounds, texts=texts, color=_COLORS[run])

    names = list(map(label_of, METRICS))
    panels = {
        f"{split} families (tasks: {results['tuned'][split]['n']})": (names, [series(run, split) for run in _RUNS])
        for split in _SPLITS
    }
    caption = "Bars of AnsAcc, ToolAcc and CodeExec, untuned beside tuned, for seen and unseen families"
    return Plot("results.png", caption, draw_bars(panels, "share, with 95 % interval", top=1))


def _plot_of_families(families: Mapping[tuple[str, str], Mapping[str, Sequence[int]]]) -> Plot:
    """Share of right answers by family, untuned beside tuned."""
    series = [
        Series(
            run,
            [counts[run][0] / counts[run][1] if counts[run][1] else None for counts in families.values()],
            texts=["{} of {}".format(*counts[run]) if counts[run][1] else "not run" for counts in families.values()],
            color=_COLORS[run],
        )
        for run in _RUNS
    ]
    names = [f"{family} (unseen)" if split == "unseen" else family for split, family in families]
    drawn = draw_bars({"": (names, series)}, "AnsAcc: share of right answers", top=1)
    return Plot(FAMILIES_FILE, "Bars of AnsAcc per family, untuned beside tuned", drawn)


def _cells(scores: Mapping[str, Any], metric: str, digits: int | None = None) -> tuple[str, str]:
    """A share with its interval, and of how many; rounded to `digits` where they are given."""
    count = str(scores.get("counts", {}).get(metric, scores["n"]))
    if scores[metric] is None:
        return NOTHING, count
    numbers = (scores[metric], *scores["ci95"][metric])
    value, low, high = (number if digits is None else f"{number:.{digits}f}" for number in numbers)
    return f"{value} ({low} to {high})", count


def _comparison(results: Mapping[str, Any], digits: int | None = None) -> Table:
    rows = []
    for split in _SPLITS:
        for metric in METRICS:
            cells = [_cells(results[run][split], metric, digits) for run in _RUNS]
            rows.append([split, label_of(metric), *cells[0], *cells[1]])
    interval = "" if digits else " (95 % interval)"
    return Table("", ["families", "metric", f"untuned{interval}", "n", f"tuned{interval}", "n"], rows)


def _vision(results: Mapping[str, Any], digits: int | None = None) -> Table:
    rows = [[label, *_cells(results["vision"][name], "tool_acc", digits)] for name, label in _VISION.items()]
    return Table("", ["pictures", "ToolAcc (95 % interval)", "n"], rows)


def _controllers(runs: Runs, run: str) -> str:
    """Names of controllers; of one that was loaded from a folder only the folder's name."""
    names = [t.provenance.get("controller") for split in _SPLITS for t in runs[run][split]]
    names = [name for name in names if isinstance(name, str) and name]
    return ", ".join(dict.fromkeys(Path(name).name if Path(name).is_absolute() else name for name in names))


def choose_trajectories(runs: Runs) -> list[tuple[str, Trajectory | None, str]]:
    """The trajectories that a report shows, the same for the same runs.

    Returns:
        `list[tuple]`: three titles, each with a trajectory or `None`, and what to say where there is none of that
            kind.
    """
    seen, unseen = runs["tuned"]["seen"], runs["tuned"]["unseen"]
    right = [t for t in [*seen, *unseen] if is_correct(t)]
    success = next((t for t in right if t.images), right[0] if right else None)
    failure = next((t for t in [*seen, *unseen] if is_correct(t) is False), None)
    shown = [t.task.id for t in (success, failure) if t]
    other = next((t for t in unseen if t.task.id not in shown), next(iter(unseen), None))
    return [
        ("A success", success, "No task was answered right."),
        ("A failure", failure, "There is no failure: every task with a known answer was answered right."),
        ("An unseen family", other, "No task of an unseen family was run."),
    ]


def _link(folder: Path, file: File) -> Markdown:
    """A picture to look at, or a link to a copy of another file, which is written beside the page."""
    name = escape(file.path)
    suffix = Path(file.path).suffix.lower()
    suffix = ".txt" if suffix in _ACTIVE or not re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else suffix
    # A picture is drawn anew: no metadata, a format that every browser shows, and a size that fits the page.
    image = shrunk(file, MAX_SIDE) if file.is_image else None
    try:
        data = encode_image(image) if image else None if file.is_image else file.read_bytes()
    except (InputError, OSError):
        data = None
    if data is None:
        return Markdown(f"{name} (its content is not at hand)")
    place = f"{FILES_FOLDER}/{file.sha256[:16]}{'.png' if image else suffix}"
    write_atomic(folder / place, data)
    return Markdown(f"{name}\n\n![{name}]({place})" if image else f"[{name}]({place})")


def print_table(results: dict[str, Any], console: Any = None) -> None:
    """Print untuned beside tuned on the terminal.

    Args:
        results (`dict`): see [`build_results`].
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    print_tables(_comparison(results, digits=2), _vision(results, digits=2), console=console)
