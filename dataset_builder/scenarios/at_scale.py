"""The offline scenarios as a teacher at scale: verified rows with the paper's distributions, without any model."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from t3_agents.agent.config import load_prompt
from t3_agents.errors import InputError
from t3_agents.storage import BlobStore, Shard, write_atomic
from t3_agents.task import Task

from ..build import run_to_dataset


PLAN_FILE = "plan.json"
SPLIT_SHARES = {"train": 0.9, "validation": 0.04, "test": 0.06}
"""Whole families are parted: no family and no template is in two splits."""
MAX_TASKS = 1_000_000
FIRST_INDEX = 3_000_000
"""Number of the first task of a family; `t3 build` holds none from here on."""
_OCR_COST = 4
"""A task with a call of the OCR takes about as long as this many without one."""


@dataclass(frozen=True)
class _Job:
    """Families that share templates; one worker makes their rows in order, so it sees every query that may repeat."""

    folder: Path
    seed: int
    prompt: str
    quotas: tuple[tuple[str, int], ...]


def synthesize_scenarios(
    output: str | Path, num_tasks: int = 1000, seed: int = 0, num_workers: int = 2, prompt: str = "compact"
) -> Path:
    """Make, solve and verify tasks of all families in the paper's proportions and export them.

    Every row is a program that was run by the agent in the sandbox with the real tools. Finished rows are on disk one
    by one: after a crash the same call resumes, and gives the same rows.

    Args:
        output (`str` or `Path`): folder of the run.
        num_tasks (`int`, *optional*, defaults to 1000): verified rows in all splits together.
        seed (`int`, *optional*, defaults to 0): seed of the collection.
        num_workers (`int`, *optional*, defaults to 2): processes; the result does not depend on their number.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of the agent that solves the tasks.

    Returns:
        `Path`: the dataset, `<output>/dataset`.

    Raises:
        InputError: when there are too many rows, or most tasks of a family fail the verifiers.
        RunFolderError: when the folder holds a run with other settings, or another process works in it.
    """
    if not 1 <= num_tasks <= MAX_TASKS:
        raise InputError(f"The offline teacher makes from 1 to {MAX_TASKS:,} rows, not {num_tasks:,}.")
    load_prompt(prompt)
    folder = Path(output)
    settings = {"command": "synth", "teacher": "scenarios", "num_tasks": num_tasks, "prompt": prompt, "seed": seed}

    def make_jobs() -> list[_Job]:
        return _jobs(seed, prompt, folder, _plan(num_tasks, seed, folder))

    return run_to_dataset(folder, settings, make_rows, make_jobs, num_tasks, num_workers)


def _plan(num_tasks: int, seed: int, folder: Path) -> dict[str, Any]:
    """Rows and cost by family: solved once and kept, since later rows must follow the same plan."""
    path = folder / PLAN_FILE
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    # In a process of its own, because what it loads would stay in memory for the whole run.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        plan = pool.submit(_solve_plan, num_tasks, seed).result()
    write_atomic(path, json.dumps(plan, indent=1) + "\n")
    return plan


def _solve_plan(num_tasks: int, seed: int) -> dict[str, Any]:
    from t3_agents.evaluation.published import AXES, paper_shares

    from . import SCENARIOS, split_of
    from .mixture import profile, solve_mixture, whole_numbers

    profiles = [profile(scenario, split_of(scenario), seed) for scenario in SCENARIOS]
    weights = solve_mixture(profiles, {axis: paper_shares(axis) for axis in AXES}, SPLIT_SHARES)
    numbers = whole_numbers(weights, num_tasks)
    return {
        found.name: {
            "rows": numbers[found.name],
            "cost": numbers[found.name] * (1 + _OCR_COST * found.counts["tools"].get("visualizer", 0.0)),
        }
        for found in profiles
    }


def _jobs(seed: int, prompt: str, folder: Path, plan: dict[str, Any]) -> list[_Job]:
    """One job for each group of families with a template in common, the longest first."""
    from . import SCENARIOS

    groups: list[tuple[set[str], list[str]]] = []
    for scenario in SCENARIOS:
        templates, names = set(scenario.phrasings), [scenario.name]
        for other in [group for group in groups if group[0] & templates]:
            groups.remove(other)
            templates, names = templates | other[0], other[1] + names
        groups.append((templates, names))
    groups.sort(key=lambda group: -sum(plan[name]["cost"] for name in group[1]))
    return [
        _Job(folder, seed, prompt, tuple((name, plan[name]["rows"]) for name in names if plan[name]["rows"]))
        for _, names in groups
    ]


def make_rows(job: _Job, on_row: Callable[[], None]) -> None:
    """Append the missing rows of a job to the shards of its families.

    A task that the verifiers refuse is kept among the rejected ones, and another one takes its place.

    Raises:
        InputError: when a family fails so often that something is wrong with the installation.
    """
    from . import SCENARIOS, split_of
    from .solving import solve_made

    families = {scenario.name: scenario for scenario in SCENARIOS}
    blobs = BlobStore(job.folder / "blobs")
    asked: set[str] = set()
    for name, quota in job.quotas:
        scenario = families[name]
        split = split_of(scenario)
        file_name = f"{split}-{name}.jsonl"
        with (
            Shard(job.folder / "shards" / file_name) as kept,
            Shard(job.folder / "rejected" / file_name) as rejected,
        ):
            for record in [*kept.rows, *(row["trajectory"] for row in rejected.rows)]:
                asked.add(query_key(record["task"]["query"]))
            for _ in kept.rows:
                on_row()
            while len(kept.rows) < quota:
                if len(rejected.rows) > quota + 10:
                    reason = rejected.rows[-1]["reasons"][0]
                    raise InputError(f"Most tasks of the family `{name}` fail, the last one because: {reason}")
                index = FIRST_INDEX + len(kept.rows) + len(rejected.rows)
                record, reasons = solve_made(_maker(scenario, split, job.seed, index, asked), blobs, job.prompt)
                asked.add(query_key(record["task"]["query"]))
                if reasons:
                    rejected.append({"family": name, "index": index, "reasons": reasons, "trajectory": record})
                else:
                    kept.append(record)
                    on_row()


def _maker(scenario: Any, split: str, seed: int, index: int, asked: set[str]) -> Callable[[Path], Any]:
    """Makes task number `index` in words that nobody has used yet."""
    from .base import make_task, random_of

    def make(folder: Path) -> Any:
        made = make_task(scenario, seed, index, folder)
        rng = random_of(f"frame/{scenario.name}/{seed}/{index}")
        task = framed(made.task, split, rng)
        while query_key(task.query) in asked:
            task = framed(made.task, split, rng)
        return replace(made, task=task)

    return make


def rows_by_split(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Planned, kept and rejected rows of a run by split, also while it is under way."""
    from . import SCENARIOS, split_of

    plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    found = dict.fromkeys(SPLIT_SHARES, (0, 0, 0))
    for scenario in SCENARIOS:
        split = split_of(scenario)
        # A row whose line is still being written does not count.
        files = [folder / place / f"{split}-{scenario.name}.jsonl" for place in ("shards", "rejected")]
        kept, rejected = (file.read_bytes().count(b"\n") if file.exists() else 0 for file in files)
        planned = plan.get(scenario.name, {"rows": 0})["rows"]
        found[split] = tuple(map(sum, zip(found[split], (planned, kept, rejected), strict=True)))
    return found


