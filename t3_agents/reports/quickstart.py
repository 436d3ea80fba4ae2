"""The report of a tuning run: `report.json`, `report.md`, two plots and the pictures that the page shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.scenarios import METRICS, score
from ..media import encode_image
from ..storage import write_atomic
from ..task import File
from ..trajectory import Trajectory
from ..turns import Step
from ..verifiers import is_correct
from .markdown import PathScrubber, fenced, inline, table
from .plots import LABELS, draw_families, draw_results
from .thumbnails import shrunk


REPORT_JSON, REPORT_MD = "report.json", "report.md"
FILES_FOLDER = "report_files"
MAX_SIDE = 800
"""Longest side (pixels) of a picture in the report."""

Runs = Mapping[str, Mapping[str, Sequence[Trajectory]]]

_RUNS, _SPLITS, _VISION = ("untuned", "tuned"), ("seen", "unseen"), ("images", "blanked")
_PARTS = (*_RUNS, "vision", "stage_seconds", "seed", "versions")
# Content that a browser would run when the copy is opened.
_ACTIVE = (".html", ".htm", ".xhtml", ".xml", ".svg", ".js", ".mjs")

_METRICS_NOTE = """\
AnsAcc: share of answers that are the known one, of n tasks. ToolAcc: share of expected tool calls that were made in
their place, of n expected calls. CodeExec: share of turns whose code ran without an error, of n turns. Intervals are
Wilson score intervals; calls and turns of one task are not independent, so theirs are somewhat too narrow. The scoring
rules are those of this project's scenarios: the numbers cannot be compared with published ones on GTA or GAIA."""

_VISION_NOTE = """\
The same tasks once with their pictures and once with every picture replaced by a plain one. A controller that does not
look at them scores the same on both."""


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

    Raises:
        InputError: when a run or split is missing.
    """
    results = {run: {split: _rounded(score(_part(runs, run, split))) for split in _SPLITS} for run in _RUNS}
    results["vision"] = {name: _rounded(score(_of(vision, name, "vision"))) for name in _VISION}
    results["stage_seconds"] = {stage: round(seconds, 1) for stage, seconds in stage_seconds.items()}
    return {**results, "seed": seed, "versions": dict(versions)}


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
        InputError: when a part of `results` or `runs` is missing or cannot be written as JSON.
        MissingExtraError: when matplotlib is not installed.
    """
    check_results(results)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    page = _Page(folder)
    families = _families(runs)
    sections = [
        "# Report",
        inline(description) if description else "",
        _what_was_run(results, runs, families),
        _comparison(results),
        _vision(results),
        _stages(results),
        page.trajectories(runs),
    ]
    write_atomic(folder / "results.png", draw_results(results))
    write_atomic(folder / "families.png", draw_families(families))
    write_atomic(folder / REPORT_MD, page.scrub("\n\n".join(s for s in sections if s)) + "\n")
    write_atomic(folder / REPORT_JSON, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_results(results: Any) -> None:
    """Check the content of a `report.json`.

    Raises:
        InputError: naming the part that is missing, unknown or of a wrong type.
    """
    _exactly(results, _PARTS, "the results")
    for part, names in ((_RUNS[0], _SPLITS), (_RUNS[1], _SPLITS), ("vision", _VISION)):
        _exactly(results[part], names, f"`{part}`")
        for name in names:
            owner = f"`{part}.{name}`"
            scores = results[part][name]
            _exactly(scores, (*METRICS, "n", "ci95"), owner, optional=("counts",))
            _exactly(scores["ci95"], METRICS, f"`{part}.{name}.ci95`")
            for metric in METRICS:
                low, high = _bounds(scores["ci95"][metric], f"`{part}.{name}.ci95.{metric}`")
                for value in (scores[metric], low, high):
                    if not (value is None or (isinstance(value, (int, float)) and 0 <= value <= 1)):
                        raise InputError(f"`{metric}` of {owner} must be a number in 0..1 or null, not {value!r}.")
                if (scores[metric] is None) != (low is None or high is None):
                    raise InputError(f"`{metric}` of {owner} and its interval must be null together.")
    for part in ("stage_seconds", "versions"):
        if not isinstance(results[part], dict):
            raise InputError(f"`{part}` of the results must be an object, not {type(results[part]).__name__}.")
    try:
        json.dumps(results, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"The results cannot be written as JSON: {error}.") from None


def _bounds(bounds: Any, owner: str) -> tuple[Any, Any]:
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        raise InputError(f"{owner} must be a lower and an upper bound.")
    return bounds[0], bounds[1]


def _exactly(value: Any, names: Sequence[str], owner: str, optional: Sequence[str] = ()) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{owner} must be an object, not {type(value).__name__}.")
    missing = [name for name in names if name not in value]
    unknown = [name for name in value if name not in (*names, *optional)]
    if missing or unknown:
        problem = f"lacks `{missing[0]}`" if missing else f"has the unknown part `{unknown[0]}`"
        raise InputError(f"{owner} {problem}; its parts are {', '.join(names)}.")


def _rounded(scores: dict[str, Any]) -> dict[str, Any]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        **scores,
        **{metric: short(scores[metric]) for metric in METRICS},
        "ci95": {metric: [short(bound) for bound in scores["ci95"][metric]] for metric in METRICS},
    }


