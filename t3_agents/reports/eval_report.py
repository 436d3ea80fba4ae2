"""The report of an evaluation: `report.html` to read everything, `report.md` for a page on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..evaluation.compare import compare_runs
from ..evaluation.published import PublishedTable, published_results
from ..evaluation.results import OUTCOMES, RESULTS_FILE, ScoredRun
from ..storage import write_atomic
from .cost_plot import draw_cost_accuracy
from .markdown import PathScrubber, inline, table
from .page import render_page, settings_of
from .tables import (
    Table,
    breakdown_tables,
    comparability_notes,
    differences_table,
    error_kinds,
    further_table,
    outcomes,
    results_table,
    usage_table,
)


REPORT_HTML, REPORT_MD, PLOT_FILE = "report.html", "report.md", "cost_accuracy.svg"
HIDDEN_QUESTIONS = ("gaia",)
"""Benchmarks that ask for their questions and answers to be kept out of what is published."""


@dataclass(frozen=True)
class ReportPaths:
    """What was written: the page, the Markdown, and the plot beside it where there was something to draw."""

    html: Path
    markdown: Path
    plot: Path | None


def write_report(
    run_folder: str | Path, compare_with: Iterable[str | Path] = (), questions: bool | None = None
) -> ReportPaths:
    """Write `report.html` and `report.md` into the folder of a scored run.

    Args:
        run_folder (`str` or `Path`): output folder of `t3 eval`.
        compare_with (`Iterable[str | Path]`, *optional*): folders of further runs of the same benchmark, shown beside
            it.
        questions (`bool`, *optional*): show task texts, files, answers and steps. By default they are hidden for GAIA,
            whose rules keep them out of what is published, and shown for the others.

    Returns:
        [`ReportPaths`]: the files.

    Raises:
        InputError: when a folder holds no scored run, or a run of another benchmark.
    """
    folder = Path(run_folder)
    folders = [folder, *map(Path, compare_with)]
    runs = read_runs(folders)
    unscored = [place for place, run in zip(folders, runs, strict=True) if run.results is None]
    if unscored:
        raise InputError(f"{unscored[0]} has no {RESULTS_FILE}: score it first with `t3 eval score {unscored[0]}`.")
    others = [run.benchmark for run in runs if run.benchmark != runs[0].benchmark]
    if others:
        raise InputError(f"A report is about one benchmark, not {runs[0].benchmark} and {others[0]}.")
    if questions is None:
        questions = runs[0].benchmark not in HIDDEN_QUESTIONS
    differences, notes = _differences(runs, folders)
    plot = draw_cost_accuracy(runs, background="white")
    paths = ReportPaths(folder / REPORT_HTML, folder / REPORT_MD, folder / PLOT_FILE if plot else None)
    write_atomic(paths.html, render_page(runs, questions, folders, differences, notes))
    if paths.plot:
        write_atomic(paths.plot, plot)
    write_atomic(paths.markdown, PathScrubber(*folders)(_markdown(runs, paths, questions, differences, notes)))
    return paths


def read_runs(folders: Sequence[Path]) -> list[ScoredRun]:
    """Read run folders; runs that have the same name are told apart by their folder.

    Raises:
        InputError: when one holds no run, or is named twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("A run cannot be compared with itself: name each folder once.")
    runs = [ScoredRun.read(folder) for folder in folders]
    names = [run.name for run in runs]
    runs = [
        replace(run, name=f"{run.name} ({folder.resolve().name})") if names.count(run.name) > 1 else run
        for run, folder in zip(runs, folders, strict=True)
    ]
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.name} #{number}") if names.count(run.name) > 1 else run
        for number, run in enumerate(runs, start=1)
    ]


def _differences(runs: Sequence[ScoredRun], folders: Sequence[Path]) -> tuple[Table | None, list[str]]:
    """Paired differences to the first run, and sentences on runs that have none."""
    compared, notes = [], []
    for run, folder in zip(runs[1:], folders[1:], strict=True):
        try:
            compared.append((run, compare_runs(folders[0], folder)))
        except InputError as error:  # other rules or other tasks: the numbers stand side by side only
            notes.append(str(error))
    return differences_table(runs[0], compared), notes


def _markdown(
    runs: Sequence[ScoredRun],
    paths: ReportPaths,
    questions: bool,
    differences: Table | None,
    notes: Sequence[str],
) -> str:
    published = published_results(runs[0].benchmark)
    sections = [
        f"# {inline(runs[0].benchmark)}: {inline(runs[0].name)}",
        _outcomes(runs),
        _results(runs, published, differences, notes),
        "\n\n".join(["## By group", *map(_table, breakdown_tables(runs))]) if breakdown_tables(runs) else "",
        _errors(runs, questions),
        _cost(runs, paths),
        f"## Trajectories\n\nEvery trajectory is in [{REPORT_HTML}]({REPORT_HTML}), one page that opens offline."
        + ("" if questions else " Questions, files, answers and steps are hidden there, as the benchmark asks."),
        _settings(runs),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(content: Table) -> str:
    rows = []
    for number, row in enumerate(content.rows):
        cells = [inline(cell) for cell in row]
        rows.append([f"**{cells[0]}**", *cells[1:]] if number in content.own and cells[0] else cells)
    return f"{inline(content.title)}:\n\n{table(map(inline, content.header), rows)}"


def _outcomes(runs: Sequence[ScoredRun]) -> str:
    lines = []
    for run in runs:
        counts = outcomes(run)
        said = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
        lines.append(f"- {inline(run.name)}: {said}")
    return "\n".join(lines)


def _results(
    runs: Sequence[ScoredRun], published: PublishedTable | None, differences: Table | None, notes: Sequence[str]
) -> str:
    said = [inline(note) for note in [*comparability_notes(runs, published), *notes]]
    tables = [_table(content) for content in (further_table(runs, published), differences) if content]
    return "\n\n".join(["## Results", _table(results_table(runs, published)), *said, *tables])


def _errors(runs: Sequence[ScoredRun], questions: bool) -> str:
    kinds = error_kinds(runs)
    if not kinds:
        return ""
    rows = []
    for kind in kinds:
        examples = []
        for score in kind.examples:
            said = f": {inline(_one_line(score.reason))}" if questions and score.reason else ""
            examples.append(f"{inline(score.task_id)}{said}")
        rows.append([inline(kind.name.replace("_", " ")), *map(str, kind.counts), "; ".join(examples)])
    header = ["error", *(inline(run.name) for run in runs), "examples"]
    return "\n\n".join(["## Errors", table(header, rows)])


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"


def _cost(runs: Sequence[ScoredRun], paths: ReportPaths) -> str:
    parts = ["## Cost", _table(usage_table(runs))]
    if paths.plot:
        parts.append(f"![Accuracy against the cost of a task, with 95 % intervals]({PLOT_FILE})")
    return "\n\n".join(parts)


def _settings(runs: Sequence[ScoredRun]) -> str:
    parts = ["## What was run"]
    for run in runs:
        rows = [[inline(name), inline(value)] for name, value in settings_of(run)]
        parts += [f"### {inline(run.name)}", table(["setting", "value"], rows)]
    return "\n\n".join(parts)
