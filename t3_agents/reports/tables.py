"""Numbers as tables of plain text, for Markdown, HTML and the terminal alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ..evaluation.published import Column, Distribution, PublishedTable
from ..evaluation.results import USAGE, ScoredRun, TaskScore, outcome_of, task_of
from ..evaluation.run import BENCHMARKS
from .markdown import Markdown, escape, table, visible


LABELS = {name: label for kind in BENCHMARKS.values() for name, label in kind.metrics.items()}
"""Metrics as people write them."""
MAX_EXAMPLES = 3
"""Tasks that are named per kind of error."""

NOTHING = "–"
# Columns of breakdowns in a terminal, which is narrow.
_IN_TERMINAL = ("ans_acc", "tool_acc", "code_exec", "inst_acc", "arg_acc", "summ_acc")


@dataclass(frozen=True)
class Table:
    """A table of plain text.

    Args:
        title (`str`): caption.
        header (`list[str]`), rows (`list[list[str]]`): the first cell of a row names it.
        own (`set[int]`, *optional*): rows of own runs, where others are beside them.
        right (`int`, *optional*, defaults to 0): columns at the right that are numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    own: frozenset[int] = frozenset()
    right: int = 0

    @property
    def markdown(self) -> Markdown:
        """The table with its caption; every cell is escaped."""
        rows = [
            [Markdown(f"**{escape(row[0])}**") if number in self.own and row[0] else row[0], *row[1:]]
            for number, row in enumerate(self.rows)
        ]
        content = table(self.header, rows, self.right)
        return Markdown(f"{escape(self.title)}:\n\n{content}") if self.title else content


def print_tables(*tables: Table | None, console: Any = None) -> None:
    """Print tables on the terminal.

    Args:
        tables ([`Table`]): what to print; `None` is passed over.
        console (`rich.console.Console`, *optional*): where; standard output by default.
    """
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    for each in filter(None, tables):
        grid = Grid(title=Text(visible(each.title)) if each.title else None, title_justify="left")
        for place, name in enumerate(each.header):
            grid.add_column(Text(visible(name)), justify="right" if place >= len(each.header) - each.right else "left")
        for row in each.rows:
            grid.add_row(*(Text(visible(cell)) for cell in row))
        (console or Console()).print(grid)


@dataclass
class ErrorKind:
    """One kind of error: how many tasks had it in each run, and the first scores of each run as examples."""

    name: str
    counts: list[int]
    examples: list[TaskScore] = field(default_factory=list)


def label_of(metric: str) -> str:
    """Name of a metric as people write it."""
    return LABELS.get(metric, metric)


def percent(metric: Mapping[str, Any] | None) -> str:
    """`53.8 [47.1, 60.4]`: a share in per cent and its 95 % interval."""
    if metric is None or metric["value"] is None:
        return NOTHING
    text = f"{100 * metric['value']:.1f}"
    low, high = metric["ci95"]
    return text if low is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def _cell(results: Mapping[str, Any], column: Column) -> str:
    metrics = results["metrics"]
    if column.group is not None:
        metrics = results["breakdown"].get(column.group, {}).get(column.value, {})
    return percent(metrics.get(column.metric))


def results_table(runs: Sequence[ScoredRun], published: PublishedTable | None) -> Table:
    """One row per run with the metrics that were published, and below them what was published; all metrics where
    nothing was."""
    columns = published.columns if published else _unpublished(runs, None)
    rows = []
    for run in runs:
        controller = run.results["agent"].get("controller") or NOTHING
        cells = [_cell(run.results, column) for column in columns]
        rows.append([run.name, controller, f"here, {run.results['scoring']}", *cells])
    for row in published.rows if published else ():
        values = [NOTHING if value is None else f"{value:.2f}" for value in row.values]
        rows.append([row.method, row.controller, "paper", *values])
    header = ["agent", "controller", "scored", *(column.label for column in columns)]
    return Table("Results in per cent, with 95 % intervals", header, rows, frozenset(range(len(runs))))


