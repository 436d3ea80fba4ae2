"""Families about tables and records: rows that are looked up, added, multiplied and compared."""

from __future__ import annotations

import random
from pathlib import Path

from ..base import Scenario, ScenarioTask
from .files import write_csv, write_json, write_xlsx
from .words import BIRDS, DISHES, FIRST_NAMES, person


class MatchScores(Scenario):
    """A CSV table: find one row and add its numbers."""

    name = "match_scores"
    domain = "sports"
    paths = ("files/scores.csv", "files/games.csv", "files/team.csv", "files/season.csv")
    phrasings = (
        "How many points did {key} score in all?",
        "What is the sum of the points of {key}?",
        "Add all points of {key}.",
        "How many points does {key} have after three games?",
        "What did {key} score over the three games?",
    )
    header = ("player", "game 1", "game 2", "game 3")
    pool = FIRST_NAMES
    bounds = (2, 40)

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows = [(name, *(rng.randint(*self.bounds) for _ in range(3))) for name in rng.sample(self.pool, 4)]
        key, *numbers = rng.choice(rows)
        path = rng.choice(self.paths)
        total = " + ".join(map(str, numbers))
        listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
        return self.build(
            self.phrase(rng, key=key),
            [self.write(folder, path, [self.header, *rows])],
            str(sum(numbers)),
            (f"I read {key} in the file.", f'print(inspect_file_as_text("{path}", "{key}"))'),
            (f"{key} has {listed}.", f"final_answer({total})"),
        )

    def write(self, folder: Path, path: str, rows: list):
        return write_csv(folder, path, rows)


class EnergyReadings(MatchScores):
    """Unseen: meter readings of rooms in an Excel sheet, added like the points of a player."""

    name = "energy_readings"
    domain = "environment"
    unseen = True
    paths = ("files/energy.xlsx", "files/meter.xlsx", "files/power.xlsx", "files/house.xlsx")
    phrasings = (
        "How much energy did the {key} use in all?",
        "What is the sum of the readings of the {key}?",
        "Add all readings of the {key}.",
        "How much did the {key} use over the three weeks?",
    )
    header = ("place", "week 1", "week 2", "week 3")
    pool = ("kitchen", "garage", "office", "cellar", "attic", "garden", "hall", "studio", "library", "bathroom")
    bounds = (10, 300)

    def write(self, folder: Path, path: str, rows: list):
        return write_xlsx(folder, path, "Energy", rows)


class ShopSales(Scenario):
    """An Excel sheet: find one row and multiply its numbers."""

    name = "shop_sales"
    domain = "food"
    paths = ("files/sales.xlsx", "files/shop.xlsx", "files/week.xlsx", "files/kitchen.xlsx")
    phrasings = (
        "How much money did we make with {key}?",
        "What did {key} bring in all?",
        "How much did the guests pay for {key}?",
        "What is the income from {key}?",
        "How much did {key} earn us?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows = [(dish, rng.randint(2, 30), rng.randint(5, 200)) for dish in rng.sample(DISHES, 4)]
        dish, price, sold = rng.choice(rows)
        key, path = dish.lower(), rng.choice(self.paths)
        return self.build(
            self.phrase(rng, key=key),
            [write_xlsx(folder, path, "Sales", [("dish", "price", "sold"), *rows])],
            str(price * sold),
            (f"I read the {key} in the file.", f'print(inspect_file_as_text("{path}", "{key}"))'),
            (f"The price is {price} and {sold} were sold.", f"final_answer({price} * {sold})"),
        )


class BirdCounts(Scenario):
    """A CSV table: read all of it and name the largest or the smallest row."""

    name = "bird_counts"
    domain = "nature"
    paths = ("files/birds.csv", "files/counts.csv", "files/walk.csv", "files/park.csv")
    phrasings = (
        "Which bird was seen {extreme} often?",
        "Name the bird that was seen {extreme} often.",
        "What is the bird with the {extreme} sightings?",
        "Which bird in the table has the {extreme} sightings?",
        "Find the bird that people saw {extreme} often.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        birds = rng.sample(BIRDS, 4)
        counts = dict(zip(birds, rng.sample(range(2, 160), len(birds)), strict=True))
        path = rng.choice(self.paths)
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

    name = "device_record"
    domain = "technology"
    paths = ("files/device.json", "files/config.json", "files/record.json", "files/sensor.json")
    phrasings = (
        "What is the {key} of this device?",
        "Which {key} does the record give?",
        "Find the {key} in this record.",
        "Tell me the {key} of the device.",
        "I need the {key} from the record.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {
            "battery": rng.randint(1000, 9000),
            "owner": person(rng),
            "port": rng.randint(1000, 9999),
            "speed": rng.randint(10, 990),
        }
        key, path = rng.choice(list(facts)), rng.choice(self.paths)
        record = dict(rng.sample(list(facts.items()), len(facts)))
        value = str(facts[key])
        return self.build_lookup(rng, write_json(folder, path, record), key, value)
