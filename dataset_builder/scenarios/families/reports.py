"""Families about documents that are read with Python packages: the answer is a line, a sum or a difference in them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import read_with_python, write_docx, write_pdf, write_table
from .words import POOLS, date, money, person


class Column(Scenario):
    """A table of names with two columns of numbers; one column is added up.

    Attributes:
        header (`tuple[str, str, str]`): names of the columns; the last two are asked for.
        pool (`str`): what the rows are about, a name of `POOLS`.
        bounds (`tuple[int, int]`): smallest and largest number.
    """

    header: ClassVar[tuple[str, str, str]]
    pool: ClassVar[str]
    bounds: ClassVar[tuple[int, int]] = (3, 400)

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        names = rng.sample(POOLS[self.pool], rng.randint(4, 6))
        rows = [(name, rng.randint(*self.bounds), rng.randint(*self.bounds)) for name in names]
        position, path = rng.choice((1, 2)), self.path(rng)
        key, numbers = self.header[position], [row[position] for row in rows]
        return self.build(
            self.phrase(rng, key=key),
            [write_table(folder, path, "Sheet", [self.header, *rows])],
            str(sum(numbers)),
            (f"I read the table and look at {key}.", read_with_python(path)),
            (f"I add the numbers of {key}.", f"final_answer({' + '.join(map(str, numbers))})"),
        )


class Line(Scenario):
    """A report as PDF with one line for each fact; one of them is asked for.

    Attributes:
        title (`str`): heading.
        keys (`tuple[str, ...]`): facts; `_value` says what they may be.
    """

    title: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: self._value(rng, key) for key in self.keys}
        key, path = rng.choice(self.keys), self.path(rng)
        order = rng.sample(self.keys, len(self.keys))
        lines = [f"{name.capitalize()}: {facts[name]}" for name in order]
        return self.build(
            self.phrase(rng, key=key),
            [write_pdf(folder, path, self.title, lines)],
            facts[key],
            (f"I read the document to find the {key}.", read_with_python(path)),
            (f"The {key} is {facts[key]}.", f"final_answer({quote(facts[key])})"),
        )

    def _value(self, rng: random.Random, key: str) -> str:
        if key in ("date", "deadline", "opening", "founding", "delivery"):
            return date(rng)
        if key in ("owner", "author", "curator", "judge", "cook", "coach", "nurse", "writer"):
            return person(rng)
        return str(rng.randint(12, 9800))


class InvoicePair(Scenario):
    """Two invoices as PDF, read in one step and added."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        stem = rng.choice(("invoice", "repair", "service", "delivery"))
        files, amounts = [], []
        for number in (1, 2):
            amounts.append(money(rng, 10, 900))
            lines = [f"Customer: {person(rng)}", f"Amount: {amounts[-1]}", f"Due: {date(rng)}"]
            rng.shuffle(lines)
            files.append(write_pdf(folder, f"files/{stem}_{number}.pdf", "Invoice", lines))
        first, second = amounts
        return self.build(
            self.phrase(rng),
            files,
            str(round(float(first) + float(second), 2)),
            ("I read one of them.", read_with_python(files[0].path)),
            ("I read the other one.", read_with_python(files[1].path)),
            (f"The amounts are {first} and {second}.", f"final_answer(round({first} + {second}, 2))"),
        )


class HonourLetter(Scenario):
    """A letter in Word, read with the file tool: a thing and its place."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"winner": person(rng), "ceremony": date(rng), "prize": str(rng.randint(100, 9900))}
        key, path = rng.choice(list(facts)), self.path(rng)
        lines = [f"The {name} is {value}." for name, value in facts.items()]
        rng.shuffle(lines)
        return self.build_lookup(
            self.phrase(rng, key=key), write_docx(folder, path, "From the jury", lines), key, facts[key]
        )
