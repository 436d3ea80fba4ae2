"""What the metric modules share: how they describe themselves, check their input and keep rows until `compute`."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import datasets
import evaluate

from t3_agents.errors import InputError
from t3_agents.evaluation.published import citation


AGENT_TUNING, GTA, GAIA = map(citation, ("gao2025multimodal", "wang2024gta", "mialon2023gaia"))
_RAISES = """\
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry cannot be used, the lengths differ, or a model
        that is needed cannot be loaded.
"""


class RowMetric(evaluate.Metric, ABC):
    """A metric whose rows are kept as JSON, since `evaluate` takes no `None` for a string and no mixed types.

    The docstring of a subclass is its description, up to `Args:`, and its `inputs_description`.

    Attributes:
        paper (`str`): BibTeX entry of the source, with its `url`.
        kind (`type` or `tuple`): what an entry of `predictions` must be.
        columns (`tuple[str, ...]`): names of the inputs.
    """

    paper: ClassVar[str]
    kind: ClassVar[Any] = (str, type(None))
    columns: ClassVar[tuple[str, ...]] = ("predictions", "references")

    def _info(self) -> evaluate.MetricInfo:
        description, _, inputs = inspect.getdoc(type(self)).partition("Args:")
        inputs, _, examples = inputs.partition("Examples:")
        return evaluate.MetricInfo(
            description=description,
            citation=self.paper,
            inputs_description=f"Args:{inputs}{_RAISES}Examples:{examples}",
            features=datasets.Features({name: datasets.Value("string") for name in self.columns}),
            reference_urls=[self.paper.split("{")[-1].split("}")[0]],
        )

    @abstractmethod
    def check(self, *row: Any) -> None:
        """Check a row: what was predicted and, where the metric has them, what is known.

        Raises:
            InputError: saying what is wrong with it.
        """

    @abstractmethod
    def measure(self, *columns: list[Any], **options: Any) -> dict[str, Any]:
        """The metric of all rows."""

    def add_batch(self, **columns: Any) -> None:
        """Add rows.

        Raises:
            InputError: when a column is no list, the lengths differ, or an entry cannot be used.
        """
        given = [columns.get(name) for name in self.columns]
        for name, values in zip(self.columns, given, strict=True):
            if not isinstance(values, (list, tuple)):
                raise InputError(f"`{name}` must be a list with one entry per task, not {type(values).__name__}.")
        if len({len(values) for values in given}) > 1:
            raise InputError(f"There are {len(given[0])} predictions but {len(given[1])} references: give one each.")
        for number, row in enumerate(zip(*given, strict=True)):
            if not isinstance(row[0], self.kind):
                raise InputError(f"Entry {number} of `predictions` must not be of type {type(row[0]).__name__}.")
            try:
                self.check(*row)
            except InputError as error:
                raise InputError(f"Row {number} cannot be scored: {error}") from None
        rows = zip(self.columns, given, strict=True)
        super().add_batch(**{name: list(map(json.dumps, values)) for name, values in rows})

    def add(self, **row: Any) -> None:
        """Add one row: `prediction` and, where the metric has them, `reference`."""
        self.add_batch(**{f"{name}s": [value] for name, value in row.items()})

    def _compute(self, **columns: Any) -> dict[str, Any]:
        rows = [list(map(json.loads, columns.pop(name))) for name in self.columns]
        return self.measure(*rows, **columns)
