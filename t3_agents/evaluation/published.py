"""The paper's published figures, to set beside own ones: results on benchmarks, and what its MM-Traj holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml


PAPER_FILE = Path(__file__).with_name("paper.yaml")
AXES = ("file_types", "tools", "domains", "steps")
"""On which the paper states what its dataset holds."""


def citation(key: str) -> str:
    """The BibTeX entry of a paper, by its key."""
    entries = Path(__file__).with_name("papers.bib").read_text(encoding="utf-8").split("\n\n")
    return next(entry.strip() + "\n" for entry in entries if f"{{{key}," in entry)


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

    @classmethod
    def read(cls, path: Path) -> PublishedTable:
        """Read a `published.yaml`. Where it names no `source` and `url`, its numbers are those of the paper."""
        table = {
            **{name: _paper()[name] for name in ("source", "url")},
            **yaml.safe_load(path.read_text(encoding="utf-8")),
        }
        columns = tuple(Column(**column) for column in table.pop("columns"))
        rows = tuple(PublishedRow(**{**row, "values": tuple(row["values"])}) for row in table.pop("rows"))
        return cls(**table, columns=columns, rows=rows)


@cache
def _paper() -> dict[str, Any]:
    return yaml.safe_load(PAPER_FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Distribution:
    """What a dataset holds on one axis, beside the paper's MM-Traj.

    Args:
        title (`str`): name of the axis.
        counts (`dict[str, float]`): of the dataset by name, the most frequent first; steps in the order of numbers.
        here (`dict[str, float]`), paper (`dict[str, float]`): shares in per cent.
    """

    title: str
    counts: Mapping[str, float]
    here: Mapping[str, float]
    paper: Mapping[str, float]

    @property
    def names(self) -> list[str]:
        """All names: those of the dataset, then those that only the paper has; steps in the order of numbers."""
        names = dict.fromkeys([*self.counts, *self.paper])
        return sorted(names, key=int) if all(map(str.isdecimal, names)) else list(names)

    @property
    def distance(self) -> float | None:
        """Total variation, 0 for equal and 1 for disjoint shares; `None` where the dataset has nothing to count."""
        if not self.here:
            return None
        return sum(abs(self.here.get(name, 0.0) - self.paper.get(name, 0.0)) for name in self.names) / 200


def paper_shares(axis: str) -> dict[str, float]:
    """Shares of the paper's MM-Traj in per cent on `file_types`, `tools`, `domains` or `steps`."""
    entry = _paper()["mm_traj"][axis]
    return entry["shares"] if "shares" in entry else _in_per_cent(entry["counts"])


def beside_paper(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, Distribution]:
    """The distributions that the paper states, of a dataset and of the paper.

    Counts go under the names of the paper: rare file types are `other`, and calls of `final_answer` do not count.

    Args:
        statistics (`dict`): counts by axis and name; other entries are passed over.

    Returns:
        `dict[str, Distribution]`: for `file_types`, `tools`, `domains` and `steps`.
    """
    found = {}
    for axis in AXES:
        entry, paper, counts = _paper()["mm_traj"][axis], paper_shares(axis), Counter()
        for name, count in statistics[axis].items():
            if name not in entry.get("uncounted", ()):
                counts[entry["rest"] if "rest" in entry and name not in paper else name] += count
        ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        found[axis] = Distribution(entry["title"], ordered, _in_per_cent(ordered), paper)
    return found


def _in_per_cent(counts: Mapping[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: 100 * count / total for name, count in counts.items()} if total else {}
