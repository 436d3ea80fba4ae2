"""The paper's published results on GTA and GAIA, to set beside own ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml


PUBLISHED_FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Column:
    """One published number per method.

    Args:
        label (`str`): heading.
        metric (`str`): its name in `results.json`.
        group (`str`, *optional*), value (`str`, *optional*): part of the tasks, for example `level` and `1`; all tasks
            by default.
    """

    label: str
    metric: str
    group: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class PublishedRow:
    """One method: `values` are per cent in the order of the columns, `None` where nothing was published."""

    method: str
    controller: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class PublishedTable:
    """The published results on one benchmark.

    Args:
        title (`str`): name of the benchmark and its split.
        tasks (`int`): tasks of that split.
        scoring (`str`, *optional*): the scoring with which an own run can be compared; `None` when there is one only.
        caution (`str`): what to keep in mind when comparing.
        source (`str`), url (`str`): where the numbers are from.
        columns (`tuple[Column, ...]`), rows (`tuple[PublishedRow, ...]`): the numbers.
    """

    title: str
    tasks: int
    scoring: str | None
    caution: str
    source: str
    url: str
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]


@cache
def _tables() -> dict[str, PublishedTable]:
    content = yaml.safe_load(PUBLISHED_FILE.read_text(encoding="utf-8"))
    tables = {}
    for name, table in content["benchmarks"].items():
        columns = tuple(Column(**column) for column in table.pop("columns"))
        rows = tuple(PublishedRow(**{**row, "values": tuple(row["values"])}) for row in table.pop("rows"))
        tables[name] = PublishedTable(
            **table, source=content["source"], url=content["url"], columns=columns, rows=rows
        )
    return tables


def published_results(benchmark: str) -> PublishedTable | None:
    """What the paper published on a benchmark.

    Args:
        benchmark (`str`): `gta`, `gaia` or another name.

    Returns:
        [`PublishedTable`], or `None` when the paper has no numbers on it.
    """
    return _tables().get(benchmark)
