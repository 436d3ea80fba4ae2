"""Families about documents: values that are looked up, compared and multiplied."""

from __future__ import annotations

import random
from pathlib import Path

from ..base import Scenario, ScenarioTask
from .files import write_docx, write_pdf, write_pptx
from .words import ITEMS, date, money, person


class InvoiceKey(Scenario):
    """An invoice as PDF: look up one line."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {
            "due date": date(rng),
            "invoice number": str(rng.randint(1000, 99999)),
            "customer": person(rng),
            "tax": money(rng, 2, 90),
            "bank": f"{rng.choice(('North', 'City', 'River', 'Union', 'Trade'))} Bank",
        }
        key, path = rng.choice(list(facts)), self.path(rng)
        order = rng.sample(list(facts), len(facts))
        lines = [f"{name.capitalize()}: {facts[name]}" for name in order]
        return self.build_lookup(self.phrase(rng, key=key), write_pdf(folder, path, "Invoice", lines), key, facts[key])


class ClinicLetter(Scenario):
    """A letter in Word: look up one sentence."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {
            "doctor": person(rng),
            "day": date(rng),
            "room": str(rng.randint(10, 480)),
            "hour": f"{rng.randint(8, 17)}:{rng.choice(('00', '15', '30', '45'))}",
        }
        key, path = rng.choice(list(facts)), self.path(rng)
        lines = [f"The {name} is {value}." for name, value in facts.items()]
        rng.shuffle(lines)
        document = write_docx(folder, path, "Invitation", ["Dear patient,", *lines, "Please bring your papers."])
        return self.build_lookup(self.phrase(rng, key=key), document, key, facts[key])


class ProjectSlides(Scenario):
    """A slide deck: look up one line of the plan."""

    _phases = ("design", "training", "review", "launch", "test", "pilot", "survey", "rollout")

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {phase: date(rng) for phase in rng.sample(self._phases, 4)}
        key, path = rng.choice(list(facts)), self.path(rng)
        lines = [f"{name.capitalize()}: {value}" for name, value in facts.items()]
        lead = f"Lead: {person(rng)}"
        return self.build_lookup(
            self.phrase(rng, key=key),
            write_pptx(folder, path, [("Project", [lead, *lines[:2]]), ("Next steps", lines[2:])]),
            key,
            facts[key],
        )


class OrderDelivery(Scenario):
    """An order as PDF and a delivery note in Word: read one line of both, take the difference."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        items = rng.sample(ITEMS, 3)
        ordered = {item: rng.randint(20, 99) for item in items}
        came = {item: number - rng.randint(1, 18) for item, number in ordered.items()}
        key = rng.choice(items)
        first, second = rng.choice((("order", "delivery"), ("list", "note"), ("sent", "came"), ("bought", "truck")))
        pdf = write_pdf(folder, f"files/{first}.pdf", "Order", [f"{name}: {n}" for name, n in ordered.items()])
        note = write_docx(folder, f"files/{second}.docx", "Delivery", [f"{name}: {n}" for name, n in came.items()])
        return self.build(
            self.phrase(rng, key=key),
            [pdf, note],
            str(ordered[key] - came[key]),
            (
                f"I read the {key} in both files.",
                "\n".join(f'print(inspect_file_as_text("{file.path}", "{key}"))' for file in (pdf, note)),
            ),
            (f"Ordered are {ordered[key]} and {came[key]} came.", f"final_answer({ordered[key]} - {came[key]})"),
        )


class RentContract(Scenario):
    """A contract in Word; look up a sum and multiply it by a number from the query."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"rent": 5 * rng.randint(60, 300), "heating": rng.randint(20, 140), "parking": rng.randint(15, 90)}
        key, count, path = rng.choice(list(facts)), rng.randint(3, 36), self.path(rng)
        lines = [f"The {name} is {value} euros a month." for name, value in facts.items()]
        rng.shuffle(lines)
        return self.build(
            self.phrase(rng, key=key, count=count),
            [write_docx(folder, path, "Contract", [f"Between {person(rng)} and {person(rng)}.", *lines])],
            str(facts[key] * count),
            (f"I read the {key} in the file.", f'print(inspect_file_as_text("{path}", "{key}"))'),
            (f"One month is {facts[key]} and there are {count}.", f"final_answer({facts[key]} * {count})"),
        )
