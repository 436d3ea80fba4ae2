"""The report of a run: what was kept, why the rest was not, what it cost, and the paper's figures beside ours."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from t3_agents.media import data_url
from t3_agents.storage import read_rows, write_atomic

from .config import SynthConfig
from .progress import Progress
from .run_folder import KEPT, QUERIES, finished_rows, journal_files, read_queries


if TYPE_CHECKING:
    from .contamination import Contamination

REPORT = "report"
PAPER = "MM-Traj (paper)"
TOP = 15
"""Reasons that are listed."""
_VALUE = re.compile(r"\d+(?:\.\d+)?|`[^`]*`|'[^']*'|\"[^\"]*\"")


@dataclass
class Counts:
    """What the rows of a run hold.

    Args:
        outcomes (`Counter`): candidates by outcome.
        file_types (`Counter`), tools (`Counter`), domains (`Counter`), steps (`Counter`): of kept rows: files by type,
            calls by tool, rows by domain and by number of steps.
        stages (`Counter`): dropped candidates by stage and outcome.
        reasons (`Counter`): dropped candidates by stage and reason, values left out.
        batches (`Counter`): batches without queries by reason.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    file_types: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: str, row: dict[str, Any]) -> None:
        """Count a row of [`~dataset_builder.synthesis.run_folder.finished_rows`]."""
        self.outcomes[outcome] += 1
        if outcome != KEPT:
            self.stages[f"{row['stage']} ({outcome})"] += 1
            self.reasons.update(_VALUE.sub("…", reason)[:160] for reason in row["reasons"])
            return
        actions = [step for step in row["steps"] if step["kind"] == "action"]
        self.file_types.update(_file_type(file["path"]) for file in row["task"]["files"])
        self.tools.update(tool for step in actions for tool in step["tools"] if tool != "final_answer")
        self.domains[row["task"]["domain"] or "others"] += 1
        self.steps[str(len(actions))] += 1


@dataclass(frozen=True)
class Comparison:
    """One axis of the kept rows beside the paper's: shares in per cent, and the total variation distance."""

    title: str
    here: dict[str, float]
    paper: dict[str, float]
    distance: float | None


def write_report(folder: Path, config: SynthConfig, progress: Progress) -> Path:
    """Write `report/` of a run: `report.html` (one page that needs no network), `report.md`, `report.json`, plots.

    Args:
        folder (`Path`): folder of the run.
        config ([`SynthConfig`]): its settings.
        progress ([`Progress`]): its counts by stage.

    Returns:
        `Path`: the page.

    Raises:
        MissingExtraError: when a package of the extra `synthesis` is missing.
    """
    from t3_agents.reports.templating import environment

    counts = Counts()
    for outcome, row in finished_rows(folder):
        counts.add(outcome, row)
    for path in journal_files(folder, QUERIES):
        reasons = [row["failure"] for row in read_rows(path) if row["failure"]]
        counts.batches.update(_VALUE.sub("…", reason)[:160] for reason in reasons)
    comparisons = compare(counts)
    contamination = _contamination(folder, config)
    target = folder / REPORT
    plots = _plot(target, comparisons, counts)
    values = {
        "config": config,
        "headline": headline(counts, config.num_tasks),
        "stages": stage_rows(progress),
        "reasons": counts.reasons.most_common(TOP),
        "batches": counts.batches.most_common(TOP),
        "comparisons": comparisons,
        "contamination": contamination,
    }
    record = {
        "format": "t3-synthesis-report/1",
        "settings": config.settings(),
        "num_tasks": config.num_tasks,
        **{name: dict(found.most_common()) for name, found in vars(counts).items()},
        "usage": {name: usage.to_dict() for name, usage in progress.usage().items()},
        "distances": {comparison.title: comparison.distance for comparison in comparisons},
        "contamination": contamination.to_dict() if contamination else None,
    }
    write_atomic(target / "report.json", json.dumps(record, indent=2) + "\n")
    templates = environment("dataset_builder.synthesis")
    write_atomic(target / "report.md", templates.get_template("report.md").render(**values, plots=plots))
    inline = {name: _data_url(target / name) for name in plots}
    write_atomic(target / "report.html", templates.get_template("report.html").render(**values, plots=inline))
    return target / "report.html"


def compare(counts: Counts) -> list[Comparison]:
    """The four distributions that the paper states."""
    from hub_cards.dataset_card import PAPER_DOMAINS, PAPER_FILE_TYPES, PAPER_STEPS, PAPER_TOOLS

    axes = (
        ("File types", counts.file_types, PAPER_FILE_TYPES),
        ("Tool calls", counts.tools, PAPER_TOOLS),
        ("Domains", counts.domains, PAPER_DOMAINS),
        ("Steps per trajectory", counts.steps, PAPER_STEPS),
    )
    found = []
    for title, here, paper in axes:
        shares = {name: 100 * number / here.total() for name, number in here.most_common()}
        distance = sum(abs(shares.get(name, 0.0) - paper.get(name, 0.0)) for name in {*shares, *paper}) / 200
        found.append(Comparison(title, shares, paper, round(distance, 3) if shares else None))
    return found


def headline(counts: Counts, num_tasks: int) -> str:
    """One sentence: how much is kept."""
    done = counts.outcomes.total()
    share = f" ({100 * counts.outcomes[KEPT] / done:.1f} %)" if done else ""
    parts = [f"{counts.outcomes[outcome]:,} {outcome}" for outcome in ("rejected", "failed")]
    return (
        f"{counts.outcomes[KEPT]:,} of {done:,} candidates are kept{share}, {', '.join(parts)}; {num_tasks:,} wanted."
    )


def stage_rows(progress: Progress) -> list[list[str]]:
    """Cells of the table of stages."""
    rows = []
    for name, stage in progress.stages.items():
        usage, ended = stage.usage, sum(stage.outcomes.values())
        numbers = [stage.outcomes.get(outcome, 0) for outcome in ("passed", "rejected", "failed")]
        numbers += [usage.calls, usage.retries, usage.input_tokens, usage.output_tokens]
        seconds = f"{stage.seconds / ended:.2f}" if ended else ""
        rows.append([name, *(f"{number:,}" for number in numbers), f"{usage.cost:.4f}", seconds])
    return rows


def _plot(folder: Path, comparisons: Iterable[Comparison], counts: Counts) -> list[str]:
    """Names of the plots that were drawn."""
    from hub_cards.plots import plot_shares
    from t3_agents.errors import MissingExtraError

    series = [(each.title, each.here, each.paper) for each in comparisons if each.here]
    dropped = counts.stages.total()
    if dropped:
        shares = {name: 100 * number / dropped for name, number in counts.stages.most_common()}
        series.append(("Where candidates were dropped", shares, {}))
    names = []
    for title, here, paper in series:
        name = f"{title.lower().replace(' ', '_')}.png"
        try:
            plot_shares(folder / name, title, here, paper, PAPER)
        except ImportError as error:
            raise MissingExtraError("matplotlib", "synthesis", "The report") from error
        names.append(name)
    return names


def _contamination(folder: Path, config: SynthConfig) -> Contamination | None:
    if config.gta is None and config.gaia is None:
        return None
    from .contamination import find_contamination, load_questions
    from .corpus.embedding import TextEmbedding

    queries = {record["id"]: record["query"] for record in read_queries(folder)}
    return find_contamination(queries, load_questions(config.gta, config.gaia), TextEmbedding(config.embedding))


def _file_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()[1:]
    return {"jpeg": "jpg", "": "none"}.get(suffix, suffix)


def _data_url(path: Path) -> str:
    return data_url(path.read_bytes(), "image/png")
