"""Families where a file names a country and the answer is a fact about it: the file is read, then searched about."""

from __future__ import annotations

import random
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from t3_agents.task import File

from ..base import Scenario, ScenarioTask, literal
from .comparisons import search
from .country_facts import (
    ANTHEM,
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
    PRODUCT,
    RATE,
    SYMBOL,
    UNEMPLOYMENT,
    Topic,
)
from .files import draw_page, read_with_python, save_picture, write_docx, write_pdf, write_pptx, write_xlsx
from .words import DISHES, ITEMS, date, money, person


class _Origin(Scenario):
    """A file names a country; a topic of it is asked for.

    Attributes:
        topics (`tuple[Topic, ...]`): what may be asked.
    """

    topics: ClassVar[tuple[Topic, ...]]

    @abstractmethod
    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        """The file, and the code that reads it."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic, path = rng.choice(self.topics), rng.choice(self.paths)
        country = rng.choice(sorted(topic.values))
        answer = topic.values[country]
        file, code = self.write(rng, folder, path, country)
        return self.build(
            self.phrase(rng, topic=topic.name),
            [file],
            answer,
            ("First I find the country in the file.", code),
            (f"The country is {country}, so I search for its {topic.search}.", search(topic, country)),
            (f"It is {answer}.", f"final_answer({literal(answer)})"),
        )


class _OnPage(_Origin):
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


class _InPdf(_Origin):
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


class MuseumLoan(_OnPage):
    """A photographed label of an object on loan; its country's symbol or anthem."""

    name = "museum_loan"
    domain = "culture"
    topics = (SYMBOL, ANTHEM)
    title, label = "ON LOAN", "Country"
    paths = ("files/loan.jpg", "files/object.jpg", "files/vitrine.jpg", "files/hall.jpg")
    phrasings = (
        "What is the {topic} of the country that lent this object?",
        "This object is on loan from a country. What is the {topic} there?",
        "Find the {topic} of the country on the label of this object.",
        "Which {topic} has the country that this object belongs to?",
        "Read the label and tell me the {topic} of the country it names.",
    )


class ArchiveCard(_OnPage):
    """A photographed index card; the year of independence of its country."""

    name = "archive_card"
    domain = "history"
    topics = (INDEPENDENCE,)
    title, label = "ARCHIVE", "Country"
    paths = ("files/card.jpg", "files/archive.jpg", "files/drawer.jpg", "files/index.jpg")
    phrasings = (
        "What is the {topic} of the country on this index card?",
        "The card belongs to a country. Look up its {topic}.",
        "In which year did the country on the archive card become independent?",
        "When did the country named on this card gain independence?",
        "This card is filed under a country. What is its {topic}?",
    )


class CrateStamp(_OnPage):
    """A photographed crate; the main crop of the country where it was packed."""

    name = "crate_stamp"
    domain = "food"
    topics = (PRODUCT,)
    title, label = "FRUIT CRATE", "Origin"
    paths = ("files/crate.jpg", "files/market.jpg", "files/stamp.jpg", "files/box.jpg")
    phrasings = (
        "Which {topic} is listed for the country where this crate was packed?",
        "What is the {topic} of the origin on this crate?",
        "Read the origin on the crate and find the {topic} of that country.",
        "This crate has an origin. What does that country list as its {topic}?",
    )


class BankNote(_OnPage):
    """A photographed money order; the exchange rate of its country."""

    name = "bank_note"
    domain = "finance"
    topics = (RATE, INFLATION)
    title, label = "MONEY ORDER", "Country"
    paths = ("files/order.jpg", "files/money.jpg", "files/transfer.jpg", "files/counter.jpg")
    phrasings = (
        "What is the {topic} of the country on this money order?",
        "The money order goes to a country. What is its {topic}?",
        "Find the {topic} for the country on the order.",
        "I send money to the country on this order. What is the {topic} there?",
        "Which {topic} does the country of this money order have?",
    )


class VisaStamp(_OnPage):
    """A photographed visa; the capital of its country."""

    name = "visa_stamp"
    domain = "travel"
    topics = (CAPITAL,)
    title, label = "VISA", "Country"
    paths = ("files/visa.jpg", "files/passport.jpg", "files/entry.jpg", "files/border.jpg")
    phrasings = (
        "What is the capital of the country that gave this visa?",
        "Which {topic} has the country of the visa?",
        "My visa names a country. Where is its {topic}?",
        "Find the {topic} of the country in the visa.",
        "I have this visa and fly to the capital. Which city is it?",
    )


class FestivalProgram(_InPdf):
    """A festival programme as PDF; anthem or symbol of the guest country."""

    name = "festival_program"
    domain = "culture"
    topics = (ANTHEM, SYMBOL, CAPITAL)
    title, label = "Festival", "Guest country"
    paths = ("files/festival.pdf", "files/program.pdf", "files/stage.pdf", "files/summer.pdf")
    phrasings = (
        "What is the {topic} of the guest country of this festival?",
        "The festival has a guest country. Find its {topic}.",
        "Which {topic} does the guest country of the festival have?",
        "Tell me the {topic} of the country that is guest here.",
        "Who is the guest country, and what is its {topic}? Give the {topic}.",
    )


