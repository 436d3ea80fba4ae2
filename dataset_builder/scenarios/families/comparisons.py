"""Families without a file: facts about several countries are searched for, then compared or added."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask
from .countries import TOPICS, search


def _exact(expression: str, *values: str) -> str:
    """The answer of a `round(..., 2)` over the values, worked out in decimals."""
    numbers = [Decimal(value) for value in values]
    total = sum(numbers) if expression == "sum" else max(numbers) - min(numbers)
    return str(float(total))


class Difference(Scenario):
    """Two countries are searched for in one step; the answer is the difference.

    Attributes:
        topics (`tuple[str, ...]`): what may be compared, names of `TOPICS`.
    """

    topics: ClassVar[tuple[str, ...]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic = TOPICS[rng.choice(self.topics)]
        first, second = rng.sample(sorted(topic.values), 2)
        while topic.values[first] == topic.values[second]:
            first, second = rng.sample(sorted(topic.values), 2)
        low, high = sorted((first, second), key=lambda name: float(topic.values[name]))
        above, below = topic.values[high], topic.values[low]
        return self.build(
            self.phrase(rng, topic=topic.name, first=first, second=second),
            [],
            _exact("difference", above, below),
            (
                f"I search for the {topic.search} of {first} and {second}.",
                f"{search(topic.search, first)}\n{search(topic.search, second)}",
            ),
            (f"They are {above} and {below}.", f"final_answer(round({above} - {below}, 2))"),
        )


class Tour(Scenario):
    """Countries are searched for one by one; the answer adds or spans what was found.

    Attributes:
        topic (`str`): what is asked of every country, a name of `TOPICS`.
        stops (`tuple[int, ...]`): how many countries there may be.
        way (`str`): `sum`, or `span` for the largest minus the smallest.
    """

    topic: ClassVar[str]
    stops: ClassVar[tuple[int, ...]]
    way: ClassVar[str] = "sum"

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic = TOPICS[self.topic]
        values = topic.values
        countries = rng.sample(sorted(values), rng.choice(self.stops))
        if self.way == "span" and len({values[name] for name in countries}) == 1:
            return self.make(rng, folder)
        found = [values[name] for name in countries]
        if self.way == "sum":
            code = f"final_answer(round({' + '.join(found)}, 2))"
        else:
            code = f"final_answer(round({max(found, key=float)} - {min(found, key=float)}, 2))"
        listed = f"{', '.join(countries[:-1])} and {countries[-1]}"
        return self.build(
            self.phrase(rng, countries=listed, topic=topic.name),
            [],
            _exact(self.way, *found),
            *((f"Next I search for {name}.", search(topic.search, name)) for name in countries),
            (f"The values are {', '.join(found)}.", code),
        )


class CapitalQuiz(Scenario):
    """The capital of a country, without a file."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        capitals = TOPICS["capital"]
        country = rng.choice(sorted(capitals.values))
        capital = capitals.values[country]
        return self.build(
            self.phrase(rng, country=country),
            [],
            capital,
            (f"I search for the capital of {country}.", search("capital", country)),
            (f"The capital is {capital}.", f'final_answer("{capital}")'),
        )
