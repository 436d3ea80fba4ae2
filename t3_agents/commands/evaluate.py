"""Measure an agent on GTA, GAIA or held-out tasks; score a run again; compare two runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..evaluation.config import (
    CompareConfig,
    EvalConfig,
    ExportConfig,
    GAIAConfig,
    GTAConfig,
    ReportConfig,
    RunConfig,
    ScoreConfig,
)
from ..options import check_options
from ..storage import SETTINGS_FILE, RunFolder, require, write_atomic
from ..tracing import start_tracing, stop_tracing


if TYPE_CHECKING:
    from smolagents import CodeAgent


def evaluate(config: RunConfig, make_agent: Callable[[], CodeAgent] | None = None) -> dict[str, Any]:
    """Run an agent on a benchmark and score it.

    The folder then holds the trajectories, `scores.jsonl` (a row per task and seed) and `results.json`.

    Args:
        config ([`EvalConfig`], [`GTAConfig`] or [`GAIAConfig`]): what to run.
        make_agent (`Callable[[], CodeAgent]`, *optional*): makes the agent, a [`T3Agent`] or any CodeAgent of
            smolagents, for each worker; `config.agent` is then its name in the results. Agents may share a model that
            can be called from several threads.

    Returns:
        `dict`: the content of `results.json`.

    Raises:
        InputError: when agent, dataset or options cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from ..evaluation.benchmark import SUITES
    from ..evaluation.results import task_digest

    config.check()
    if make_agent is None and len(config.seeds) > 1 and config.temperature is None:
        raise InputError("Several seeds give the same run without sampling: set a temperature, for example 0.7.")
    settings = config.settings()
    suite = SUITES[config.benchmark][0](settings)
    loaded = suite.load()
    if not config.skip_bad_rows:
        loaded.refuse_bad()
    if not loaded.tasks:
        raise InputError(f"{loaded.name} has no rows that can be used.")
    chosen = loaded.tasks[: config.limit]
    suite.check_scoring(chosen, config.score_config())
    tasks = suite.prepare(chosen)
    settings["data"] = {
        "name": loaded.name,
        "revision": loaded.revision,
        "split": loaded.split,
        "digest": task_digest(tasks),
        "skipped_rows": len(loaded.bad),
    }
    with RunFolder(config.output, settings):
        make = _agents_of(config) if make_agent is None else lambda seed: make_agent()
        _run_seeds(lambda seed: suite.wrap(make(seed), seed), tasks, config)
        return _score(Path(config.output), settings, config.score_config())


def _agents_of(config: RunConfig) -> Callable[[int], CodeAgent]:
    from ..evaluation.baselines import AgentFactory

    return AgentFactory(
        config.agent,
        config.toolbox,
        config.prompt,
        api_base=config.api_base,
        api_model=config.api_model,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        max_batch_size=config.num_workers,
        max_steps=config.max_steps,
        max_consecutive_errors=config.max_consecutive_errors,
        token_budget=config.token_budget,
        time_budget=config.time_budget,
        executor_type=config.executor,
    )


def _run_seeds(make: Callable[[int], Any], tasks: Sequence[Any], config: RunConfig) -> None:
    """Run the tasks with every seed; with several, each has a shard of its own that shares the blobs."""
    from ..evaluation.run import BLOBS_FOLDER, TRAJECTORIES_FILE, run_tasks

    folder = Path(config.output)
    if len(config.seeds) == 1:
        run_tasks(lambda: make(config.seeds[0]), tasks, folder, num_workers=config.num_workers)
        return
    (folder / BLOBS_FOLDER).mkdir(exist_ok=True)
    rows = []
    for seed in config.seeds:
        part = folder / "seeds" / str(seed)
        part.mkdir(parents=True, exist_ok=True)
        if not (part / BLOBS_FOLDER).exists():
            (part / BLOBS_FOLDER).symlink_to(Path("..") / ".." / BLOBS_FOLDER, target_is_directory=True)
        run_tasks(lambda seed=seed: make(seed), tasks, part, num_workers=config.num_workers)
        rows.append((part / TRAJECTORIES_FILE).read_bytes())
    write_atomic(folder / TRAJECTORIES_FILE, b"".join(rows))


