"""Families that need the search tool: facts about countries, alone or after a file has named the country."""

from __future__ import annotations

import random
from pathlib import Path

from ..base import Scenario, ScenarioTask, quote
from .countries import COUNTRIES, search
from .files import draw_page, save_picture, write_docx, write_pdf
from .words import date, person


class CoastTrip(Scenario):
    """No file: look up a length and divide it by a number from the query."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country = rng.choice([name for name, facts in COUNTRIES.items() if facts.coastline > 90])
        length, speed = COUNTRIES[country].coastline, rng.randint(110, 3000) / 10
        return self.build(
            self.phrase(rng, country=country, speed=speed),
            [],
            str(round(length / speed, 1)),
            (f"I search for the coastline of {country}.", search("coastline", country)),
            (f"The coastline is {length} km.", f"final_answer(round({length} / {speed}, 1))"),
        )


class AreaShare(Scenario):
    """No file; look up an area and divide it by a number from the query."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country = rng.choice([name for name, facts in COUNTRIES.items() if facts.area > 4000])
        area, count = COUNTRIES[country].area, rng.randint(11, 2400)
        return self.build(
            self.phrase(rng, country=country, count=count),
            [],
            str(round(area / count, 1)),
            (f"I search for the area of {country}.", search("area", country)),
            (f"The area is {area} sq km.", f"final_answer(round({area} / {count}, 1))"),
        )


class TicketCode(Scenario):
    """A ticket names a country; search for its internet code."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country, path = rng.choice(list(COUNTRIES)), self.path(rng)
        code = COUNTRIES[country].code
        rows = [("Country", country), ("Seat", str(rng.randint(10, 99))), ("Date", date(rng))]
        page = draw_page(rows, "TRAVEL TICKET", width=290)
        return self.build(
            self.phrase(rng),
            [save_picture(page, folder, path)],
            code,
            ("I read the country in the picture.", f'print(visualizer("{path}", "country"))'),
            (f"I search for the internet country code of {country}.", search("internet country code", country)),
            (f"The internet country code is {code}.", f'final_answer("{code}")'),
        )


class SpeakerIndependence(Scenario):
    """A programme in Word names a speaker's country; search for the year of its independence."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country, path = rng.choice(list(COUNTRIES)), self.path(rng)
        year = str(COUNTRIES[country].independence)
        lines = [f"Speaker: {person(rng)}", f"Country: {country}", f"Talk: {date(rng)}"]
        return self.build(
            self.phrase(rng),
            [write_docx(folder, path, "Evening lecture", lines)],
            year,
            ("I read the country in the file.", f'print(inspect_file_as_text("{path}", "country"))'),
            (f"I search for the independence of {country}.", search("independence", country)),
            (f"The year is {year}.", f'final_answer("{year}")'),
        )


class AirportPair(Scenario):
    """An itinerary as PDF names two countries; search for both and add."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        start, end = rng.sample(list(COUNTRIES), 2)
        first, second = COUNTRIES[start].airports, COUNTRIES[end].airports
        path = self.path(rng)
        lines = [f"Guide: {person(rng)}", f"Start: {start}", f"End: {end}", f"Departure: {date(rng)}"]
        return self.build(
            self.phrase(rng),
            [write_pdf(folder, path, "Journey", lines)],
            str(first + second),
            ("I read start and end in the file.", f'print(inspect_file_as_text("{path}", "start and end"))'),
            (f"I search for the airports of {start}.", search("airports", start)),
            (f"I search for the airports of {end}.", search("airports", end)),
            (f"They have {first} and {second} airports.", f"final_answer({first} + {second})"),
        )


class EmblemColors(Scenario):
    """A leaflet as PDF names a country; search for its national colors."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        country, path = rng.choice(list(COUNTRIES)), self.path(rng)
        colors = COUNTRIES[country].colors
        lines = [f"Artist: {person(rng)}", f"Country: {country}", f"Opening: {date(rng)}"]
        return self.build(
            self.phrase(rng),
            [write_pdf(folder, path, "Exhibition", lines)],
            colors,
            ("I read the country in the file.", f'print(inspect_file_as_text("{path}", "country"))'),
            (f"I search for the national colors of {country}.", search("national colors", country)),
            (f"The national colors are {colors}.", f"final_answer({quote(colors)})"),
        )