def _of(parts: Mapping[str, Any], name: str, owner: str) -> Any:
    if name not in parts:
        raise InputError(f"The {owner} trajectories lack `{name}`.")
    return parts[name]


def _part(runs: Runs, run: str, split: str) -> Sequence[Trajectory]:
    return _of(_of(runs, run, "run"), split, run)


def family_of(trajectory: Trajectory) -> str:
    """The scenario family of a task, as its origin names it."""
    return str(trajectory.task.origin.get("family", "no family"))


def _families(runs: Runs) -> list[dict[str, Any]]:
    """Right answers and tasks with a known answer per family: seen families first, in order of appearance."""
    families: dict[tuple[str, str], dict[str, Any]] = {}
    for split in _SPLITS:
        for run in _RUNS:
            for trajectory in _part(runs, run, split):
                name = family_of(trajectory)
                start = {"name": name, "unseen": split == "unseen", "untuned": [0, 0], "tuned": [0, 0]}
                counts = families.setdefault((split, name), start)[run]
                correct = is_correct(trajectory)
                counts[0] += bool(correct)
                counts[1] += correct is not None
    return list(families.values())


# The page


def _cells(scores: Mapping[str, Any], metric: str, digits: int | None = None) -> tuple[str, str]:
    """A share with its interval, and of how many; rounded to `digits` where they are given."""
    count = str(scores.get("counts", {}).get(metric, scores["n"]))
    if scores[metric] is None:
        return "–", count
    numbers = (scores[metric], *scores["ci95"][metric])
    value, low, high = (number if digits is None else f"{number:.{digits}f}" for number in numbers)
    return f"{value} ({low} to {high})", count


