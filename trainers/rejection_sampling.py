"""What an agent's own attempts at tasks with known answers give to train on: verified trajectories, and pairs of a
right and a wrong next step at the same point."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value

from t3_agents.storage import sha256_of, write_atomic
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step, render_messages
from t3_agents.verifiers import SAMPLE, verify


VERDICTS_FILE = "verdicts.jsonl"
ROWS_PER_FILE = 256
"""Rows of one Parquet file: so many are in memory at a time."""

_TEXT, _IDS = Value("string"), List(Value("int32"))
_MESSAGES = List({"role": _TEXT, "content": List({"type": _TEXT, "text": _TEXT})})
TRAJECTORIES = Features(
    {
        **dict.fromkeys(("id", "query", "answer", "ground_truth"), _TEXT),
        "messages": _MESSAGES,
        "images": List(Image()),
        "steps": List({"error": _TEXT, "output_ids": _IDS}),
    }
)
PAIRS = Features(
    {
        "id": _TEXT,
        **dict.fromkeys(("prompt", "chosen", "rejected"), _MESSAGES),
        "images": List(Image()),
        "output_ids": {"prompt": List(_IDS), "chosen": _IDS, "rejected": _IDS},
    }
)


@dataclass
class Selection:
    """Samples that are trained on, and a verdict on each.

    Args:
        kept (`list[Trajectory]`): verified ones, each different from the others, with the verdict in `verification`.
        verdicts (`list[dict]`): per sample `{"task_id", "seed", "passed", "reasons", "kept"}`; one that passed and was
            not kept repeats another one.
    """

    kept: list[Trajectory] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)


def select(samples: Iterable[Trajectory]) -> Selection:
    """Verify samples and leave out repetitions: those with the same code for the same task, whatever their comments,
    spaces and thoughts.

    Args:
        samples (`Iterable[Trajectory]`): attempts; earlier ones are kept before later ones.
    """
    selection, seen = Selection(), set()
    for sample in samples:
        verdict = verify(sample, SAMPLE)
        content = (sample.task.id, *(_meaning(step) for step in sample.actions))
        keep = verdict.passed and content not in seen
        if keep:
            seen.add(content)
            sample.verification = {**sample.verification, "rejection_sampling": verdict.to_dict()}
            selection.kept.append(sample)
        found = {"task_id": sample.task.id, "seed": sample.provenance.get("seed"), **verdict.to_dict()}
        selection.verdicts.append({**found, "kept": keep})
    return selection


def _meaning(step: Step) -> str:
    """The same for steps that do the same: their code without comments and layout."""
    try:
        return ast.dump(ast.parse(step.code or step.model_output))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return (step.code or step.model_output).strip()


@dataclass
class _Alternative:
    """One next step at some point, as taken by one or several samples."""

    step: Step
    sample: Trajectory
    place: int
    outcomes: list[bool] = field(default_factory=list)

    @property
    def share(self) -> float:
        return sum(self.outcomes) / len(self.outcomes)

    @property
    def is_wrong(self) -> bool:
        # A step that ran and went on may be right and a later one wrong, so one sample does not condemn it.
        at_fault = self.step.error is not None or self.step.is_final
        return not any(self.outcomes) and (at_fault or len(self.outcomes) > 1)


def step_pairs(samples: Iterable[Trajectory]) -> Iterator[dict[str, Any]]:
    """Pairs of alternative next steps at the same history, for preference tuning.

    Samples of a task whose conversation is the same up to some point (words and pictures alike) branch there. Their
    next steps are told apart by code. The right one is that with the largest share of verified samples among those
    that took it, if there is any. Wrong are those that led no sample to a verified end and either failed, gave the
    answer, or were taken by at least two samples. Each wrong one makes a pair with the right one.

    Args:
        samples (`Iterable[Trajectory]`): attempts of one agent, several per task.

    Yields:
        `dict`: a row `id`, `prompt` (messages up to the branch), `images` (those in it), `chosen` and `rejected` (one
            assistant turn each), and `output_ids` with the ids that the model produced, where they are known: of the
            turns in the `prompt`, of `chosen` and of `rejected`.
    """
    by_task: dict[str, list[Trajectory]] = {}
    for sample in samples:
        by_task.setdefault(sample.task.id, []).append(sample)
    for task_id, attempts in by_task.items():
        number = 0
        for alternatives in _branches(attempts):
            best = max(alternatives, key=lambda a: (a.share, len(a.outcomes)))
            if best.share == 0:
                continue
            for other in alternatives:
                if other.is_wrong:
                    yield _pair(f"{task_id}-{number}", best, other)
                    number += 1


def _branches(attempts: Sequence[Trajectory]) -> Iterator[list[_Alternative]]:
    """The points at which attempts at one task went on in different ways."""
    points: dict[str, dict[str, _Alternative]] = {}
    for sample in attempts:
        verified = verify(sample, SAMPLE).passed
        for place, step in enumerate(sample.steps):
            if step.kind != "action" or not step.model_output:
                continue
            messages, images = _history(sample, place)
            point = sha256_of(json.dumps([messages, [image.sha256 for image in images]]).encode())
            alternatives = points.setdefault(point, {})
            alternative = alternatives.setdefault(_meaning(step), _Alternative(step, sample, place))
            alternative.outcomes.append(verified)
    return (list(alternatives.values()) for alternatives in points.values() if len(alternatives) > 1)


def _history(sample: Trajectory, place: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Messages and pictures before a step."""
    before, task = sample.steps[:place], sample.task
    shown = len(task.images) + sum(len(step.images) for step in before)
    return render_messages(sample.system_prompt, task.text(), len(task.images), before), sample.images[:shown]


