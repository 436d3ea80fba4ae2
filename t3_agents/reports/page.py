"""Reports as pages: Markdown for the Hub, and self-contained HTML that asks nothing of any server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..errors import InputError
from ..evaluation.compare import compare_runs
from ..evaluation.results import OUTCOMES, RESULTS_FILE, Attempt, ScoredRun, task_of
from ..evaluation.run import BENCHMARKS, published_results
from ..media import data_url, encode_image
from ..storage import write_atomic
from ..task import File, Task
from ..turns import shorten
from .markdown import Markdown, PathScrubber, escape, heading, join, render
from .plots import Plot, draw_cost_accuracy
from .tables import (
    Table,
    breakdown_tables,
    comparability_notes,
    differences_table,
    error_kinds,
    errors_table,
    further_table,
    label_of,
    outcomes,
    results_table,
    settings_table,
    usage_table,
)


REPORT_HTML, REPORT_MD, PLOT_FILE = "report.html", "report.md", "cost_accuracy.svg"
MAX_TEXT = 20_000
"""Characters of one thought, code block or observation; more is cut out of its middle."""
MAX_PREVIEW = 4_000
"""Characters of a text file."""
MAX_BYTES = 16 * 2**20
"""Pictures (bytes) in one page: more would make it slow to open on a phone."""
SIDES = (800, 512, 320, 200)
"""Longest side (pixels): the first one at which all pictures fit the budget is taken."""
MAX_DRAWING_COLORS = 1024
"""A picture with more colors than that is kept as a photograph."""

_TEXT_TYPES = ("text/", "application/json", "application/jsonl", "application/xml")
Block = str | Table | Plot
Sections = Mapping[str, Sequence[Block | None]]


def markdown_page(title: object, sections: Sections) -> str:
    """A page in Markdown.

    Args:
        title (`object`): its heading.
        sections (`dict`): blocks by heading: text, which is escaped unless it is [`Markdown`], tables, and plots,
            whose files are beside the page. A section without blocks is left out; an empty heading is not shown.
    """
    parts: list[object] = [heading(title, 1)]
    for name, blocks in sections.items():
        shown = [block if isinstance(block, str) else block.markdown for block in blocks if block]
        parts += [heading(name), *shown] if name and shown else shown
    return join(*parts)


def html_page(title: str, sections: Sections) -> str:
    """The same as one HTML page, plots included, which opens offline."""
    shown = {name: [block for block in blocks if block] for name, blocks in sections.items()}
    values = {"title": title, "sections": {name: blocks for name, blocks in shown.items() if blocks}}
    return _render_html("document.html", None, **values, kind=lambda block: type(block).__name__, url=_plot_url)


def _plot_url(plot: Plot) -> str:
    return data_url(plot.content, "image/png")


def _render_html(template: str, script: str | None, **values: Any) -> str:
    """A page whose style and script are allowed by their digests, pictures as data URLs, and nothing else."""
    templates = package_files("t3_agents.reports") / "templates"
    style = (templates / "report.css").read_text(encoding="utf-8")
    code = (templates / script).read_text(encoding="utf-8") if script else ""
    policy = f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
    policy += f"script-src {_digest(code) if code else repr('none')}; base-uri 'none'; form-action 'none'"
    # Style and script are files of this package.
    values |= {"policy": policy, "style": Markup(style), "script": Markup(code)}
    return render("t3_agents.reports", template, **values)


def _digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Pictures: shrunk, drawn anew without metadata, and within a budget of bytes


def shrunk(file: File, side: int) -> Image.Image | None:
    """A picture with at most `side` pixels along its longest side, RGB; `None` when it cannot be read."""
    try:
        image = file.open_image()
    except (InputError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


@dataclass(frozen=True)
class Picture:
    """A picture in a page: its data URL and its size in pixels."""

    url: str
    width: int
    height: int


def _encode_all(files: Mapping[str, File], side: int) -> dict[str, tuple[tuple[int, int], str, bytes]]:
    """Size, format and bytes of the pictures that can be read: PNG for drawings, which have few colors, else JPEG."""
    found = {}
    for sha256, file in files.items():
        image = shrunk(file, side)
        if image is not None:
            drawn = image.getcolors(MAX_DRAWING_COLORS) is not None
            data = encode_image(image) if drawn else encode_image(image, "JPEG", quality=80)
            found[sha256] = (image.size, "png" if drawn else "jpeg", data)
    return found


class Pictures:
    """The pictures of a page by the digest of their content.

    Args:
        files (`Iterable[File]`): every picture of the page, in order of appearance; equal ones are kept once.
        max_bytes (`int`, *optional*, defaults to 16 MiB): budget. Where even the smallest size does not fit, the last
            pictures are left out.
    """

    def __init__(self, files: Iterable[File], max_bytes: int = MAX_BYTES):
        wanted = {file.sha256: file for file in files}
        encoded = _encode_all(wanted, SIDES[0])
        self.side = SIDES[0]
        for side in SIDES[1:]:
            size = sum(len(data) for _, _, data in encoded.values())
            # Bytes go with the area: a size that cannot fit is passed over without encoding it.
            if size <= max_bytes or (side != SIDES[-1] and size * (side / self.side) ** 2 > 1.5 * max_bytes):
                continue
            self.side, encoded = side, _encode_all(wanted, side)
        self.left_out: set[str] = set()
        self.shown: dict[str, Picture] = {}
        for sha256, ((width, height), kind, data) in encoded.items():
            max_bytes -= len(data)
            if max_bytes < 0:
                self.left_out.add(sha256)
                continue
            self.shown[sha256] = Picture(data_url(data, f"image/{kind}"), width, height)


# Trajectories and numbers of evaluations


@dataclass(frozen=True)
class FileView:
    """A file as the page shows it. Of equal pictures the first carries the data (`first`)."""

    path: str
    key: str
    picture: Picture | None = None
    first: bool = True
    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class Card:
    """One task and what every run did with it: `attempts` are names of runs and what they did."""

    task: Task
    number: int
    title: str
    attempts: Sequence[tuple[str, Attempt]]
    groups: Sequence[str]
    facets: str


class _Page:
    """What the template calls to show texts and files; it counts what is left out."""

    def __init__(self, runs: Sequence[ScoredRun], questions: bool, scrub: PathScrubber, max_bytes: int):
        self.runs, self.questions, self.scrub = runs, questions, scrub
        self.shortened = 0
        images = (file for run in runs for attempt in run.attempts for file in attempt.trajectory.images)
        self.pictures = Pictures(images if questions else (), max_bytes)
        self._shown: set[str] = set()

    def text(self, text: object, limit: int = MAX_TEXT) -> str:
        """Text without places of this machine and of bearable length."""
        whole = "" if text is None else str(text)
        short = shorten(whole, limit)
        self.shortened += short != whole
        return self.scrub(short)

    def cards(self) -> list[Card]:
        """One card per task, in the order of the first run that has it."""
        tasks: dict[str, list[tuple[str, Attempt]]] = {}
        for run in self.runs:
            for attempt in run.attempts:
                tasks.setdefault(attempt.trajectory.task.id, []).append((run.name, attempt))
        return [self._card(number, attempts) for number, attempts in enumerate(tasks.values(), start=1)]

    def _card(self, number: int, attempts: Sequence[tuple[str, Attempt]]) -> Card:
        task = attempts[0][1].trajectory.task
        groups = list(dict.fromkeys(group for _, attempt in attempts for group in attempt.groups))
        facets = [[run, attempt.outcome, attempt.error_type or ""] for run, attempt in attempts]
        words = " ".join(task.query.split()) if self.questions else f"task {task.id}"
        title = self.scrub(words if len(words) <= 110 else f"{words[:109]}…")
        return Card(task, number, title, attempts, groups, json.dumps({"attempts": facets, "groups": groups}))

    def file(self, file: File) -> FileView:
        """A file as it is shown at this place."""
        key = file.sha256[:16]
        if file.is_image:
            picture = self.pictures.shown.get(file.sha256)
            if picture is None:
                left_out = file.sha256 in self.pictures.left_out
                return FileView(file.path, key, note="left out for size" if left_out else "its content is not at hand")
            first = key not in self._shown
            self._shown.add(key)
            return FileView(file.path, key, picture, first)
        if not file.media_type.startswith(_TEXT_TYPES):
            return FileView(file.path, key, note=f"{file.media_type}, not shown")
        try:
            text = file.read_bytes()[: 4 * MAX_PREVIEW].decode("utf-8", errors="replace")
        except (InputError, OSError):
            return FileView(file.path, key, note="its content is not at hand")
        note = "its beginning" if len(text) > MAX_PREVIEW else ""
        return FileView(file.path, key, text=self.scrub(text[:MAX_PREVIEW]), note=note)

    def left_out(self) -> list[str]:
        """Sentences on what the page does not show, once everything is shown."""
        notes = []
        if not self.questions:
            notes.append(
                "Questions, files, answers and steps are hidden, as the benchmark asks of what is published. To read "
                "them on your own machine, run `t3 view RUN`, or write the report again with `--questions true`."
            )
        if self._shown:
            notes.append(f"Pictures are shown with at most {self.pictures.side} pixels along their longest side.")
        if self.pictures.left_out:
            notes.append(f"{len(self.pictures.left_out)} pictures are left out to keep the page small.")
        if self.shortened:
            notes.append(f"{self.shortened} long texts are shortened; each says by how much.")
        return notes


def _scores(attempt: Attempt) -> str:
    """Metrics of one task in per cent, where something was counted."""
    scores = attempt.score.to_dict()["scores"] if attempt.score else {}
    return ", ".join(f"{label_of(name)} {100 * value:.0f} %" for name, value in scores.items() if value is not None)


def _options(runs: Sequence[ScoredRun], cards: Sequence[Card]) -> dict[str, list[str]]:
    """What the filters offer; a filter with one choice is left out."""
    found = {
        "run": [run.name for run in runs],
        "outcome": [name for name in OUTCOMES if any(outcomes(run)[name] for run in runs)],
        "error": sorted({score.error_type for run in runs for score in run.scores if score.error_type}),
        "group": sorted({group for card in cards for group in card.groups}),
    }
    return {name: choices for name, choices in found.items() if len(choices) > 1 or (choices and name == "error")}


def _result_blocks(scored: Sequence[ScoredRun], differences: Table | None, notes: Sequence[str]) -> list[Block | None]:
    """Own and published results, what can be compared, further metrics, and differences."""
    published = published_results(scored[0].benchmark)
    notes = [*comparability_notes(scored, published), *notes]
    return [results_table(scored, published), *notes, further_table(scored, published), differences]


def render_page(
    runs: Sequence[ScoredRun],
    questions: bool = True,
    hide: Sequence[Path] = (),
    differences: Table | None = None,
    notes: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> str:
    """The page of one or more runs. Runs without results are shown as trajectories alone.

    Everything that came from a model, a task or a file is escaped; scripts and styles are allowed by their digests,
    pictures as data URLs, and nothing else.

    Args:
        runs (`list[ScoredRun]`): the first one is the page's subject.
        questions (`bool`, *optional*, defaults to `True`): show task texts, files and what the runs wrote.
        hide (`list[Path]`, *optional*): folders whose places are taken out of texts, as those of this machine are.
        differences ([`Table`], *optional*), notes (`list[str]`, *optional*): of a comparison, shown with the results.
        max_bytes (`int`, *optional*): budget of the pictures.

    Returns:
        `str`: HTML, with no character that UTF-8 cannot encode.
    """
    page = _Page(runs, questions, PathScrubber(*hide), max_bytes)
    cards = page.cards()
    scored = [run for run in runs if run.results is not None]
    prompts: dict[str, list[str]] = {}
    for run in runs if questions else ():
        for attempt in run.attempts[:1]:
            prompts.setdefault(page.text(attempt.trajectory.system_prompt), []).append(run.name)
    return _render_html(
        "report.html",
        "report.js",
        title=f"{runs[0].benchmark}: {runs[0].name}" if runs[0].results else runs[0].name,
        runs=runs,
        counts=[(run.name, [(name, outcomes(run)[name]) for name in OUTCOMES]) for run in runs],
        results=_result_blocks(scored, differences, [page.text(note) for note in notes]) if scored else [],
        breakdown=breakdown_tables(scored),
        errors=error_kinds(runs),
        plot=Markup(draw_cost_accuracy(scored)),  # escaped by its own template
        usage=usage_table(runs),
        cards=cards,
        # Step by step, a row of the benchmark is several tasks: its first one stands for it.
        numbers={task_of(card.attempts[0][1].trajectory): card.number for card in reversed(cards)},
        options=_options(runs, cards),
        prompts=prompts,
        questions=questions,
        settings={run.name: settings_table(run) for run in scored},
        page=page,
        scores=_scores,
    )


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
        questions (`bool`, *optional*): show task texts, files, answers and steps. By default they are hidden where the
            authors of the benchmark ask for it.

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
        questions = may_be_published(runs[0].benchmark)
    differences, notes = _differences(runs, folders)
    drawn = draw_cost_accuracy(runs, background="white")
    plot = Plot(PLOT_FILE, "Accuracy against the cost of a task, with 95 % intervals", drawn) if drawn else None
    hidden = "" if questions else " Questions, files, answers and steps are hidden there, as the benchmark asks."
    sections: dict[str, list[Block | None]] = {
        "": [Markdown("\n".join(f"- {_outcomes(run)}" for run in runs))],
        "Results": _result_blocks(runs, differences, notes),
        "By group": breakdown_tables(runs),
        "Errors": [errors_table(runs, questions)],
        "Cost": [usage_table(runs), plot],
        "Trajectories": [
            Markdown(f"Every trajectory is in [{REPORT_HTML}]({REPORT_HTML}), one page that opens offline.{hidden}")
        ],
        "What was run": [block for run in runs for block in (heading(run.name, 3), settings_table(run))],
    }
    paths = ReportPaths(folder / REPORT_HTML, folder / REPORT_MD, folder / PLOT_FILE if plot else None)
    write_atomic(paths.html, render_page(runs, questions, folders, differences, notes))
    if plot:
        plot.write(folder)
    title = f"{runs[0].benchmark}: {runs[0].name}"
    write_atomic(paths.markdown, PathScrubber(*folders)(markdown_page(title, sections)))
    return paths


def may_be_published(benchmark: str | None) -> bool:
    """Whether questions and answers may be shown; the authors of some benchmarks ask to keep them to oneself."""
    return benchmark not in BENCHMARKS or not BENCHMARKS[benchmark].is_private


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


def _outcomes(run: ScoredRun) -> str:
    counts = outcomes(run)
    return f"{escape(run.name)}: {', '.join(f'{counts[name]} {name}' for name in OUTCOMES if counts[name])}"
