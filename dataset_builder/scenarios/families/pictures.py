"""Families about pictures: slips and charts that are read, things and people that are counted."""

from __future__ import annotations

import random
from pathlib import Path

from ..base import Scenario, ScenarioTask
from .files import COLORS, draw_bars, draw_page, draw_people, draw_shapes, save_picture
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
    """A bill and a tip: read one value, add one from the query."""

    name = "receipt_tip"
    domain = "food"
    paths = ("files/bill.png", "files/receipt.png", "files/lunch.png", "files/dinner.png")
    phrasings = (
        "What is the total of this bill with a tip of {tip}?",
        "How much do I pay in total with a {tip} tip?",
        "Add a tip of {tip} to the total. What do I pay?",
        "I leave a tip of {tip}. What is the total then?",
        "What does this meal cost with a tip of {tip}?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        rows, total = bill(rng)
        path, tip = rng.choice(self.paths), money(rng, 1, 9)
        file = save_picture(draw_page(rows, shop(rng), rng.choice(_PAPERS)), folder, path)
        return self.build(
            self.phrase(rng, tip=tip),
            [file],
            str(round(total + float(tip), 2)),
            ("I read the total in the picture.", f'print(visualizer("{path}", "total"))'),
            (f"The total is {total:.2f} and the tip is {tip}.", f"final_answer(round({total:.2f} + {tip}, 2))"),
        )


class TwoBills(Scenario):
    """Two bills in two pictures: read both, add them."""

    name = "two_bills"
    domain = "finance"
    phrasings = (
        "What do both bills cost together?",
        "What is the sum of the two totals?",
        "Add the totals of both bills.",
        "How much did I spend on these two bills?",
        "What do I pay for the two bills in all?",
    )

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
    """A bar chart: read two values, take their difference."""

    name = "rain_chart"
    domain = "environment"
    paths = ("files/chart.jpg", "files/rain.jpg", "files/bars.jpg", "files/weather.jpg")
    phrasings = (
        "How many mm more rain fell in {high} than in {low}?",
        "By how many mm is {high} wetter than {low}?",
        "What is the difference in rain between {high} and {low}?",
        "How much more rain did {high} get than {low}?",
        "Compare the rain in {high} and {low}. What is the difference?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        values = dict(zip(rng.sample(CITIES, 4), rng.sample(range(20, 190), 4), strict=True))
        low, high = sorted(rng.sample(list(values), 2), key=values.__getitem__)
        path = rng.choice(self.paths)
        chart = draw_bars(f"Rainfall in {rng.randint(1990, 2025)}", values, "mm", rng.choice(list(COLORS.values())))
        return self.build(
            self.phrase(rng, low=low, high=high),
            [save_picture(chart, folder, path)],
            str(values[high] - values[low]),
            (f"I read {high} and {low} in the picture.", f'print(visualizer("{path}", "{high} and {low}"))'),
            (
                f"{high} has {values[high]} and {low} has {values[low]}.",
                f"final_answer({values[high]} - {values[low]})",
            ),
        )


class MedicineLabel(Scenario):
    """A label: read one value, multiply it by one from the query."""

    name = "medicine_label"
    domain = "health"
    paths = ("files/label.jpg", "files/pack.jpg", "files/medicine.jpg", "files/bottle.jpg")
    phrasings = (
        "How many mg are {count} doses?",
        "I take {count} doses. How many mg is that?",
        "How many mg do {count} doses of this medicine hold?",
        "What do {count} doses come to in mg?",
        "This medicine is taken in {count} doses. How many mg is that?",
    )
    _drugs = ("Ibuprofen", "Aspirin", "Cetirizine", "Loratadine", "Naproxen", "Codeine", "Metformin", "Ramipril")

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        dose, count, path = 5 * rng.randint(3, 160), rng.randint(3, 28), rng.choice(self.paths)
        rows = [("Dose", f"{dose} mg"), ("Tablets", str(rng.randint(10, 99))), ("Lot", str(rng.randint(1000, 9999)))]
        rng.shuffle(rows)
        page = draw_page(rows, rng.choice(self._drugs), rng.choice(_PAPERS))
        return self.build(
            self.phrase(rng, count=count),
            [save_picture(page, folder, path)],
            str(dose * count),
            ("I read the dose in the picture.", f'print(visualizer("{path}", "dose"))'),
            (f"One dose is {dose} mg and there are {count}.", f"final_answer({dose} * {count})"),
        )


class DevicePlate(Scenario):
    """A name plate: read one value and repeat it."""

    name = "device_plate"
    domain = "technology"
    paths = ("files/plate.png", "files/device.png", "files/sticker.png", "files/back.png")
    phrasings = (
        "What is the {key} on this plate?",
        "Which {key} does the device have?",
        "Read the {key} of this device.",
        "Tell me the {key} on the plate.",
        "I need the {key} of this device.",
    )
    values = {"model": (10, 99), "serial": (1000, 9999), "voltage": (12, 400), "power": (20, 2400), "weight": (2, 95)}
    title = "DEVICE"

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: str(rng.randint(*bounds)) for key, bounds in self.values.items()}
        keys = rng.sample(list(facts), 3)
        key, path = rng.choice(keys), rng.choice(self.paths)
        rows = [(shown.capitalize(), facts[shown]) for shown in keys]
        title = f"{self.title} {rng.choice('ABCDEFGHKMNPRTUVX')}{rng.randint(10, 99)}"
        page = draw_page(rows, title, rng.choice(_PAPERS))
        return self.build_lookup(rng, save_picture(page, folder, path), key, facts[key])


class BoardingPass(DevicePlate):
    """Unseen: a boarding pass, read like a name plate."""

    name = "boarding_pass"
    domain = "transportation"
    unseen = True
    paths = ("files/pass.png", "files/flight.png", "files/boarding.png", "files/trip.png")
    phrasings = (
        "What is the {key} on this boarding pass?",
        "Which {key} does the passenger have?",
        "Read the {key} of this flight.",
        "Tell me the {key} on the pass.",
    )
    values = {"gate": (10, 99), "seat": (10, 60), "flight": (100, 9999), "zone": (10, 60), "terminal": (10, 30)}
    title = "FLIGHT PASS"


class RotatedLabel(Scenario):
    """A museum label that hangs upside down: turn it, then read one value."""

    name = "rotated_label"
    domain = "culture"
    paths = ("files/label.png", "files/museum.png", "files/turned.png", "files/scan.png")
    phrasings = (
        "What is the {key} on this upside-down label?",
        "The label is upside down. What is its {key}?",
        "Turn the upside-down label and read the {key}.",
        "Read the {key}. The picture is upside down.",
        "This picture is upside down. Which {key} does it name?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"artist": person(rng), "year": str(rng.randint(1500, 1999)), "room": str(rng.randint(10, 99))}
        key, path = rng.choice(list(facts)), rng.choice(self.paths)
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

    name = "game_board"
    domain = "entertainment"
    paths = ("files/board.png", "files/game.png", "files/pieces.png", "files/round.png")
    phrasings = (
        "How many {thing}s are on the board?",
        "Count the {thing}s on this game board.",
        "What is the number of {thing}s in the game?",
        "How many {thing}s does the player have?",
        "Find all {thing}s. How many are there?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        kinds = [(color, kind) for color in COLORS for kind in ("circle", "square", "triangle")]
        wanted, *others = rng.sample(kinds, 3)
        count, path = rng.randint(2, 7), rng.choice(self.paths)
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

    name = "group_ticket"
    domain = "social"
    paths = ("files/group.jpg", "files/photo.jpg", "files/friends.jpg", "files/team.jpg")
    phrasings = (
        "One ticket costs {price}. What do all people in the photo pay?",
        "Each person in the photo pays {price}. How much is it in all?",
        "Everyone in this photo gives {price}. How much is that?",
        "What is the price for all these people at {price} each?",
        "How much do these people pay if each pays {price}?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        count, price, path = rng.randint(2, 4), rng.randint(3, 60), rng.choice(self.paths)
        return self.build(
            self.phrase(rng, price=price),
            [save_picture(draw_people(rng, count), folder, path)],
            str(count * price),
            ("The picture is a photo of people, so I count faces.", f'print(len(facedetection("{path}")))'),
            (f"There are {count} people and each pays {price}.", f"final_answer({count} * {price})"),
        )


class ConcertPoster(Scenario):
    """A poster: read one text value and repeat it."""

    name = "concert_poster"
    domain = "entertainment"
    paths = ("files/poster.png", "files/concert.png", "files/event.png", "files/wall.png")
    phrasings = (
        "What is the {key} on this poster?",
        "Which {key} does the poster name?",
        "Read the {key} on the poster.",
        "Tell me the {key} of this concert.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"date": date(rng), "singer": person(rng), "price": money(rng, 8, 60)}
        key, path = rng.choice(list(facts)), rng.choice(self.paths)
        rows = [(name.capitalize(), value) for name, value in facts.items()]
        page = draw_page(rows, f"{rng.choice(CITIES).upper()} LIVE", rng.choice(_PAPERS), width=290)
        return self.build_lookup(rng, save_picture(page, folder, path), key, facts[key])