class TreatyNote(_InPdf):
    """A note about a treaty as PDF; the year of independence of its country."""

    name = "treaty_note"
    domain = "history"
    topics = (INDEPENDENCE,)
    title, label = "Treaty", "Signed by"
    paths = ("files/treaty.pdf", "files/paper.pdf", "files/chapter.pdf", "files/source.pdf")
    phrasings = (
        "What is the {topic} of the country that signed this treaty?",
        "A country signed this treaty. Look up its {topic}.",
        "When did the country that signed the treaty become independent?",
        "Find the {topic} for the country behind this treaty.",
    )


class FundSheet(_InPdf):
    """A fact sheet of a fund as PDF; unemployment or inflation of its market."""

    name = "fund_sheet"
    domain = "finance"
    topics = (UNEMPLOYMENT, INFLATION, RATE)
    title, label = "Fund", "Market"
    paths = ("files/fund.pdf", "files/factsheet.pdf", "files/market.pdf", "files/prospectus.pdf")
    phrasings = (
        "What is the {topic} in the market of this fund?",
        "The fund invests in one market. Look up its {topic}.",
        "Which {topic} has the country where the fund invests?",
        "Find the market of the fund, then its {topic}.",
        "I want to buy this fund. What is the {topic} of its market?",
    )


class FarmReport(_InPdf):
    """A report on a farm project as PDF; the main crop of its country."""

    name = "farm_report"
    domain = "food"
    topics = (PRODUCT,)
    title, label = "Farm project", "Country"
    paths = ("files/farm.pdf", "files/harvest.pdf", "files/field.pdf", "files/crop.pdf")
    phrasings = (
        "What is the {topic} of the country of this farm project?",
        "Find the country of the farm project and its {topic}.",
        "Which {topic} is listed for the country in this farm report?",
        "The report is about a farm abroad. What is the {topic} of that country?",
    )


class ForestPlan(_InPdf):
    """A plan to plant trees as PDF; the forest share of its country."""

    name = "forest_plan"
    domain = "environment"
    topics = (FOREST,)
    title, label = "Planting trees", "Place"
    paths = ("files/trees.pdf", "files/planting.pdf", "files/climate.pdf", "files/green.pdf")
    phrasings = (
        "What is the {topic} where these trees are planted?",
        "Trees are planted in a country. What is its {topic} today?",
        "Look up the {topic} of the place in this plan.",
        "For the country in the planting plan, find the {topic}.",
    )


class ClinicPartner(_InPdf):
    """Validation: a letter about a partner clinic as PDF; health of its country."""

    name = "clinic_partner"
    domain = "health"
    split = "validation"
    topics = (DOCTORS, OBESITY, LIFE)
    title, label = "Partner clinic", "Land"
    paths = ("files/partner.pdf", "files/hospital.pdf", "files/exchange.pdf", "files/ward.pdf")
    phrasings = (
        "Where is the partner clinic, and how high is the {topic} there?",
        "Our partner clinic is abroad. State the {topic} of its land.",
        "Give me the {topic} for the land of the partner clinic.",
        "From this letter about a clinic, work out the {topic} of its land.",
    )


class ExpeditionBrief(_InPdf):
    """A brief of an expedition as PDF; the highest point of its country."""

    name = "expedition_brief"
    domain = "science"
    topics = (PEAK,)
    title, label = "Expedition", "Field site"
    paths = ("files/expedition.pdf", "files/brief.pdf", "files/fieldwork.pdf", "files/team.pdf")
    phrasings = (
        "What is the {topic} in the country of this expedition, in metres?",
        "The expedition goes to a field site abroad. What is the {topic} there in metres?",
        "Find the field site of the expedition and the {topic} of that country.",
        "How many metres has the highest point of the country of the field site?",
    )


class BranchSlides(_Origin):
    """Slides about a new branch; internet or mobile telephones of its country."""

    name = "branch_slides"
    domain = "technology"
    topics = (INTERNET, MOBILE)
    paths = ("files/branch.pptx", "files/kickoff.pptx", "files/office.pptx", "files/pitch.pptx")
    phrasings = (
        "What is the {topic} in the country of the new branch?",
        "The slides present a new branch. Look up the {topic} of its country.",
        "Where does the branch open, and what is the {topic} there? Give the latter.",
        "Find the {topic} for the country in these slides.",
    )

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        lines = [f"Country: {country}", f"Lead: {person(rng)}", f"Opening: {date(rng)}"]
        file = write_pptx(folder, path, [("New branch", lines), ("Costs", [f"Rent: {money(rng, 900, 4000)}"])])
        return file, f'print(inspect_file_as_text("{path}", "country"))'


