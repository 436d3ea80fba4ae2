"""Trajectories and numbers of evaluations as one self-contained HTML page that asks nothing of any server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import InputError
from ..evaluation.published import published_results
from ..evaluation.results import OUTCOMES, Attempt, ScoredRun, task_of
from ..task import File, Task
from ..turns import Step, shorten
from .cost_plot import draw_cost_accuracy
from .markdown import PathScrubber
from .tables import (
    Table,
    breakdown_tables,
    comparability_notes,
    error_kinds,
    further_table,
    label_of,
    outcomes,
    results_table,
    usage_table,
)
from .templating import environment
from .thumbnails import MAX_BYTES, Picture, Pictures


MAX_TEXT = 20_000
"""Characters of one thought, code block or observation; more is cut out of its middle."""
MAX_PREVIEW = 4_000
"""Characters of a text file."""

_TEXT_TYPES = ("text/", "application/json", "application/jsonl", "application/xml")


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
class StepView:
    """A step as the page shows it. `number` counts the actions."""

    step: Step
    number: int
    files: Sequence[FileView]
    texts: dict[str, str]


@dataclass(frozen=True)
class AttemptView:
    """What one run did with a task."""

    run: str
    attempt: Attempt
    steps: Sequence[StepView]
    texts: dict[str, str]


@dataclass(frozen=True)
class Card:
    """One task and what every run did with it."""

    task: Task
    number: int
    title: str
    files: Sequence[FileView]
    attempts: Sequence[AttemptView]
    groups: Sequence[str]
    facets: str


class _Page:
    """Turns records into what the template shows, and counts what is left out."""

    def __init__(self, runs: Sequence[ScoredRun], questions: bool, scrub: PathScrubber, max_bytes: int):
        self.runs = runs
        self.questions = questions
        self.scrub = scrub
        self.shortened = 0
        self.pictures = Pictures(_pictures(runs) if questions else (), max_bytes)
        self._shown: set[str] = set()

    def text(self, text: str | None, limit: int = MAX_TEXT) -> str:
        """Text without places of this machine and of bearable length."""
        short = shorten(text or "", limit)
        self.shortened += short != (text or "")
        return self.scrub(short)

    def cards(self) -> list[Card]:
        """One card per task, in the order of the first run that has it."""
        by_task: dict[str, list[tuple[ScoredRun, Attempt]]] = {}
        for run in self.runs:
            for attempt in run.attempts:
                by_task.setdefault(attempt.trajectory.task.id, []).append((run, attempt))
        return [self._card(number, attempts) for number, attempts in enumerate(by_task.values(), start=1)]

    def _card(self, number: int, attempts: Sequence[tuple[ScoredRun, Attempt]]) -> Card:
        task = attempts[0][1].trajectory.task
        groups: dict[str, None] = {}
        for _, attempt in attempts:
            groups.update(dict.fromkeys(attempt.groups))
        facets = [[run.name, attempt.outcome, attempt.error_type or ""] for run, attempt in attempts]
        words = " ".join(task.query.split()) if self.questions else f"task {task.id}"
        return Card(
            task=task,
            number=number,
            title=self.scrub(words if len(words) <= 110 else f"{words[:109]}…"),
            files=[self._file(file) for file in task.files] if self.questions else [],
            attempts=[self._attempt(run, attempt) for run, attempt in attempts],
            groups=list(groups),
            facets=json.dumps({"attempts": facets, "groups": list(groups)}),
        )

    def _attempt(self, run: ScoredRun, attempt: Attempt) -> AttemptView:
        trajectory = attempt.trajectory
        number, steps = 0, []
        for step in trajectory.steps:
            number += step.kind == "action"
            shown = [self._file(trajectory.images[index]) for index in step.images] if self.questions else []
            texts = {
                "thought": self.text(step.thought),
                "code": self.text(step.code),
                "model_output": self.text(step.model_output),
                "observation": self.text(step.observation),
                "error": self.text(step.error),
            }
            steps.append(StepView(step, number, shown, texts))
        failure = trajectory.provenance.get("failure")
        texts = {
            "answer": self.text(trajectory.answer),
            "failure": self.text(None if failure is None else str(failure)),
            "reason": self.text(attempt.score.reason if attempt.score else None),
            "scores": _scores(attempt),
        }
        return AttemptView(run.name, attempt, steps, texts)

    def _file(self, file: File) -> FileView:
        key = file.sha256[:16]
        if file.is_image:
            picture = self.pictures.get(file)
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
        """Sentences on what the page does not show."""
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


def _pictures(runs: Sequence[ScoredRun]) -> Iterable[File]:
    for run in runs:
        for attempt in run.attempts:
            yield from attempt.trajectory.images


def _scores(attempt: Attempt) -> str:
    """Metrics of one task in per cent, where something was counted."""
    scores = attempt.score.to_dict()["scores"] if attempt.score else {}
    return ", ".join(f"{label_of(name)} {100 * value:.0f} %" for name, value in scores.items() if value is not None)


def _digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _options(runs: Sequence[ScoredRun], cards: Sequence[Card]) -> dict[str, list[str]]:
    """What the filters offer; a filter with one choice is left out."""
    found = {
        "run": [run.name for run in runs],
        "outcome": [name for name in OUTCOMES if any(outcomes(run)[name] for run in runs)],
        "error": sorted({score.error_type for run in runs for score in run.scores if score.error_type}),
        "group": sorted({group for card in cards for group in card.groups}),
    }
    return {name: choices for name, choices in found.items() if len(choices) > 1 or (choices and name == "error")}


def settings_of(run: ScoredRun) -> list[tuple[str, str]]:
    """What was run, as names and values to read."""
    results = run.results
    agent, dataset = results["agent"], results["dataset"]
    named = {
        "benchmark": results["benchmark"],
        "mode": results["mode"].replace("_", " "),
        "scoring": results["scoring"],
        **{f"scoring: {name}": value for name, value in results.get("scoring_details", {}).items()},
        "tasks": results["num_tasks"],
        "seeds": results.get("seeds", []),
        **{f"dataset: {name}": value for name, value in dataset.items()},
        **{f"agent: {name}": value for name, value in agent.items()},
        **{f"version: {name}": value for name, value in results.get("versions", {}).items()},
        "created": results.get("created"),
    }
    return [
        (name.replace("_", " "), _written(value)) for name, value in named.items() if value not in (None, [], {}, "")
    ]


def _written(value: Any) -> str:
    """A value of a record in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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
    published = published_results(scored[0].benchmark) if scored else None
    templates = package_files("t3_agents.reports") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    prompts: dict[str, list[str]] = {}
    for run in runs if questions else ():
        for attempt in run.attempts[:1]:
            prompts.setdefault(page.text(attempt.trajectory.system_prompt), []).append(run.name)
    context: dict[str, Any] = {
        "policy": policy,
        "style": Markup(style),  # a file of this package
        "script": Markup(script),  # a file of this package
        "title": f"{runs[0].benchmark}: {runs[0].name}" if runs[0].results else runs[0].name,
        "runs": runs,
        "scored": scored,
        "counts": [(run.name, [(name, outcomes(run)[name]) for name in OUTCOMES]) for run in runs],
        "results": results_table(scored, published) if scored else None,
        "further": further_table(scored, published),
        "notes": [*comparability_notes(scored, published), *map(page.text, notes)] if scored else [],
        "differences": differences,
        "breakdown": breakdown_tables(scored),
        "errors": error_kinds(runs),
        "plot": Markup(draw_cost_accuracy(scored)),  # escaped by its own template
        "usage": usage_table(runs),
        "cards": cards,
        # Step by step, a row of the benchmark is several tasks: its first one stands for it.
        "numbers": {task_of(card.attempts[0].attempt.trajectory): card.number for card in reversed(cards)},
        "options": _options(runs, cards),
        "prompts": prompts,
        "questions": questions,
        "left_out": page.left_out(),
        "settings": lambda run: [(name, page.text(value)) for name, value in settings_of(run)],
        "text": page.text,
    }
    return environment().get_template("report.html").render(context)
