"""Families about tables and records: rows that are looked up, added, multiplied and compared."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask
from .files import write_csv, write_json, write_table, write_xlsx
from .words import BIRDS, DISHES, POOLS, person


class MatchScores(Scenario):
    """A table: find one row and add its numbers.

    Attributes:
        header (`tuple[str, str, str, str]`): names of the columns.
        pool (`str`): what the rows are about, a name of `POOLS`.
        bounds (`tuple[int, int]`): smallest and largest number.
    """

    header: ClassVar[tuple[str, str, str, str]]
    pool: ClassVar[str]
    bounds: ClassVar[tuple[int, int]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows = [(name, *(rng.randint(*self.bounds) for _ in range(3))) for name in rng.sample(POOLS[self.pool], 4)]
        key, *numbers = rng.choice(rows)
        path = self.path(rng)
        total = " + ".join(map(str, numbers))
        listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
        return self.build(
            self.phrase(rng, key=key),
            [write_table(folder, path, "Energy", [self.header, *rows])],
            str(sum(numbers)),
            (f"I read {key} in the file.", f'print(inspect_file_as_text("{path}", "{key}"))'),
            (f"{key} has {listed}.", f"final_answer({total})"),
        )


class ShopSales(Scenario):
    """An Excel sheet: find one row and multiply its numbers."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows = [(dish, rng.randint(2, 30), rng.randint(5, 200)) for dish in rng.sample(DISHES, 4)]
        dish, price, sold = rng.choice(rows)
        key, path = dish.lower(), self.path(rng)
        return self.build(
            self.phrase(rng, key=key),
            [write_xlsx(folder, path, "Sales", [("dish", "price", "sold"), *rows])],
            str(price * sold),
            (f"I read the {key} in the file.", f'print(inspect_file_as_text("{path}", "{key}"))'),
            (f"The price is {price} and {sold} were sold.", f"final_answer({price} * {sold})"),
        )


class BirdCounts(Scenario):
    """A CSV table: read all of it and name the largest or the smallest row."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        birds = rng.sample(BIRDS, 4)
        counts = dict(zip(birds, rng.sample(range(2, 160), len(birds)), strict=True))
        path = self.path(rng)
        extreme, function = rng.choice((("most", max), ("least", min)))
        literal = ", ".join(f'"{bird}": {count}' for bird, count in counts.items())
        return self.build(
            self.phrase(rng, extreme=extreme),
            [write_csv(folder, path, [("bird", "seen"), *counts.items()])],
            function(counts, key=counts.__getitem__),
            ("I read the table in the file.", f'print(inspect_file_as_text("{path}"))'),
            (
                f"I look for the bird with the {extreme}.",
                f"seen = {{{literal}}}\nfinal_answer({function.__name__}(seen, key=seen.get))",
            ),
        )


class DeviceRecord(Scenario):
    """A JSON record: look up one field."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {
            "battery": rng.randint(1000, 9000),
            "owner": person(rng),
            "port": rng.randint(1000, 9999),
            "speed": rng.randint(10, 990),
        }
        key, path = rng.choice(list(facts)), self.path(rng)
        record = dict(rng.sample(list(facts.items()), len(facts)))
        value = str(facts[key])
        return self.build_lookup(self.phrase(rng, key=key), write_json(folder, path, record), key, value)