class RecipeLetter(_Origin):
    """Test: a letter with a recipe in Word; the main crop of the cook's country."""

    name = "recipe_letter"
    domain = "food"
    split = "test"
    topics = (PRODUCT, CAPITAL)
    paths = ("files/recipe.docx", "files/cook.docx", "files/grandma.docx", "files/meal.docx")
    phrasings = (
        "The cook writes from home. Name the {topic} of that home country.",
        "Whoever sent me this recipe lives abroad: name the {topic} of the place.",
        "Starting from the recipe letter, identify the {topic} of the cook's home.",
        "Tell me, for the home of the cook in the letter, its {topic}.",
    )

    def write(self, rng: random.Random, folder: Path, path: str, country: str) -> tuple[File, str]:
        lines = [f"My home is {country}.", f"The dish is {rng.choice(DISHES).lower()}.", f"It takes {date(rng)}."]
        file = write_docx(folder, path, "Dear friend", lines)
        return file, f'print(inspect_file_as_text("{path}", "home"))'


class ExportLedger(Scenario):
    """A ledger in Excel: the buyer that paid most is found by reading, then a fact about it by searching."""

    name = "export_ledger"
    domain = "finance"
    topics = (RATE, INFLATION, UNEMPLOYMENT)
    extremes: ClassVar[dict[str, bool]] = {"most": True, "least": False}
    header = ("country", "goods", "amount")
    paths = ("files/exports.xlsx", "files/ledger.xlsx", "files/buyers.xlsx", "files/trade.xlsx")
    phrasings = (
        "What is the {topic} of the country that paid us the {extreme}?",
        "Which country paid the {extreme} in this ledger? Give its {topic}.",
        "Find the buyer that paid the {extreme} and look up the {topic} there.",
        "The country with the {extreme} in the amount column interests me. What is its {topic}?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        topic, path = rng.choice(self.topics), rng.choice(self.paths)
        countries = rng.sample(sorted(topic.values), 4)
        amounts = rng.sample(range(200, 9000, 10), len(countries))
        extreme, is_most = rng.choice(sorted(self.extremes.items()))
        chosen = (max if is_most else min)(zip(amounts, countries, strict=True))[1]
        goods = rng.choices(ITEMS, k=len(countries))
        rows = [self.header, *zip(countries, goods, amounts, strict=True)]
        answer = topic.values[chosen]
        return self.build(
            self.phrase(rng, topic=topic.name, extreme=extreme),
            [write_xlsx(folder, path, "Sheet", rows)],
            answer,
            ("I read the rows of the sheet.", read_with_python(path)),
            (f"It is {chosen}, so I search for its {topic.search}.", search(topic, chosen)),
            (f"It is {answer}.", f"final_answer({literal(answer)})"),
        )


class LoanRegister(ExportLedger):
    """A register of loans in Excel: the lender of most objects, then its national symbol or anthem."""

    name = "loan_register"
    domain = "culture"
    topics = (SYMBOL, ANTHEM, CAPITAL)
    header = ("lender", "room", "objects")
    paths = ("files/loans.xlsx", "files/register.xlsx", "files/collection.xlsx", "files/show.xlsx")
    phrasings = (
        "Which lender gave the {extreme} objects, and what is its {topic}? Answer with the {topic}.",
        "What is the {topic} of the lender with the {extreme} objects?",
        "Find the country that lent the {extreme} objects. I need its {topic}.",
        "The lender with the {extreme} objects gets a speech. What is its {topic}?",
    )


class EmissionSheet(ExportLedger):
    """Planted trees by country in Excel: the country with most, then its forest."""

    name = "emission_sheet"
    domain = "environment"
    topics = (FOREST,)
    header = ("country", "sponsor", "trees")
    paths = ("files/planted.xlsx", "files/sponsors.xlsx", "files/forest.xlsx", "files/project.xlsx")
    phrasings = (
        "In which country were the {extreme} trees planted, and what is its {topic}? Give the {topic}.",
        "What is the {topic} of the country with the {extreme} planted trees?",
        "Find the country where we planted the {extreme} trees and look up its {topic}.",
        "Where the {extreme} trees were planted: what is the {topic}?",
    )


class GuestBook(ExportLedger):
    """Travellers by country in Excel: the country with most, then its capital."""

    name = "guest_book"
    domain = "travel"
    topics = (CAPITAL,)
    header = ("country", "gift", "guests")
    paths = ("files/guests.xlsx", "files/hotel.xlsx", "files/arrivals.xlsx", "files/tours.xlsx")
    phrasings = (
        "Which capital belongs to the country that sent the {extreme} guests?",
        "What is the {topic} of the country with the {extreme} guests?",
        "The {extreme} guests came from one country. What is its {topic}?",
        "Find the country that sent us the {extreme} guests and its {topic}.",
    )
