"""Families about documents that are read with Python packages: the answer is a line, a sum or a difference in them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import read_with_python, write_csv, write_docx, write_pdf, write_xlsx
from .words import BIRDS, CITIES, DISHES, FIRST_NAMES, ITEMS, date, money, person


class _Column(Scenario):
    """A table of names with two columns of numbers; one column is added up.

    Attributes:
        header (`tuple[str, str, str]`): names of the columns; the last two are asked for.
        pool (`tuple[str, ...]`): what the rows are about.
        bounds (`tuple[int, int]`): smallest and largest number.
    """

    header: ClassVar[tuple[str, str, str]]
    pool: ClassVar[tuple[str, ...]]
    bounds: ClassVar[tuple[int, int]] = (3, 400)

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        names = rng.sample(self.pool, rng.randint(4, 6))
        rows = [(name, rng.randint(*self.bounds), rng.randint(*self.bounds)) for name in names]
        position, path = rng.choice((1, 2)), rng.choice(self.paths)
        key, numbers = self.header[position], [row[position] for row in rows]
        write = write_csv if path.endswith(".csv") else self._write_sheet
        return self.build(
            self.phrase(rng, key=key),
            [write(folder, path, [self.header, *rows])],
            str(sum(numbers)),
            (f"I read the table and look at {key}.", read_with_python(path)),
            (f"I add the numbers of {key}.", f"final_answer({' + '.join(map(str, numbers))})"),
        )

    @staticmethod
    def _write_sheet(folder: Path, path: str, rows: list):
        return write_xlsx(folder, path, "Sheet", rows)


class ExpenseSheet(_Column):
    """Costs of a department in Excel."""

    name = "expense_sheet"
    domain = "finance"
    header, pool = ("item", "planned cost", "actual cost"), ITEMS
    paths = ("files/expenses.xlsx", "files/budget.xlsx", "files/costs.xlsx", "files/office.xlsx")
    phrasings = (
        "What is the sum of the {key} in this sheet?",
        "Add up the {key} of all items.",
        "How high is the {key} over all items?",
        "What does the column {key} come to?",
        "Total the {key} for me.",
    )


class KitchenStock(_Column):
    """Portions of a canteen in Excel."""

    name = "kitchen_stock"
    domain = "food"
    header, pool = ("dish", "portions cooked", "portions left"), DISHES
    paths = ("files/canteen.xlsx", "files/portions.xlsx", "files/buffet.xlsx", "files/menu.xlsx")
    phrasings = (
        "How many {key} are there over all dishes?",
        "Add the {key} of every dish.",
        "What is the number of {key} in this workbook?",
        "Count all {key} of the canteen together.",
        "Sum the {key} in the kitchen file.",
    )


class VisitorSheet(_Column):
    """Visitors of museums in Excel."""

    name = "visitor_sheet"
    domain = "culture"
    header, pool = ("museum", "children", "adults"), CITIES
    paths = ("files/visitors.xlsx", "files/museums.xlsx", "files/season_visitors.xlsx", "files/desk.xlsx")
    phrasings = (
        "How many {key} visited the museums in all?",
        "Add the {key} of all museums.",
        "What is the number of {key} over every museum in the sheet?",
        "Count the {key} that came to our museums.",
        "Tell me how many {key} the museums had together.",
    )


class EmigrantList(_Column):
    """Old passenger lists in Excel."""

    name = "emigrant_list"
    domain = "history"
    header, pool = ("port", "sailors", "emigrants"), CITIES
    paths = ("files/emigrants.xlsx", "files/passengers.xlsx", "files/ports.xlsx", "files/ships.xlsx")
    phrasings = (
        "How many {key} left from all ports in this old list?",
        "Add the {key} of every port.",
        "What is the number of {key} in the passenger lists?",
        "How many {key} do the old lists have in all?",
    )


class WaterSheet(_Column):
    """Water use in Excel."""

    name = "water_sheet"
    domain = "environment"
    header, pool = ("city", "rain water", "tap water"), CITIES
    paths = ("files/water.xlsx", "files/usage.xlsx", "files/litres.xlsx", "files/tanks.xlsx")
    phrasings = (
        "How much {key} was used in all cities?",
        "Add the {key} of every city.",
        "What is the {key} of all cities taken together?",
        "How large is the use of {key} over the cities in this workbook?",
    )


class PulseLog(_Column):
    """Steps and minutes of a health course in Excel."""

    name = "pulse_log"
    domain = "health"
    header, pool = ("person", "walking minutes", "swimming minutes"), FIRST_NAMES
    paths = ("files/course.xlsx", "files/activity.xlsx", "files/minutes.xlsx", "files/training.xlsx")
    phrasings = (
        "How many {key} did the group do together?",
        "Add the {key} of all people in the course.",
        "What do the {key} of everybody come to?",
        "How many {key} does the log hold over all people?",
    )


class SampleSheet(_Column):
    """Samples of a laboratory in Excel."""

    name = "sample_sheet"
    domain = "science"
    header, pool = ("sample", "day count", "night count"), tuple(f"sample {letter}" for letter in "ABCDEFGHKL")
    paths = ("files/samples.xlsx", "files/lab.xlsx", "files/readings.xlsx", "files/counts.xlsx")
    phrasings = (
        "What is the {key} of all samples together?",
        "Add the {key} over the samples.",
        "How high is the {key} if all samples are added?",
        "Which sum does the {key} of the samples have?",
    )


class GiftSheet(_Column):
    """Test: donations in Excel."""

    name = "gift_sheet"
    domain = "others"
    split = "test"
    header, pool = ("street", "paper bags", "bottles"), tuple(f"{city} Street" for city in CITIES)
    paths = ("files/collected.xlsx", "files/street.xlsx", "files/saturday.xlsx", "files/round.xlsx")
    phrasings = (
        "After the collection, how many {key} do we hold?",
        "The streets gave us {key}: how many, taken all in all?",
        "Work out our {key} over the whole collection.",
        "State the overall {key} from the round.",
    )


class PollTable(_Column):
    """A poll as a comma-separated table."""

    name = "poll_table"
    domain = "social"
    header, pool = ("district", "yes votes", "no votes"), CITIES
    paths = ("files/poll.csv", "files/votes.csv", "files/survey.csv", "files/ballot.csv")
    phrasings = (
        "How many {key} were counted in all districts?",
        "Add the {key} of every district.",
        "What is the number of {key} in this poll?",
        "How many {key} did the poll bring?",
    )


class _Line(Scenario):
    """A report as PDF with one line for each fact; one of them is asked for.

    Attributes:
        title (`str`): heading.
        keys (`tuple[str, ...]`): facts; `_value` says what they may be.
    """

    title: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: self._value(rng, key) for key in self.keys}
        key, path = rng.choice(self.keys), rng.choice(self.paths)
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


class AccountReport(_Line):
    """A statement of an account."""

    name = "account_report"
    domain = "finance"
    title, keys = "Account report", ("balance", "interest", "owner", "date", "fees")
    paths = ("files/account.pdf", "files/statement.pdf", "files/bank.pdf", "files/month.pdf")
    phrasings = (
        "What is the {key} in this account report?",
        "Which {key} does the statement show?",
        "Find the {key} in the report of my account.",
        "My bank sent this. What is the {key}?",
        "Give me the {key} from the bank statement.",
    )


class GalleryFlyer(_Line):
    """A flyer of a gallery."""

    name = "gallery_flyer"
    domain = "culture"
    title, keys = "Gallery", ("curator", "opening", "paintings", "visitors", "writer")
    paths = ("files/gallery.pdf", "files/exhibition.pdf", "files/press.pdf", "files/catalogue.pdf")
    phrasings = (
        "What does the gallery state as {key}?",
        "Find the {key} in the paper of the gallery.",
        "Which {key} stands in this gallery document?",
        "I write about the gallery. What is the {key}?",
        "Tell me the {key} that the gallery gives.",
    )


class ChurchRecord(_Line):
    """A page of an old register."""

    name = "church_record"
    domain = "history"
    title, keys = "Parish register", ("founding", "author", "judge", "houses", "souls")
    paths = ("files/parish.pdf", "files/register.pdf", "files/village.pdf", "files/record.pdf")
    phrasings = (
        "What does the parish register give as {key}?",
        "Which {key} stands in the old register?",
        "Find the {key} in this page of the register.",
        "I study the village. What is the {key} in the register?",
    )


class RecipeSheet(_Line):
    """A recipe of a canteen."""

    name = "recipe_sheet"
    domain = "food"
    title, keys = "Recipe", ("cook", "flour", "sugar", "minutes", "portions")
    paths = ("files/recipe.pdf", "files/cake.pdf", "files/kitchen.pdf", "files/bakery.pdf")
    phrasings = (
        "What does the recipe say about {key}?",
        "Which value has {key} in this recipe?",
        "Find {key} in the recipe.",
        "I want to bake this. What is given for {key}?",
        "Look into the recipe: what stands behind {key}?",
    )


class RiverReport(_Line):
    """A report on a river."""

    name = "river_report"
    domain = "environment"
    title, keys = "River report", ("author", "date", "fish", "bottles", "samples")
    paths = ("files/river.pdf", "files/stream.pdf", "files/clean.pdf", "files/banks.pdf")
    phrasings = (
        "What does the river report give as {key}?",
        "Which {key} is in the report on the river?",
        "Find the {key} of the river report.",
        "For the {key}, what does this report on the river say?",
    )


class WardReport(_Line):
    """A report of a ward."""

    name = "ward_report"
    domain = "health"
    title, keys = "Ward report", ("nurse", "date", "beds", "patients", "visits")
    paths = ("files/ward_report.pdf", "files/station.pdf", "files/shift.pdf", "files/care.pdf")
    phrasings = (
        "What does the ward report give as {key}?",
        "Which {key} is written in the report of the ward?",
        "Find the {key} of this ward.",
        "I take over the shift. What is the {key} in the report?",
    )


class FestivalRules(_Line):
    """Validation: rules of a film prize."""

    name = "festival_rules"
    domain = "entertainment"
    split = "validation"
    title, keys = "Film prize", ("deadline", "judge", "prize", "entries")
    paths = ("files/rules.pdf", "files/film.pdf", "files/prize.pdf", "files/cinema.pdf")
    phrasings = (
        "Our film competes here: name the {key}.",
        "According to the rules of the prize, what holds for {key}?",
        "State the {key} laid down for the film prize.",
        "As for the film prize, I am after the {key}.",
    )


class TicketOffice(_Line):
    """Test: an order of travel tickets."""

    name = "ticket_office"
    domain = "travel"
    split = "test"
    title, keys = "Your journey", ("delivery", "owner", "seat", "train")
    paths = ("files/journey.pdf", "files/tickets.pdf", "files/rail.pdf", "files/seatplan.pdf")
    phrasings = (
        "Before I set off: which {key} was confirmed to me?",
        "The office confirmed my journey, so name the {key}.",
        "Having lost my note, I want the confirmed {key} again.",
        "Out of the confirmation, quote the {key}.",
    )


class InvoicePair(Scenario):
    """Two invoices as PDF, read in one step and added."""

    name = "invoice_pair"
    domain = "finance"
    phrasings = (
        "What do these two invoices cost in all?",
        "Add the amounts of both invoices.",
        "How much do I owe for the two invoices?",
        "What is the sum of the amounts in the two PDF files?",
        "I pay both invoices at once. How much is that?",
    )

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


class NestBox(_Line):
    """A report on nest boxes."""

    name = "nest_box"
    domain = "nature"
    title, keys = "Nest boxes", BIRDS[:5]
    paths = ("files/nests.pdf", "files/boxes.pdf", "files/garden.pdf", "files/spring.pdf")
    phrasings = (
        "How often is the {key} named in the nest box report? Give the number there.",
        "Which number of nests has the {key} in this report?",
        "Find the number of the {key} in the report on nest boxes.",
        "How many nests did the {key} have?",
    )


class HonourLetter(Scenario):
    """A letter in Word, read with the file tool: a thing and its place."""

    name = "honour_letter"
    domain = "culture"
    paths = ("files/honour.docx", "files/award.docx", "files/jury.docx", "files/choir.docx")
    phrasings = (
        "Which {key} does the jury name?",
        "Find the {key} in the letter of the jury.",
        "What is the {key} according to the jury?",
        "The jury wrote to us. Tell me the {key}.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {"winner": person(rng), "ceremony": date(rng), "prize": str(rng.randint(100, 9900))}
        key, path = rng.choice(list(facts)), rng.choice(self.paths)
        lines = [f"The {name} is {value}." for name, value in facts.items()]
        rng.shuffle(lines)
        return self.build_lookup(rng, write_docx(folder, path, "From the jury", lines), key, facts[key])