def further_table(runs: Sequence[ScoredRun], published: PublishedTable | None) -> Table | None:
    """The metrics of the runs that were not published, or `None` when there are no others."""
    columns = _unpublished(runs, published) if published else []
    if not columns:
        return None
    rows = [[run.name, *(_cell(run.results, column) for column in columns)] for run in runs]
    return Table("Further metrics in per cent, with 95 % intervals", ["agent", *(c.label for c in columns)], rows)


def _unpublished(runs: Sequence[ScoredRun], published: PublishedTable | None) -> list[Column]:
    shown = {column.metric for column in published.columns if column.group is None} if published else set()
    names = dict.fromkeys(name for run in runs for name in run.results["metrics"] if name not in shown)
    return [Column(label_of(name), name) for name in names]


def comparability_notes(runs: Sequence[ScoredRun], published: PublishedTable | None) -> list[str]:
    """Sentences on what can and what cannot be compared with the published numbers, and with each other."""
    notes = []
    if len({run.results["scoring"] for run in runs}) > 1 or len({run.results["mode"] for run in runs}) > 1:
        notes.append("The runs were scored in different ways: their numbers cannot be compared with each other.")
    if len({frozenset(task_of(attempt.trajectory) for attempt in run.attempts) for run in runs}) > 1:
        notes.append("The runs are not about the same tasks: compare them on tasks that all have.")
    if published is None:
        return [*notes, "There are no published numbers on these tasks to compare with."]
    notes.append(f"Published numbers: {published.source} ({published.url}). {published.caution}")
    for run in runs:
        scoring, mode, tasks = run.results["scoring"], run.results["mode"], run.results["num_tasks"]
        reasons = []
        if published.scoring is not None and scoring != published.scoring:
            reasons.append(f"it has the {scoring} scoring, the published ones the {published.scoring} scoring")
        if mode != "end_to_end":
            reasons.append(f"it is a {mode.replace('_', '-')} evaluation, the published ones are end-to-end")
        if tasks != published.tasks:
            reasons.append(f"it has {tasks} tasks, the benchmark {published.tasks}")
        if reasons:
            notes.append(f"{run.name} cannot be compared with the published numbers: {'; '.join(reasons)}.")
    return notes


def differences_table(first: ScoredRun, others: Sequence[tuple[ScoredRun, Mapping[str, Any]]]) -> Table | None:
    """How other runs differ from the first, paired over the tasks that both have.

    Args:
        first ([`ScoredRun`]): what they are compared with.
        others (`list[tuple]`): runs, each with what [`~compare.compare_runs`] gave for the first and it.

    Returns:
        [`Table`], or `None` without other runs.
    """
    if not others:
        return None
    metrics = list(dict.fromkeys(name for _, comparison in others for name in comparison["metrics"]))
    rows = []
    for run, comparison in others:
        cells = [_difference(comparison["metrics"].get(name)) for name in metrics]
        answers = comparison["answers"] or {"p_value": None}
        p_value = NOTHING if answers["p_value"] is None else f"{answers['p_value']:.3g}"
        rows.append([run.name, str(comparison["num_tasks"]), *cells, p_value])
    header = ["agent", "tasks", *map(label_of, metrics), "p (McNemar, answers)"]
    return Table(f"Differences to {first.name} in points, paired by task, with 95 % intervals", header, rows)


