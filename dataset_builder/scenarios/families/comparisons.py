"""Families without a file: facts about several countries are searched for, then compared or added."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask
from .country_facts import (
    AGE,
    BIRTHS,
    CAPITAL,
    DOCTORS,
    FOREST,
    INDEPENDENCE,
    INFLATION,
    INTERNET,
    LIFE,
    MOBILE,
    OBESITY,
    PEAK,
    RAILWAYS,
    UNEMPLOYMENT,
    Topic,
)


def search(topic: Topic, country: str) -> str:
    """The call that finds a topic of a country."""
    return f'print(ask_search_agent("{topic.search} of {country}"))'


def _exact(expression: str, *values: str) -> str:
    """The answer of a `round(..., 2)` over the values, worked out in decimals."""
    numbers = [Decimal(value) for value in values]
    total = sum(numbers) if expression == "sum" else max(numbers) - min(numbers)
    return str(float(total))


class _Difference(Scenario):
    """Two countries are searched for in one step; the answer is the difference.

    Attributes:
        topics (`tuple[Topic, ...]`): what may be compared.
    """

    topics: ClassVar[tuple[Topic, ...]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic = rng.choice(self.topics)
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
                f"{search(topic, first)}\n{search(topic, second)}",
            ),
            (f"They are {above} and {below}.", f"final_answer(round({above} - {below}, 2))"),
        )


class HealthGap(_Difference):
    """Health of two countries."""

    name = "health_gap"
    domain = "health"
    topics = (LIFE, OBESITY, DOCTORS)
    phrasings = (
        "How far apart are {first} and {second} in the {topic}?",
        "What is the gap between {first} and {second} in the {topic}?",
        "Look up the {topic} in {first} and in {second}. What is the difference?",
        "By how much does the {topic} of {first} differ from that of {second}?",
        "Compare the {topic} of {first} with that of {second} and give the difference.",
    )


class IndependenceGap(_Difference):
    """Years between two independences."""

    name = "independence_gap"
    domain = "history"
    topics = (INDEPENDENCE,)
    phrasings = (
        "How many years lie between the independence of {first} and that of {second}?",
        "Take the {topic} of {first} and of {second}. How many years are in between?",
        "{first} and {second} became independent in different years. How many years apart?",
        "What is the difference in years between the independence of {first} and of {second}?",
        "How many years apart did {first} and {second} become independent?",
    )


class PriceGap(_Difference):
    """Inflation or unemployment of two countries."""

    name = "price_gap"
    domain = "finance"
    topics = (INFLATION, UNEMPLOYMENT)
    phrasings = (
        "How many points lie between the {topic} of {first} and of {second}?",
        "By how many points do {first} and {second} differ in the {topic}?",
        "Find the {topic} of {first} and of {second} and subtract the smaller one.",
        "What separates {first} from {second} in the {topic}, in points?",
        "I compare markets: what is the difference in the {topic} of {first} and {second}?",
    )


class ForestGap(_Difference):
    """Forest of two countries."""

    name = "forest_gap"
    domain = "environment"
    topics = (FOREST,)
    phrasings = (
        "How many points lie between the {topic} of {first} and the one of {second}?",
        "One of {first} and {second} is greener. How many points is the gap in the {topic}?",
        "Look up the {topic} of {first} and {second}. How large is the gap?",
        "Which gap is there in the {topic} between {first} and {second}?",
        "By how many points does the {topic} of {first} differ from {second}?",
    )


class PeakGap(_Difference):
    """Highest points of two countries."""

    name = "peak_gap"
    domain = "nature"
    topics = (PEAK,)
    phrasings = (
        "Climbing the highest points of {first} and {second}: how many metres separate them?",
        "How many metres higher is one than the other: the highest points of {first} and {second}?",
        "What is the difference in metres between the highest points of {first} and {second}?",
        "Find the {topic} of {first} and of {second}. How many metres are between them?",
    )


class PeopleGap(_Difference):
    """Validation: age and births of two countries."""

    name = "people_gap"
    domain = "social"
    split = "validation"
    topics = (AGE, BIRTHS)
    phrasings = (
        "Set the {topic} of {first} against that of {second}. What remains?",
        "Between {first} and {second}, how wide is the spread of the {topic}?",
        "For {first} and {second}, tell me how much the {topic} varies.",
        "Subtract the {topic} of the one from the other: {first}, {second}.",
    )


class RailGap(_Difference):
    """Test: railways of two countries."""

    name = "rail_gap"
    domain = "transportation"
    split = "test"
    topics = (RAILWAYS,)
    phrasings = (
        "If {first} and {second} laid their railways side by side, how many km longer is one?",
        "How many km of railway has the one of {first} and {second} more than the other?",
        "Railways of {first} versus {second}: what is the distance in km between the two figures?",
        "State the surplus of railway km between {first} and {second}.",
    )


class OnlineGap(_Difference):
    """Internet and mobile telephones of two countries."""

    name = "online_gap"
    domain = "technology"
    topics = (INTERNET, MOBILE)
    phrasings = (
        "How does the {topic} of {first} differ from {second}? Give the difference.",
        "What is the distance between {first} and {second} in the {topic}?",
        "Check the {topic} in {first} and {second}: how big is the difference?",
        "Which difference in the {topic} do {first} and {second} show?",
    )


class _Tour(Scenario):
    """Countries are searched for one by one; the answer adds or spans what was found.

    Attributes:
        topic (`Topic`): what is asked of every country.
        stops (`tuple[int, ...]`): how many countries there may be.
        way (`str`): `sum`, or `span` for the largest minus the smallest.
    """

    topic: ClassVar[Topic]
    stops: ClassVar[tuple[int, ...]]
    way: ClassVar[str] = "sum"

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        values = self.topic.values
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
            self.phrase(rng, countries=listed, topic=self.topic.name),
            [],
            _exact(self.way, *found),
            *((f"Next I search for {name}.", search(self.topic, name)) for name in countries),
            (f"The values are {', '.join(found)}.", code),
        )


class HistoryTour(_Tour):
    """The span of years in which several countries became independent."""

    name = "history_tour"
    domain = "history"
    topic, stops, way = INDEPENDENCE, (3, 3, 3, 4, 4, 5), "span"
    phrasings = (
        "In which span of years did {countries} become independent?",
        "How many years passed from the first to the last independence of {countries}?",
        "Between the earliest and the latest independence of {countries}, how many years are there?",
        "Count the years between the first and the last independence among {countries}.",
        "Put {countries} in order of independence. How many years does the list span?",
    )


class NetworkTour(_Tour):
    """The railways of several countries in all."""

    name = "network_tour"
    domain = "transportation"
    topic, stops = RAILWAYS, (3, 4, 4, 5, 6)
    phrasings = (
        "How many km of railway do {countries} have together?",
        "Add the railways of {countries}. How many km is that?",
        "What is the {topic} of {countries} in all?",
        "A rail pass covers {countries}. How many km of railway can I use?",
        "Sum up the {topic} of {countries}.",
    )


class ClimbTour(_Tour):
    """The metres of all highest points of several countries."""

    name = "climb_tour"
    domain = "sports"
    topic, stops = PEAK, (3, 4, 5, 6, 7)
    phrasings = (
        "I climb the highest points of {countries}. How many metres above the sea is that in all?",
        "Add the heights of the highest points of {countries}.",
        "What do the highest points of {countries} add up to in metres?",
        "Our club climbs the highest points of {countries}. What is the sum of their heights?",
    )


class MarketTour(_Tour):
    """The span of unemployment among several countries."""

    name = "market_tour"
    domain = "finance"
    topic, stops, way = UNEMPLOYMENT, (3, 3, 4, 5), "span"
    phrasings = (
        "Among {countries}, how far apart are the highest and the lowest {topic}?",
        "What is the range of the {topic} over {countries}?",
        "Take the {topic} of {countries}. How many points are between top and bottom?",
        "Find the largest and the smallest {topic} of {countries} and give their difference.",
    )


class CareTour(_Tour):
    """Test: the span of life expectancy among several countries."""

    name = "care_tour"
    domain = "health"
    split = "test"
    topic, stops, way = LIFE, (2, 3, 4), "span"
    phrasings = (
        "Where lives are longest and where they are shortest, by how many years do {countries} differ?",
        "Of {countries}, state by how many years the best {topic} beats the worst.",
        "Rank {countries} by {topic}. How many years separate the ends of the ranking?",
        "Over {countries}, what stretch of years does the {topic} cover?",
    )


class CapitalQuiz(Scenario):
    """The capital of a country, without a file."""

    name = "capital_quiz"
    domain = "culture"
    phrasings = (
        "What is the capital of {country}?",
        "Name the capital of {country} for my quiz.",
        "Which city is the capital of {country}?",
        "Look up the capital of {country}.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country = rng.choice(sorted(CAPITAL.values))
        capital = CAPITAL.values[country]
        return self.build(
            self.phrase(rng, country=country),
            [],
            capital,
            (f"I search for the capital of {country}.", search(CAPITAL, country)),
            (f"The capital is {capital}.", f'final_answer("{capital}")'),
        )
