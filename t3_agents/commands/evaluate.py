"""Measure an agent on GTA, GAIA or held-out tasks; score a run again; compare two runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..evaluation.config import RunConfig, ScoreConfig
from ..options import Positional
from ..tracing import start_tracing, stop_tracing


@dataclass(kw_only=True)
class CompareConfig:
    """Compare two scored runs on the same tasks.

    Args:
        first (`str`): folder of a scored run.
        second (`str`): folder of another one.
    """

    first: Positional[str]
    second: Positional[str]


@dataclass(kw_only=True)
class ReportConfig:
    """Write the report of a scored run into its folder.

    Args:
        run (`str`): folder of the run.
        others (`list[str]`, *optional*): folders of further runs, to be shown beside it.
        questions (`bool`, *optional*): show questions, files, answers and steps; by default for all benchmarks but
            GAIA, whose rules keep them out of what is published.
    """

    run: Positional[str]
    others: Positional[list[str]] = field(default_factory=list)
    questions: bool | None = None


@dataclass(kw_only=True)
class ExportConfig:
    """Write a scored run as a log of inspect_ai, which datasets reads too.

    Args:
        run (`str`): folder of the run.
        output (`str`): the file, `<name>.eval`.
        questions (`bool`, *optional*): write questions, pictures, answers and conversations; by default for all
            benchmarks but GAIA.
    """

    run: Positional[str]
    output: str
    questions: bool | None = None


def __getattr__(name: str) -> Callable[[RunConfig], int]:
    """The command `t3 eval BENCHMARK`, which has the options of the benchmark."""
    from ..evaluation.run import BENCHMARKS

    if name not in BENCHMARKS:
        raise AttributeError(f"There is no command {name} in {__name__}.")

    def command(config: RunConfig) -> int:
        return _measure(config)

    command.__annotations__["config"] = BENCHMARKS[name].options
    return command


def _measure(config: RunConfig) -> int:
    from ..evaluation.run import evaluate
    from ..models.device import use_fastest_num_threads
    from ..reports.tables import print_results

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
    from ..reports.tables import print_results

    print_results(score_run(config), config.run)
    return 0


def compare(config: CompareConfig) -> int:
    """`t3 eval compare FIRST SECOND`."""
    from ..evaluation.compare import compare_runs
    from ..reports.tables import print_comparison

    print_comparison(compare_runs(config.first, config.second))
    return 0


def report(config: ReportConfig) -> int:
    """`t3 eval report RUN [OTHER ...]`."""
    from ..reports.page import write_report

    paths = write_report(config.run, config.others, config.questions)
    print(f"Report: {paths.html}   {paths.markdown}")
    return 0


def export(config: ExportConfig) -> int:
    """`t3 eval export RUN --output FILE`."""
    from ..reports.inspect_log import export_inspect_log

    print(f"Log: {export_inspect_log(config.run, config.output, config.questions)}")
    return 0
