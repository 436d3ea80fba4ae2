"""The report of a run: what was kept, why the rest was not, what it cost, and the paper's figures beside ours."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.evaluation.published import Distribution, beside_paper
from t3_agents.reports.page import html_page, markdown_page
from t3_agents.reports.plots import Plot, Series, draw_bars, draw_shares
from t3_agents.reports.tables import Table, shares_table
from t3_agents.storage import read_rows, write_atomic

from ..statistics import file_type, without_values
from .config import SynthConfig
from .progress import Progress
from .run_folder import KEPT, QUERIES, finished_rows, journal_files, read_queries


if TYPE_CHECKING:
    from .contamination import Contamination

REPORT = "report"
TOP = 15
"""Reasons that are listed."""
_STAGES = ("stage", "passed", "rejected", "failed", "calls", "retries", "tokens read", "tokens written", "cost")


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
            self.reasons.update(without_values(reason)[:160] for reason in row["reasons"])
            return
        actions = [step for step in row["steps"] if step["kind"] == "action"]
        self.file_types.update(file_type(file["path"]) for file in row["task"]["files"])
        self.tools.update(tool for step in actions for tool in step["tools"])
        self.domains[row["task"]["domain"] or "others"] += 1
        self.steps[str(len(actions))] += 1


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
    counts = Counts()
    for outcome, row in finished_rows(folder):
        counts.add(outcome, row)
    for path in journal_files(folder, QUERIES):
        reasons = [row["failure"] for row in read_rows(path) if row["failure"]]
        counts.batches.update(without_values(reason)[:160] for reason in reasons)
    distributions = beside_paper(vars(counts)).values()
    contamination = _contamination(folder, config)
    record = {
        "format": "t3-synthesis-report/1",
        "settings": config.settings(),
        "num_tasks": config.num_tasks,
        **{name: dict(found.most_common()) for name, found in vars(counts).items()},
        "usage": {name: usage.to_dict() for name, usage in progress.usage().items()},
        "distances": {
            found.title: None if found.distance is None else round(found.distance, 3) for found in distributions
        },
        "contamination": contamination.to_dict() if contamination else None,
    }
    compared = [block for found in distributions if found.here for block in (shares_table(found), _plot(found))]
    sections = {
        "": [
            headline(counts, config.num_tasks),
            f"Teacher: {config.model or config.teacher}; flavor {config.flavor}; seed {config.seed}; toolbox "
            f"{config.toolbox}.",
        ],
        "Stages": [Table("", [*_STAGES, "seconds each"], stage_rows(progress), right=len(_STAGES))],
        "Why candidates were dropped": [_reasons(counts.reasons) or "None was.", _plot_of_stages(counts)],
        "Batches without queries": [_reasons(counts.batches)],
        "Beside the paper": [
            "Shares of kept rows; the distance is the total variation, 0 for equal and 1 for disjoint distributions.",
            *(compared or ["No row is kept."]),
        ],
        "Nearness to benchmark questions": _nearness(contamination) if contamination else [],
    }
    target = folder / REPORT
    for plot in (block for blocks in sections.values() for block in blocks if isinstance(block, Plot)):
        plot.write(target)
    write_atomic(target / "report.json", json.dumps(record, indent=2) + "\n")
    write_atomic(target / "report.md", markdown_page("Synthesis report", sections))
    write_atomic(target / "report.html", html_page("Synthesis report", sections))
    return target / "report.html"


def _reasons(counts: Counter[str]) -> Table | None:
    rows = [[reason, f"{number:,}"] for reason, number in counts.most_common(TOP)]
    return Table("", ["reason", "number"], rows, right=1) if rows else None


def _plot(found: Distribution) -> Plot:
    name = f"{found.title.lower().replace(' ', '_')}.png"
    return Plot(name, f"{found.title} beside the paper's", draw_shares(found, "this run"))


def _plot_of_stages(counts: Counts) -> Plot | None:
    numbers = counts.stages.most_common()
    if not numbers:
        return None
    series = Series("dropped", [number for _, number in numbers], texts=[f"{number:,}" for _, number in numbers])
    drawn = draw_bars({"Where candidates were dropped": ([name for name, _ in numbers], [series])}, "candidates")
    return Plot("where_candidates_were_dropped.png", "Where candidates were dropped", drawn)


def _nearness(found: Contamination) -> list[str | Table]:
    rows = [[near.query_id, f"{near.benchmark} {near.question_id}", str(near.likeness)] for near in found.near]
    text = (
        f"{len(rows)} of {found.num_queries} queries are near to a question (similarity from {found.threshold}, or "
        f"copied words); the highest similarity is {found.highest}."
    )
    return [text, *([Table("", ["query", "question", "similarity"], rows, right=1)] if rows else [])]


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


def _contamination(folder: Path, config: SynthConfig) -> Contamination | None:
    if config.gta is None and config.gaia is None:
        return None
    from .contamination import find_contamination, load_questions
    from .corpus.embedding import TextEmbedding

    queries = {record["id"]: record["query"] for record in read_queries(folder)}
    return find_contamination(queries, load_questions(config.gta, config.gaia), TextEmbedding(config.embedding))