def print_comparison(dataset: Path) -> None:
    """Print the distributions of a dataset beside the paper's, with the distance on each axis."""
    from t3_agents.evaluation.published import beside_paper
    from t3_agents.reports.tables import print_tables, shares_table

    from ..statistics import STATISTICS_FILE

    found = json.loads((dataset / STATISTICS_FILE).read_text(encoding="utf-8"))
    print(f"{found['rows']} rows, {found['rejected']} rejected")
    print_tables(*map(shares_table, beside_paper(found).values()))
    for split, overlap in found["overlaps"]["queries"].items():
        print(f"{split}: {overlap['all']} queries, {overlap['in_train']} of them in train too")
    print(f"splits: {found['splits']}; verifiers: {found['verdicts']}")


WORDS = yaml.safe_load(Path(__file__).with_name("frames.yaml").read_text(encoding="utf-8"))
"""Paraphrases: a question is set into a situation, so that no two users of a large collection say the same. `frames`:
sentences `before` and `after` a question and short `endings`, by split, parted like the families themselves: what a
model was trained on never frames a test question. And what fills their slots."""


def query_key(query: str) -> str:
    """A query without what does not make it another one: case and blanks."""
    return " ".join(query.casefold().split())


def framed(task: Task, split: str, rng: random.Random) -> Task:
    """The same task in other words.

    Args:
        task ([`~t3_agents.task.Task`]): with the bare question of its family.
        split (`str`): `train`, `validation` or `test`.
        rng (`random.Random`): chooses the frame.

    Returns:
        [`~t3_agents.task.Task`]: with another query, and so with another id.
    """
    frames = WORDS["frames"][split]
    # Where only the look of the picture may tell the tool, the subject must not.
    purposes = [] if task.origin.get("vision_only") else WORDS["purposes"][task.domain]
    who = f"{rng.choice(WORDS['relations'])} {rng.choice(WORDS['names'])}"
    slots = {"who": who, "what": rng.choice([*purposes, *WORDS["common_purposes"]])}
    before = rng.random() < 0.6
    sentence = rng.choice(frames["before" if before else "after"]).format(**slots)
    sentence = sentence[0].upper() + sentence[1:]
    parts = [sentence, task.query] if before else [task.query, sentence]
    query = " ".join(filter(None, (*parts, rng.choice(frames["endings"]))))
    fresh = Task.create(query, task.files)
    return replace(task, id=fresh.id, query=query)