def _what_was_run(results: Mapping[str, Any], runs: Runs, families: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for split in _SPLITS:
        names = [inline(family["name"]) for family in families if family["unseen"] == (split == "unseen")]
        rows.append([split, str(results["tuned"][split]["n"]), ", ".join(names) or "–"])
    controllers = [[run, ", ".join(_controllers(runs, run)) or "–"] for run in _RUNS]
    versions = [[inline(name), inline(version)] for name, version in results["versions"].items()]
    return "\n\n".join(
        [
            "## What was run",
            f"The same tasks before and after tuning, with seed {inline(results['seed'])}. Unseen families are held "
            "out of tuning.",
            table(["tasks", "n", "families"], rows),
            table(["run", "controller"], controllers),
            table(["package", "version"], versions) if versions else "",
        ]
    )


def _controllers(runs: Runs, run: str) -> list[str]:
    """Names of controllers; of one that was loaded from a folder only the folder's name."""
    names = [t.provenance.get("controller") for split in _SPLITS for t in _part(runs, run, split)]
    names = [name for name in names if isinstance(name, str) and name]
    names = [Path(name).name if Path(name).is_absolute() else name for name in names]
    return [inline(name) for name in dict.fromkeys(names)]


def _comparison(results: Mapping[str, Any]) -> str:
    rows = []
    for split in _SPLITS:
        for metric, label in LABELS.items():
            cells = [_cells(results[run][split], metric) for run in _RUNS]
            rows.append([split, label, *cells[0], *cells[1]])
    return "\n\n".join(
        [
            "## Untuned and tuned",
            table(["families", "metric", "untuned (95 % interval)", "n", "tuned (95 % interval)", "n"], rows),
            _METRICS_NOTE,
            "![Bars of AnsAcc, ToolAcc and CodeExec, untuned beside tuned, for seen and unseen families](results.png)",
            "![Bars of AnsAcc per family, untuned beside tuned](families.png)",
        ]
    )


def _vision(results: Mapping[str, Any]) -> str:
    labels = {"images": "as they are", "blanked": "blanked"}
    rows = []
    for name, label in labels.items():
        scores = results["vision"][name]
        rows.append([label, *_cells(scores, "tool_acc")])
    return "\n\n".join(
        [
            "## Does it look at the pictures?",
            _VISION_NOTE,
            table(["pictures", "ToolAcc (95 % interval)", "n"], rows),
        ]
    )


def _stages(results: Mapping[str, Any]) -> str:
    rows = [[inline(stage), inline(seconds)] for stage, seconds in results["stage_seconds"].items()]
    return "\n\n".join(["## Time", table(["stage", "seconds"], rows) if rows else "Not measured."])


def choose_trajectories(runs: Runs) -> list[tuple[str, Trajectory | None]]:
    """The trajectories that a report shows, the same for the same runs.

    Returns:
        `list[tuple]`: three titles, each with a trajectory or `None` where there is none of that kind.
    """
    seen, unseen = _part(runs, "tuned", "seen"), _part(runs, "tuned", "unseen")
    right = [t for t in [*seen, *unseen] if is_correct(t)]
    success = next((t for t in right if t.images), right[0] if right else None)
    failure = next((t for t in [*seen, *unseen] if is_correct(t) is False), None)
    shown = [t.task.id for t in (success, failure) if t]
    other = next((t for t in unseen if t.task.id not in shown), next(iter(unseen), None))
    return [("A success", success), ("A failure", failure), ("An unseen family", other)]


class _Page:
    """Turns trajectories into Markdown and copies their pictures and files beside the page."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.scrub: Callable[[str], str] = PathScrubber(folder)

    def trajectories(self, runs: Runs) -> str:
        parts = ["## Three trajectories of the tuned controller"]
        none = {
            "A success": "No task was answered right.",
            "A failure": "There is no failure: every task with a known answer was answered right.",
            "An unseen family": "No task of an unseen family was run.",
        }
        for title, trajectory in choose_trajectories(runs):
            parts.append(f"### {title}")
            parts.append(self._trajectory(trajectory) if trajectory else none[title])
        return "\n\n".join(parts)

    def _trajectory(self, trajectory: Trajectory) -> str:
        task = trajectory.task
        parts = [
            f"Task {inline(task.id)}, family {inline(family_of(trajectory))}.",
            "**Query**",
            fenced(task.query),
        ]
        if task.files:
            parts += ["**Files**", *(self._file(file) for file in task.files)]
        number = 0
        for step in trajectory.steps:
            number += step.kind == "action"
            parts += self._step(step, number, trajectory.images)
        if "failure" in trajectory.provenance:
            parts += ["**The run failed**", fenced(self.scrub(str(trajectory.provenance["failure"])))]
        verdict = {True: "right", False: "wrong", None: "not known to be right or wrong"}[is_correct(trajectory)]
        parts += [
            f"**Answer**: {verdict} (the run ended with {inline(trajectory.end_reason)})",
            fenced(trajectory.answer) if trajectory.answer else "No answer was given.",
            "**Known answer**",
            fenced(task.ground_truth) if task.ground_truth else "None.",
        ]
        return "\n\n".join(parts)

    def _step(self, step: Step, number: int, images: Sequence[File]) -> list[str]:
        shown = [self._file(images[index]) for index in step.images]
        if step.kind == "task":
            return ["**Request**", fenced(step.observation), *shown]
        if step.kind == "plan":
            return ["**Plan**", fenced(step.model_output)]
        parts = [f"**Step {number}**"]
        if step.code.strip():
            parts += ["Thought", fenced(step.thought), "Code", fenced(step.code, "python")]
        else:
            parts += ["Turn without code that can be run", fenced(step.model_output)]
        if not step.is_final:
            parts += ["Observation", fenced(step.observation_text().removeprefix("Observation: ")), *shown]
        return parts

    def _file(self, file: File) -> str:
        """A picture to look at, or a link to a copy of another file."""
        name = inline(file.path)
        absent = f"{name} (its content is not at hand)"
        if file.is_image:
            # Drawn anew: no metadata, a format that every browser shows, and a size that fits the page.
            image = shrunk(file, MAX_SIDE)
            if image is None:
                return absent
            return f"{name}\n\n![{name}]({self._keep(file.sha256, '.png', encode_image(image))})"
        try:
            data = file.read_bytes()
        except (InputError, OSError):
            return absent
        suffix = Path(file.path).suffix.lower()
        suffix = ".txt" if suffix in _ACTIVE or not re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else suffix
        return f"[{name}]({self._keep(file.sha256, suffix, data)})"

    def _keep(self, sha256: str, suffix: str, data: bytes) -> str:
        link = f"{FILES_FOLDER}/{sha256[:16]}{suffix}"
        write_atomic(self.folder / link, data)
        return link


def print_table(results: dict[str, Any], console: Any = None) -> None:
    """Print untuned beside tuned on the terminal.

    Args:
        results (`dict`): see [`build_results`].
        console (`rich.console.Console`, *optional*): where to print; standard output by default.
    """
    from rich.console import Console
    from rich.table import Table

    check_results(results)
    grid = Table("tasks", "metric", "untuned", "n", "tuned", "n", caption="in brackets: 95 % interval")
    for split in _SPLITS:
        for metric, label in LABELS.items():
            cells = [_cells(results[run][split], metric, digits=2) for run in _RUNS]
            grid.add_row(split, label, *cells[0], *cells[1], end_section=label == "CodeExec")
    for name, label in (("images", "pictures"), ("blanked", "blanked")):
        grid.add_row(label, "ToolAcc", "", "", *_cells(results["vision"][name], "tool_acc", digits=2))
    (console or Console()).print(grid)
