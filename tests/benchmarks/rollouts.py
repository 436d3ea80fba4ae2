"""Tasks per minute: sixteen agents that share one model, against one agent at a time without reuse.

    python tests/benchmarks/rollouts.py

The agent is that of `t3 quickstart`, or the embedded controller as it comes where there is none; the tasks are made
here by the offline teacher. All of them run with sixteen agents. One agent at a time runs every n-th of them, as stock
smolagents does: the whole conversation anew at every turn, and token by token. Its rate is that of this part. Both
decode greedily, and on the tasks that both ran the answers are compared. The last line is JSON;
`results/rollouts.json` holds it with the command, the machine and the versions.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _report import ROOT, machine, make_parser, peak_bytes, reset_peak, use_threads, write_record

from dataset_builder.scenarios import SCENARIOS
from dataset_builder.scenarios.base import make_task
from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.agent.rollout import rollout
from t3_agents.evaluation.scenarios import load_tasks
from t3_agents.hub.repos import AGENT_FILE
from t3_agents.models.device import best_device
from t3_agents.models.embedded import EMBEDDED
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory


QUICKSTART_AGENT = ROOT / "runs" / "quickstart" / "train" / "agent"
PACKAGES = ("torch", "transformers", "smolagents", "t3-agents")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--agent", help="saved agent, or name or folder of a bare controller")
    parser.add_argument("--dataset", help="folder or Hub id of a dataset whose tasks are taken")
    parser.add_argument("--tasks", type=int, default=64, help="tasks for the agents that share the model")
    parser.add_argument("--workers", type=int, default=16, help="agents that share the model")
    parser.add_argument("--reference-tasks", type=int, default=16, help="of these tasks, those of the single agent")
    parser.add_argument("--max-steps", type=int, default=6)
    parser.add_argument("--max-new-tokens", type=int, default=64, help="tokens of a turn")
    return parser.parse_args(argv)


def default_agent() -> str:
    if (QUICKSTART_AGENT / AGENT_FILE).is_file():
        return str(QUICKSTART_AGENT)
    print(
        f"No agent in {QUICKSTART_AGENT.relative_to(ROOT)} (`t3 quickstart` makes one): the untuned controller runs."
    )
    return EMBEDDED


def make_tasks(number: int, folder: str) -> list[Task]:
    """Tasks of the offline teacher, of one family after the other."""
    families = [family for family in SCENARIOS if not family.unseen]
    return [
        make_task(families[n % len(families)], seed=0, index=n // len(families), folder=Path(folder, str(n))).task
        for n in range(number)
    ]


def run(
    name: str, model: VLMModel, tasks: list[Task], workers: int, options: argparse.Namespace
) -> tuple[dict[str, Any], list[Trajectory]]:
    """Figures of a rollout, and its trajectories in the order of the tasks."""

    def make_agent() -> T3Agent:
        return load_agent(options.agent, model=model, max_steps=options.max_steps)

    reset_peak()
    begin = time.perf_counter()
    by_id = {trajectory.task.id: trajectory for trajectory in rollout(make_agent, tasks, workers)}
    seconds = time.perf_counter() - begin
    trajectories = [by_id[task.id] for task in tasks]
    steps = [step for trajectory in trajectories for step in trajectory.actions]
    figures = {
        "tasks": len(tasks),
        "workers": workers,
        "seconds": round(seconds, 1),
        "tasks_per_minute": round(60 * len(tasks) / seconds, 3),
        "steps": len(steps),
        "output_tokens_per_second": round(sum(step.output_tokens for step in steps) / seconds, 2),
        "answered": sum(trajectory.answer is not None for trajectory in trajectories),
        "peak_rss_mib": round(peak_bytes() / 2**20),
    }
    print(f"{name}: {figures}", flush=True)
    return figures, trajectories


def main(argv: list[str]) -> int:
    options = parse(argv)
    options.agent = options.agent or default_agent()
    if options.dataset:
        tasks = load_tasks(options.dataset)
        random.Random(0).shuffle(tasks)
        return measure(tasks[: options.tasks], options, argv)
    with tempfile.TemporaryDirectory() as folder:
        return measure(make_tasks(options.tasks, folder), options, argv)


def measure(tasks: list[Task], options: argparse.Namespace, argv: list[str]) -> int:
    use_threads(options.threads)
    before = machine(threads=torch.get_num_threads(), device=best_device())
    first = load_agent(options.agent).model
    shared, single = (
        VLMModel(
            first.model, first.processor, **{**first.generation, "max_new_tokens": options.max_new_tokens}, **more
        )
        for more in (
            {"max_batch_size": options.workers},
            {"max_batch_size": 1, "max_cached_tokens": 0, "max_drafted_tokens": 0},
        )
    )
    step = max(1, len(tasks) // max(1, options.reference_tasks))
    part = tasks[::step][: options.reference_tasks]
    # The reference runs before and after, so that a load that changes counts for both.
    half = len(part) // 2
    runs = {}
    runs["one, first half"], one = run("one, first half", single, part[:half], 1, options)
    runs["shared"], together = run("shared", shared, tasks, options.workers, options)
    runs["one, second half"], rest = run("one, second half", single, part[half:], 1, options)
    answers = {trajectory.task.id: trajectory.answer for trajectory in together}
    same = [trajectory.answer == answers[trajectory.task.id] for trajectory in [*one, *rest]]
    seconds = runs["one, first half"]["seconds"] + runs["one, second half"]["seconds"]
    one_per_minute = 60 * len(part) / seconds
    summary = {
        "tasks_per_minute_vs_one": round(runs["shared"]["tasks_per_minute"] / one_per_minute, 3),
        "tasks_per_minute": runs["shared"]["tasks_per_minute"],
        "tasks_per_minute_one": round(one_per_minute, 3),
        "same_answers": round(statistics.mean(same), 3),
    }
    details = {
        "runs": runs,
        "reference": f"{len(part)} of the {len(tasks)} tasks, evenly taken, one agent at a time; no reuse, no guesses",
    }
    return write_record(options.output, argv, summary, details, before, PACKAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
