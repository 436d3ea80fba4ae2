"""Families about pictures: slips and charts that are read, things and people that are counted."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask
from .files import COLORS, SHAPES, draw_bars, draw_page, draw_people, draw_shapes, save_picture
from .words import CITIES, DISHES, date, money, person


_PAPERS = ((255, 255, 255), (252, 250, 240), (246, 249, 255), (250, 246, 246))


def bill(rng: random.Random) -> tuple[list[tuple[str, str]], float]:
    """Rows of a restaurant bill, the total last, and the total."""
    rows = [(dish, money(rng, 2, 30)) for dish in rng.sample(DISHES, rng.randint(2, 3))]
    total = round(sum(float(price) for _, price in rows), 2)
    return [*rows, ("TOTAL", f"{total:.2f}")], total


def shop(rng: random.Random) -> str:
    """Title of a bill."""
    return f"{rng.choice(('CAFE', 'BAR', 'HOTEL', 'GRILL', 'BISTRO'))} {rng.choice(CITIES).upper()}"


class ReceiptTip(Scenario):
    """A bill: read its total, and add the tip where the query names one."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows, total = bill(rng)
        path, tip, query = self.path(rng), money(rng, 1, 9), self.phrasing(rng)
        file = save_picture(draw_page(rows, shop(rng), rng.choice(_PAPERS)), folder, path)
        if "{tip}" not in query:
            return self.build_lookup(query, file, "total", f"{total:.2f}")
        return self.build(
            query.format(tip=tip),
            [file],
            str(round(total + float(tip), 2)),
            ("I read the total in the picture.", f'print(visualizer("{path}", "total"))'),
            (f"I add the tip of {tip} to {total:.2f}.", f"final_answer(round({total:.2f} + {tip}, 2))"),
        )


class TwoBills(Scenario):
    """Two bills in two pictures: read both, add them."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        stem = rng.choice(("bill", "receipt", "meal", "day"))
        files, totals = [], []
        for number in (1, 2):
            rows, total = bill(rng)
            page = draw_page(rows, shop(rng), rng.choice(_PAPERS))
            files.append(save_picture(page, folder, f"files/{stem}_{number}.png"))
            totals.append(f"{total:.2f}")
        first, second = totals
        return self.build(
            self.phrase(rng),
            files,
            str(round(float(first) + float(second), 2)),
            (
                "I read the total in both pictures.",
                "\n".join(f'print(visualizer("{file.path}", "total"))' for file in files),
            ),
            (f"The totals are {first} and {second}.", f"final_answer(round({first} + {second}, 2))"),
        )


class RainChart(Scenario):
    """A bar chart: read one value, or two and take their difference, as the query says."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        values = dict(zip(rng.sample(CITIES, 4), rng.sample(range(20, 190), 4), strict=True))
        low, high = sorted(rng.sample(list(values), 2), key=values.__getitem__)
        path, query = self.path(rng), self.phrasing(rng)
        chart = draw_bars(f"Rainfall in {rng.randint(1990, 2025)}", values, "mm", rng.choice(list(COLORS.values())))
        file = save_picture(chart, folder, path)
        if "{low}" not in query:
            return self.build_lookup(query.format(key=high), file, high, str(values[high]))
        return self.build(
            query.format(low=low, high=high),
            [file],
            str(values[high] - values[low]),
            (f"I read {high} and {low} in the picture.", f'print(visualizer("{path}", "{high} and {low}"))'),
            (
                f"I subtract: {high} has {values[high]} and {low} has {values[low]}.",
                f"final_answer({values[high]} - {values[low]})",
            ),
        )