def _difference(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["difference"] is None:
        return NOTHING
    low, high = (100 * bound for bound in metric["ci95"])
    return f"{100 * metric['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"


def breakdown_tables(runs: Sequence[ScoredRun], only: Sequence[str] | None = None) -> list[Table]:
    """One table per group of tasks, such as levels or tools, with every metric that has numbers there.

    Args:
        runs (`list[ScoredRun]`): scored runs.
        only (`list[str]`, *optional*): metrics that are shown; all by default.
    """
    groups = dict.fromkeys(group for run in runs for group in run.results["breakdown"])
    tables = []
    for group in groups:
        parts = [run.results["breakdown"].get(group, {}) for run in runs]
        values = sorted({value for part in parts for value in part})
        metrics = dict.fromkeys(name for part in parts for value in part.values() for name in value)
        metrics = [name for name in metrics if only is None or name in only]
        several = len(runs) > 1
        rows = [
            [value, *[run.name][:several], _count(part[value]), *(percent(part[value].get(name)) for name in metrics)]
            for value in values
            for run, part in zip(runs, parts, strict=True)
            if value in part
        ]
        header = [group, *["agent"][:several], "n", *map(label_of, metrics)]
        tables.append(Table(f"By {group}, in per cent with 95 % intervals", header, rows))
    return tables


def _count(metrics: Mapping[str, Any]) -> str:
    first = metrics.get("ans_acc") or next(iter(metrics.values()), {})
    return str(first.get("n", NOTHING))


def error_kinds(runs: Sequence[ScoredRun]) -> list[ErrorKind]:
    """Kinds of error, the most frequent first, each with the first tasks that had it."""
    kinds: dict[str, ErrorKind] = {}
    for index, run in enumerate(runs):
        for score in run.scores:
            if score.error_type is None:
                continue
            kind = kinds.setdefault(score.error_type, ErrorKind(score.error_type, [0] * len(runs)))
            kind.counts[index] += 1
            if len(kind.examples) < MAX_EXAMPLES:
                kind.examples.append(score)
    return sorted(kinds.values(), key=lambda kind: (-sum(kind.counts), kind.name))


def errors_table(runs: Sequence[ScoredRun], questions: bool) -> Table | None:
    """Kinds of error with the ids of the first tasks and, where questions may be shown, the reasons."""
    kinds = error_kinds(runs)
    rows = []
    for kind in kinds:
        reasons = [" ".join(score.reason.split()) if questions and score.reason else "" for score in kind.examples]
        reasons = [f": {text if len(text) <= 120 else f'{text[:119]}…'}" if text else "" for text in reasons]
        examples = [f"{score.task_id}{reason}" for score, reason in zip(kind.examples, reasons, strict=True)]
        rows.append([kind.name.replace("_", " "), *map(str, kind.counts), "; ".join(examples)])
    return Table("", ["error", *(run.name for run in runs), "examples"], rows) if kinds else None


def outcomes(run: ScoredRun) -> Counter[str]:
    """How many answers were right, wrong and without a verdict."""
    scores = run.scores or [attempt.score for attempt in run.attempts]
    return Counter(outcome_of(score) for score in scores)


def usage_means(run: ScoredRun) -> dict[str, float | None]:
    """Tokens, seconds and cost per task and seed; `None` where it is not known."""
    if run.results is not None:
        means = run.results["usage"].get("mean", {})
        return {name: means.get(name) for name in USAGE}
    values = [attempt.usage for attempt in run.attempts]
    return {name: fmean(usage[name] for usage in values) if values and name in values[0] else None for name in USAGE}


def usage_table(runs: Sequence[ScoredRun]) -> Table:
    """Means per task and seed."""
    rows = []
    for run in runs:
        means = usage_means(run)
        forms = {"input_tokens": "{:,.0f}", "output_tokens": "{:,.0f}", "seconds": "{:.1f}", "cost": "{:.4g}"}
        rows.append([run.name, *(NOTHING if means[n] is None else form.format(means[n]) for n, form in forms.items())])
    header = ["agent", "tokens read", "tokens written", "seconds", "cost"]
    return Table("Means per task", header, rows)


def settings_table(run: ScoredRun) -> Table:
    """What was run, as names and values to read."""
    results = run.results
    named = {
        "benchmark": results["benchmark"],
        "mode": results["mode"].replace("_", " "),
        "scoring": results["scoring"],
        **{f"scoring: {name}": value for name, value in results.get("scoring_details", {}).items()},
        "tasks": results["num_tasks"],
        "seeds": results.get("seeds", []),
        **{f"dataset: {name}": value for name, value in results["dataset"].items()},
        **{f"agent: {name}": value for name, value in results["agent"].items()},
        **{f"version: {name}": value for name, value in results.get("versions", {}).items()},
        "created": results.get("created"),
    }
    rows = [
        [name.replace("_", " "), _written(value)] for name, value in named.items() if value not in (None, [], {}, "")
    ]
    return Table("", ["setting", "value"], rows)


def _written(value: Any) -> str:
    """A value of a record in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_results(results: dict[str, Any], folder: str) -> None:
    """Print the metrics of a run with their intervals, and the breakdown by group.

    Args:
        results (`dict`): the content of `results.json`.
        folder (`str`): where it lies.
    """
    run = ScoredRun(results["agent"]["name"], [], results=results)
    dataset, details = results["dataset"], results["scoring_details"]
    print(
        f"{results['benchmark']} ({dataset['split']}), {results['mode'].replace('_', ' ')}, {results['scoring']} "
        f"scoring: {run.name}, {results['num_tasks']} tasks, seeds {results['seeds']}"
    )
    if details.get("embedding_model"):
        print(f"open answers scored with {details['embedding_model']}")
    unscored = {kind: number for kind, number in details.get("unscored", {}).items() if number}
    if unscored:
        print("not scored: " + ", ".join(f"{number} {kind}" for kind, number in unscored.items()))
    if details["skipped_rows"]:
        print(f"left out: {details['skipped_rows']} rows that cannot be used")
    rows = [[label_of(name), percent(metric), str(metric["n"])] for name, metric in results["metrics"].items()]
    metrics = Table("", ["metric", "% [95 % interval]", "n"], rows, right=1)
    print_tables(metrics, *breakdown_tables([run], _IN_TERMINAL), usage_table([run]))
    if results["errors"]:
        print("errors: " + ", ".join(f"{name} {number}" for name, number in results["errors"].items()))
    print(f"results: {folder}")


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print two runs side by side.

    Args:
        comparison (`dict`): what [`~evaluation.compare.compare_runs`] gave.
    """
    print(f"{comparison['benchmark']}, {comparison['num_tasks']} tasks of both runs")
    if comparison["only_in_one"]:
        print(f"left out: {comparison['only_in_one']} tasks that only one run has")
    rows = [
        [label_of(name), _share(metric["first"]), _share(metric["second"]), _difference(metric)]
        for name, metric in comparison["metrics"].items()
    ]
    print_tables(Table("", ["metric, %", *comparison["names"], "difference [95 % interval]"], rows))
    answers = comparison["answers"]
    if answers and answers["p_value"] is not None:
        print(
            f"right: both {answers['both']}, only the first {answers['only_first']}, only the second "
            f"{answers['only_second']}, neither {answers['neither']}; McNemar's exact test p = "
            f"{answers['p_value']:.3g}"
        )


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def shares_table(found: Distribution, limit: int = 20) -> Table:
    """Shares of a dataset beside those of the paper's MM-Traj; at most `limit` names that the paper does not have."""
    extra = [name for name in found.counts if name not in found.paper]
    left_out = set(extra[limit:])
    rows = [
        [name, f"{found.here.get(name, 0):.1f} ({found.counts.get(name, 0):,})", _paper_share(found.paper.get(name))]
        for name in found.names
        if name not in left_out
    ]
    if left_out:
        rows.append([f"{len(left_out)} more", f"{sum(found.here[name] for name in left_out):.1f}", ""])
    distance = "nothing to count" if found.distance is None else f"distance {found.distance:.3f}"
    return Table(f"{found.title}, {distance}", ["", "here, % (number)", "paper, %"], rows, right=2)


def _paper_share(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1f}"