def _pair(name: str, chosen: _Alternative, rejected: _Alternative) -> dict[str, Any]:
    prompt, images = _history(chosen.sample, chosen.place)
    earlier = [step for step in chosen.sample.steps[: chosen.place] if step.kind != "task"]
    return {
        "id": name,
        "prompt": prompt,
        "images": [{"path": image.path, "bytes": image.read_bytes()} for image in images],
        "chosen": [_turn(chosen.step)],
        "rejected": [_turn(rejected.step)],
        "output_ids": {
            "prompt": [step.output_ids for step in earlier if step.model_output or step.output_ids],
            "chosen": chosen.step.output_ids,
            "rejected": rejected.step.output_ids,
        },
    }


def _turn(step: Step) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": step.model_output}]}


# Datasets


def trajectory_rows(kept: Iterable[Trajectory]) -> Iterator[dict[str, Any]]:
    """Kept samples as rows to train on, with ids that tell samples of one task apart."""
    for trajectory in kept:
        row = trajectory.to_row()
        steps = [{"error": step["error"], "output_ids": step["output_ids"]} for step in row["steps"]]
        code = sha256_of("\n".join(step.code for step in trajectory.actions).encode())
        yield {
            "id": f"{row['id']}-{code[:8]}",
            **{name: row[name] for name in ("query", "messages", "images", "answer", "ground_truth")},
            "steps": steps,
        }


def write_trajectories(folder: Path, selection: Selection) -> None:
    """A dataset folder for `t3 train` out of the kept samples, with all verdicts beside it."""
    verdicts = "".join(json.dumps(verdict) + "\n" for verdict in selection.verdicts)
    _write_dataset(folder, trajectory_rows(selection.kept), TRAJECTORIES, {VERDICTS_FILE: verdicts})


def write_pairs(folder: Path, pairs: Iterable[dict[str, Any]]) -> None:
    """A dataset folder for `t3 dpo`; stock TRL reads it as well."""
    _write_dataset(folder, pairs, PAIRS, {})


def _write_dataset(folder: Path, rows: Iterable[dict[str, Any]], features: Features, beside: dict[str, str]) -> None:
    """Write a split `train` in Parquet; the folder is there when all of it is."""
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "data").mkdir(parents=True)
    rows, number = iter(rows), 0
    while part := list(islice(rows, ROWS_PER_FILE)):
        path = scratch / "data" / "part.parquet"
        Dataset.from_list(part, features=features).to_parquet(path)
        # `load_dataset` keeps its copy of a folder by the names in it, so they have to tell contents apart.
        path.rename(path.with_name(f"train-{number:05d}-{sha256_of(path.read_bytes())[:16]}.parquet"))
        number += 1
    for name, content in beside.items():
        write_atomic(scratch / name, content)
    scratch.rename(folder)
