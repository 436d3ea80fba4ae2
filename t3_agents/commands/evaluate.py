"""Measure an agent on GTA, GAIA or held-out tasks; score a run again; compare two runs."""

from __future__ import annotations

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
from ..tracing import start_tracing, stop_tracing


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
    from ..evaluation.run import evaluate
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
    from ..evaluation.run import score_run
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
