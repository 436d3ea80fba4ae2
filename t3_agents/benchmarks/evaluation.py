"""Measure an agent on held-out tasks: answers, tool choices and code that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..options import parse_options
from ..storage import RunFolder, write_atomic
from ..tracing import start_tracing, stop_tracing
from ..trajectory import Trajectory


BENCHMARKS = ("scenarios",)


@dataclass
class EvalConfig:
    """Evaluate an agent on the held-out tasks of a dataset: `t3 eval scenarios --agent ... --dataset ... --output
    ...`.

    Args:
        agent (`str`): folder or Hub id of a saved agent, or of a bare controller (`embedded`, any vision-language
            model).
        dataset (`str`): folder or Hub id of the dataset with the tasks.
        output (`str`): folder of the run; the same command on it goes on where it was stopped.
        split (`str`, *optional*, defaults to `"test"`): split of the tasks.
        subset (`str`, *optional*, defaults to `"all"`): `all`, `seen`, `unseen` or `vision` families.
        blank (`bool`, *optional*, defaults to `False`): replace every picture by a plain one, to see what the pictures
            bring.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`.
        api_model (`str`, *optional*): the controller's name there, where the server lists several.
        toolbox (`str`, *optional*, defaults to `"embedded"`): tools of a bare controller.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of a bare controller.
        num_workers (`int`, *optional*, defaults to 16): tasks at the same time; they share batches of the model.
        max_steps (`int`, *optional*, defaults to 6): steps per task.
        max_consecutive_errors (`int`, *optional*, defaults to 5): failed steps in a row per task.
        max_new_tokens (`int`, *optional*): tokens per turn; the agent's own setting by default.
        time_budget (`float`, *optional*): seconds per task.
        limit (`int`, *optional*): only the first tasks.
        executor (`str`, *optional*, defaults to `"sandbox"`): where code runs, see [`T3Agent`].
        trace (`str`, *optional*): file for OpenTelemetry spans, or URL of an OTLP collector.
    """

    agent: str
    dataset: str
    output: str
    split: str = "test"
    subset: str = "all"
    blank: bool = False
    api_base: str | None = None
    api_model: str | None = None
    toolbox: str = "embedded"
    prompt: str = "compact"
    num_workers: int = 16
    max_steps: int = 6
    max_consecutive_errors: int = 5
    max_new_tokens: int | None = None
    time_budget: float | None = None
    limit: int | None = None
    executor: str = "sandbox"
    trace: str | None = None

    def settings(self) -> dict[str, Any]:
        """What decides the rows of a run."""
        return {name: value for name, value in asdict(self).items() if name not in ("output", "num_workers", "trace")}


def evaluate(config: EvalConfig) -> list[Trajectory]:
    """Run the agent on the tasks and write `scores.json` beside the trajectories.

    Args:
        config ([`EvalConfig`]): what to run.

    Returns:
        `list[Trajectory]`: one per task.

    Raises:
        InputError: when agent, dataset or options cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .runner import run_tasks
    from .scenarios import blank_images, load_tasks
    from .scoring import score

    tasks = load_tasks(config.dataset, config.split, config.subset)[: config.limit]
    if config.blank:
        tasks = [blank_images(task) for task in tasks]
    folder = Path(config.output)
    with RunFolder(folder, {"command": "eval", **config.settings()}):
        trajectories = run_tasks(_agent_factory(config), tasks, folder, num_workers=config.num_workers)
        parts = {"all": trajectories}
        for trajectory in trajectories:
            parts.setdefault("unseen" if trajectory.task.origin.get("unseen") else "seen", []).append(trajectory)
            parts.setdefault(f"family {trajectory.task.origin.get('family')}", []).append(trajectory)
        scores = {name: score(part) for name, part in parts.items()}
        write_atomic(folder / "scores.json", json.dumps(scores, indent=2) + "\n")
    return trajectories


def _agent_factory(config: EvalConfig) -> Callable[[], Any]:
    """Makes agents that share one model, loaded at the first call: a finished run needs none."""
    import threading

    from ..agent import load_agent
    from ..models import VLMModel

    lock = threading.Lock()
    first: list[Any] = []

    def make() -> Any:
        limits = {
            "max_steps": config.max_steps,
            "max_consecutive_errors": config.max_consecutive_errors,
            "time_budget": config.time_budget,
            "executor_type": config.executor,
        }
        with lock:
            model = first[0].model if first else None
            server = {"api_base": config.api_base, "api_model": config.api_model}
            tools = {"toolbox": config.toolbox, "prompt": config.prompt}
            agent = load_agent(config.agent, model=model, **tools, **server, **limits)
            if not first:
                if isinstance(agent.model, VLMModel):
                    agent.model.engine.max_batch_size = config.num_workers
                if config.max_new_tokens is not None:
                    agent.model.generation["max_new_tokens"] = config.max_new_tokens
                first.append(agent)
        return agent

    return make


def main(argv: list[str]) -> int:
    """`t3 eval`: parse the options, run, print a table."""
    if argv and not argv[0].startswith("-"):
        benchmark, argv = argv[0], argv[1:]
        if benchmark not in BENCHMARKS:
            raise InputError(f"There is no benchmark `{benchmark}`; choose one of: {', '.join(BENCHMARKS)}.")
    config = parse_options(EvalConfig, argv, prog="t3 eval scenarios")
    from ..models import use_fastest_num_threads

    use_fastest_num_threads()
    if config.trace:
        start_tracing(config.trace)
    evaluate(config)
    stop_tracing()
    from rich.console import Console
    from rich.table import Table

    table = Table("tasks", "n", "AnsAcc", "ToolAcc", "CodeExec", title="Wilson 95 % intervals in brackets")
    for name, scores in json.loads((Path(config.output) / "scores.json").read_text()).items():
        table.add_row(
            name, str(scores["n"]), *(_cell(scores, metric) for metric in ("ans_acc", "tool_acc", "code_exec"))
        )
    Console().print(table)
    return 0


def _cell(scores: dict[str, Any], metric: str) -> str:
    if scores[metric] is None:
        return "-"
    low, high = scores["ci95"][metric]
    return f"{100 * scores[metric]:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
