"""Families where a file names a country and the answer is a fact about it: the file is read, then searched about."""

from __future__ import annotations

import random
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from t3_agents.task import File

from ..base import Scenario, ScenarioTask, literal
from .countries import TOPICS, search
from .files import draw_page, read_with_python, save_picture, write_docx, write_pdf, write_pptx, write_xlsx
from .words import DISHES, ITEMS, date, money, person


class Origin(Scenario):
    """A file names a country; a topic of it is asked for.

    Attributes:
        topics (`tuple[str, ...]`): what may be asked, names of `TOPICS`.
    """

    topics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        """The file, and the code that reads it."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic, path = TOPICS[rng.choice(self.topics)], self.path(rng)
        country = rng.choice(sorted(topic.values))
        answer = topic.values[country]
        file, code = self.write(rng, folder, path, country)
        return self.build(
            self.phrase(rng, topic=topic.name),
            [file],
            answer,
            ("First I find the country in the file.", code),
            (f"The country is {country}, so I search for its {topic.search}.", search(topic.search, country)),
            (f"It is {answer}.", f"final_answer({literal(answer)})"),
        )


class OnPage(Origin):
    """The country stands in a picture of a page.

    Attributes:
        title (`str`): title of the page.
        label (`str`): what stands before the country, and what the picture is asked for.
    """

    title: ClassVar[str]
    label: ClassVar[str]

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        rows = [(self.label, country), ("Number", str(rng.randint(100, 9999))), ("Room", str(rng.randint(10, 99)))]
        rng.shuffle(rows)
        picture = draw_page(rows, self.title, width=270)
        return save_picture(picture, folder, path), f'print(visualizer("{path}", "{self.label.lower()}"))'


class InPdf(Origin):
    """The country stands in a PDF that is read with Python.

    Attributes:
        title (`str`): heading.
        label (`str`): what stands before the country.
    """

    title: ClassVar[str]
    label: ClassVar[str]

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        lines = [f"{self.label}: {country}", f"Contact: {person(rng)}", f"Date: {date(rng)}"]
        lines += [f"Fee: {money(rng, 5, 90)} euros", f"Pages: {rng.randint(3, 90)}"]
        rng.shuffle(lines)
        return write_pdf(folder, path, self.title, lines), read_with_python(path)


class BranchSlides(Origin):
    """Slides about a new branch; internet or mobile telephones of its country."""

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        lines = [f"Country: {country}", f"Lead: {person(rng)}", f"Opening: {date(rng)}"]
        file = write_pptx(folder, path, [("New branch", lines), ("Costs", [f"Rent: {money(rng, 900, 4000)}"])])
        return file, f'print(inspect_file_as_text("{path}", "country"))'


class RecipeLetter(Origin):
    """A letter with a recipe in Word; the main crop of the cook's country."""

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        lines = [f"My home is {country}.", f"The dish is {rng.choice(DISHES).lower()}.", f"It takes {date(rng)}."]
        file = write_docx(folder, path, "Dear friend", lines)
        return file, f'print(inspect_file_as_text("{path}", "home"))'


class ExportLedger(Scenario):
    """A ledger in Excel: the buyer that paid most is found by reading, then a fact about it by searching.

    Attributes:
        topics (`tuple[str, ...]`): what may be asked, names of `TOPICS`.
        header (`tuple[str, str, str]`): names of the columns.
    """

    topics: ClassVar[tuple[str, ...]]
    header: ClassVar[tuple[str, str, str]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic, path = TOPICS[rng.choice(self.topics)], self.path(rng)
        countries = rng.sample(sorted(topic.values), 4)
        amounts = rng.sample(range(200, 9000, 10), len(countries))
        extreme, function = rng.choice((("least", min), ("most", max)))
        chosen = function(zip(amounts, countries, strict=True))[1]
        goods = rng.choices(ITEMS, k=len(countries))
        rows = [self.header, *zip(countries, goods, amounts, strict=True)]
        answer = topic.values[chosen]
        return self.build(
            self.phrase(rng, topic=topic.name, extreme=extreme),
            [write_xlsx(folder, path, "Sheet", rows)],
            answer,
            ("I read the rows of the sheet.", read_with_python(path)),
            (f"It is {chosen}, so I search for its {topic.search}.", search(topic.search, chosen)),
            (f"It is {answer}.", f"final_answer({literal(answer)})"),
        )