class MedicineLabel(Scenario):
    """A label: read one value, and multiply it where the query names a number of doses."""

    _drugs = ("Ibuprofen", "Aspirin", "Cetirizine", "Loratadine", "Naproxen", "Codeine", "Metformin", "Ramipril")

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        dose, count, path = 5 * rng.randint(3, 160), rng.randint(3, 28), self.path(rng)
        facts = {"dose": f"{dose} mg", "tablets": str(rng.randint(10, 99)), "lot": str(rng.randint(1000, 9999))}
        names, query, key = rng.sample(list(facts), 3), self.phrasing(rng), rng.choice(list(facts))
        rows = [(name.capitalize(), facts[name]) for name in names]
        file = save_picture(draw_page(rows, rng.choice(self._drugs), rng.choice(_PAPERS)), folder, path)
        if "{count}" not in query:
            return self.build_lookup(query.format(key=key), file, key, facts[key])
        return self.build(
            query.format(count=count),
            [file],
            str(dose * count),
            ("I read the dose in the picture.", f'print(visualizer("{path}", "dose"))'),
            (f"I multiply one dose of {dose} mg by {count}.", f"final_answer({dose} * {count})"),
        )


class DevicePlate(Scenario):
    """A name plate: read one value and repeat it.

    Attributes:
        values (`dict[str, tuple[int, int]]`): what may stand on it, with the smallest and the largest value.
        title (`str`): start of the title.
    """

    values: ClassVar[dict[str, tuple[int, int]]]
    title: ClassVar[str]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: str(rng.randint(*bounds)) for key, bounds in self.values.items()}
        keys = rng.sample(list(facts), 3)
        key, path = rng.choice(keys), self.path(rng)
        rows = [(shown.capitalize(), facts[shown]) for shown in keys]
        title = f"{self.title} {rng.choice('ABCDEFGHKMNPRTUVX')}{rng.randint(10, 99)}"
        page = draw_page(rows, title, rng.choice(_PAPERS))
        return self.build_lookup(self.phrase(rng, key=key), save_picture(page, folder, path), key, facts[key])


class RotatedLabel(Scenario):
    """A museum label that hangs upside down: turn it, then read one value."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"artist": person(rng), "year": str(rng.randint(1500, 1999)), "room": str(rng.randint(10, 99))}
        key, path = rng.choice(list(facts)), self.path(rng)
        rows = [(name.capitalize(), value) for name, value in facts.items()]
        page = draw_page(rows, rng.choice(("PORTRAIT", "LANDSCAPE", "HARBOUR", "STILL LIFE", "SUNSET")), width=256)
        return self.build(
            self.phrase(rng, key=key),
            [save_picture(page.rotate(180), folder, path)],
            facts[key],
            ("I turn the picture first.", f'path = image_edit("rotate 180 degrees", "{path}")\nprint(path)'),
            (f"I read the {key} in the new picture.", f'print(visualizer(path, "{key}"))'),
            (f"The {key} is {facts[key]}.", f'final_answer("{facts[key]}")'),
        )


class GameBoard(Scenario):
    """A drawing with shapes of several kinds and colors: count one of them."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        wanted, *others = rng.sample(SHAPES, 3)
        count, path = rng.randint(2, 7), self.path(rng)
        shapes = [wanted] * count + rng.choices(others, k=rng.randint(2, 5))
        picture = draw_shapes(rng, shapes, (245, 245, 245))
        thing = " ".join(wanted)
        return self.build(
            self.phrase(rng, thing=thing),
            [save_picture(picture, folder, path)],
            str(count),
            (f"I locate every {thing}.", f'print(len(objectlocation("{thing}", "{path}")))'),
            (f"There are {count}.", f'final_answer("{count}")'),
        )


class GroupTicket(Scenario):
    """A photo of a group: count the faces, multiply by a price from the query."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        count, price, path = rng.randint(2, 4), rng.randint(3, 60), self.path(rng)
        return self.build(
            self.phrase(rng, price=price),
            [save_picture(draw_people(rng, count), folder, path)],
            str(count * price),
            ("The picture is a photo of people, so I count faces.", f'print(len(facedetection("{path}")))'),
            (f"There are {count} people and each pays {price}.", f"final_answer({count} * {price})"),
        )


class ConcertPoster(Scenario):
    """A poster: read one text value and repeat it."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"date": date(rng), "singer": person(rng), "price": money(rng, 8, 60)}
        key, path = rng.choice(list(facts)), self.path(rng)
        rows = [(name.capitalize(), value) for name, value in facts.items()]
        page = draw_page(rows, f"{rng.choice(CITIES).upper()} LIVE", rng.choice(_PAPERS), width=290)
        return self.build_lookup(self.phrase(rng, key=key), save_picture(page, folder, path), key, facts[key])