def score_run(config: ScoreConfig) -> dict[str, Any]:
    """Score the trajectories of a run and write `scores.jsonl` and `results.json`.

    Args:
        config ([`ScoreConfig`]): the run and how to score it.

    Returns:
        `dict`: the content of `results.json`.

    Raises:
        InputError: when the folder holds no run of `t3 eval`, or it cannot be scored in this way.
    """
    folder = Path(config.run)
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no run: it has no {SETTINGS_FILE}.") from None
    except ValueError:
        raise InputError(f"{folder / SETTINGS_FILE} is not JSON.") from None
    if require(settings, "command", str, SETTINGS_FILE) != "eval" or "data" not in settings:
        raise InputError(f"{folder} holds no run of this version of `t3 eval`.")
    return _score(folder, settings, config)


def _score(folder: Path, settings: dict[str, Any], config: ScoreConfig) -> dict[str, Any]:
    from ..evaluation.benchmark import SUITES, prices_of
    from ..evaluation.results import make_results, read_trajectories, write_results
    from ..evaluation.statistics import RESAMPLES

    suite = SUITES[settings["benchmark"]][0](settings)
    check_options(config)
    prices = prices_of(config)
    trajectories = read_trajectories(folder)
    scores, details = suite.score(trajectories, config, prices)
    scores.sort(key=lambda score: (score.task_id, score.seed))  # whatever was finished first
    data = dict(settings["data"])
    description = {
        "benchmark": settings["benchmark"],
        "mode": settings.get("mode", "end_to_end"),
        "scoring": config.scoring if settings["benchmark"] == "gta" else suite.scoring,
        "scoring_details": {
            **details,
            "skipped_rows": data.pop("skipped_rows"),
            "intervals": f"{RESAMPLES} bootstrap resamples of the tasks, seed 0; Wilson's where all are equal",
            "prices": None if prices is None else {"input": prices[0], "output": prices[1]},
        },
        "dataset": data,
        "agent": _agent_of(trajectories, settings["agent"]),
        "seeds": settings["seeds"],
    }
    results = make_results(description, scores)
    write_results(folder, results, scores)
    for name, text in suite.extra_files(trajectories).items():
        write_atomic(folder / name, text)
    return results


def _agent_of(trajectories: Sequence[Any], name: str) -> dict[str, Any]:
    made_by = trajectories[0].provenance if trajectories else {}
    return {
        "name": Path(name).resolve().name if Path(name).exists() else name,
        "controller": made_by.get("controller"),
        "revision": made_by.get("revision"),
        "toolbox": [tool["name"] for tool in made_by.get("toolbox", [])],
        "prompt": made_by.get("prompt"),
    }


def scenarios(config: EvalConfig) -> int:
    """`t3 eval scenarios`."""
    return _measure(config)


def gta(config: GTAConfig) -> int:
    """`t3 eval gta`."""
    return _measure(config)


def gaia(config: GAIAConfig) -> int:
    """`t3 eval gaia`."""
    return _measure(config)


def _measure(config: RunConfig) -> int:
    from ..models.vlm import use_fastest_num_threads
    from ..reports.console import print_results

    use_fastest_num_threads()
    if config.trace:
        start_tracing(config.trace)
    try:
        print_results(evaluate(config), config.output)
    finally:
        stop_tracing()
    return 0


def score(config: ScoreConfig) -> int:
    """`t3 eval score RUN`."""
    from ..reports.console import print_results

    print_results(score_run(config), config.run)
    return 0


def compare(config: CompareConfig) -> int:
    """`t3 eval compare FIRST SECOND`."""
    from ..evaluation.compare import compare_runs
    from ..reports.console import print_comparison

    print_comparison(compare_runs(config.first, config.second))
    return 0


def report(config: ReportConfig) -> int:
    """`t3 eval report RUN [OTHER ...]`."""
    from ..reports.eval_report import write_report

    paths = write_report(config.run, config.others, config.questions)
    print(f"Report: {paths.html}   {paths.markdown}")
    return 0


def export(config: ExportConfig) -> int:
    """`t3 eval export RUN --output FILE`."""
    from ..reports.inspect_log import export_inspect_log

    print(f"Log: {export_inspect_log(config.run, config.output, config.questions)}")
    return 0
