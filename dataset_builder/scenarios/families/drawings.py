"""Families about things in pictures: they are located, marked, counted, drawn and turned."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import COLORS, draw_page, draw_people, draw_shapes, read_with_python, save_picture, write_xlsx
from .words import CITIES, DISHES, ITEMS, date, money, person


_GROUND = (245, 245, 245)
_KINDS = tuple((color, kind) for color in COLORS for kind in ("circle", "square", "triangle"))


def _picture(rng: random.Random, counts: dict[tuple[str, str], int], folder: Path, path: str):
    shapes = [shape for shape, count in counts.items() for _ in range(count)]
    rng.shuffle(shapes)
    return save_picture(draw_shapes(rng, shapes, _GROUND), folder, path)


class _Marked(Scenario):
    """One kind of shape is located and marked, in one step or in two; the answer is their number.

    Attributes:
        in_one_step (`bool`): whether locating and marking share a step.
    """

    in_one_step: ClassVar[bool] = True

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        wanted, *others = rng.sample(_KINDS, 3)
        counts = {wanted: rng.randint(2, 7), others[0]: rng.randint(1, 3), others[1]: rng.randint(1, 3)}
        path, thing = rng.choice(self.paths), " ".join(wanted)
        locate = f'boxes = objectlocation("{thing}", "{path}")\nprint(len(boxes))'
        mark = f'print(segmentation("{path}", boxes))'
        if self.in_one_step:
            moves = [(f"I locate every {thing} and mark them.", f"{locate}\n{mark}")]
        else:
            moves = [(f"I locate every {thing}.", locate), ("Then I mark them in the picture.", mark)]
        return self.build(
            self.phrase(rng, thing=thing),
            [_picture(rng, counts, folder, path)],
            str(counts[wanted]),
            *moves,
            (f"I marked {counts[wanted]} of them.", f'final_answer("{counts[wanted]}")'),
        )


class MosaicMark(_Marked):
    """Tiles of a mosaic."""

    name = "mosaic_mark"
    domain = "culture"
    paths = ("files/mosaic.jpg", "files/floor.jpg", "files/tiles.jpg", "files/wall.jpg")
    phrasings = (
        "Mark every {thing} in this mosaic and tell me how many you marked.",
        "How many {thing}s does the mosaic have? Mark them too.",
        "I restore this mosaic. Mark each {thing} and count them.",
        "Show me the {thing}s of the mosaic and say how many they are.",
        "Please highlight each {thing} of the mosaic. What is their number?",
    )


class SealMark(_Marked):
    """Seals of a document, marked in a second step."""

    name = "seal_mark"
    domain = "history"
    in_one_step = False
    paths = ("files/seals.jpg", "files/charter.jpg", "files/wax.jpg", "files/parchment.jpg")
    phrasings = (
        "First find the {thing} seals on this charter, then mark them. How many are there?",
        "How many {thing} seals does the charter carry? Mark them.",
        "Count the {thing} seals and highlight each of them.",
        "The charter has {thing} seals. Mark them and give their number.",
    )


class CoinMark(_Marked):
    """Tokens of an accountant."""

    name = "coin_mark"
    domain = "finance"
    paths = ("files/tokens.jpg", "files/coins.jpg", "files/counter_top.jpg", "files/cash.jpg")
    phrasings = (
        "Mark every {thing} token and say how many there are.",
        "How many {thing} tokens lie on the counter? Mark them.",
        "Highlight the {thing} tokens. How many did you find?",
        "I balance the till: mark each {thing} token and count.",
    )


class CellMark(_Marked):
    """Test: cells under a microscope."""

    name = "cell_mark"
    domain = "science"
    split = "test"
    paths = ("files/cells.png", "files/slide.png", "files/culture.png", "files/probe.png")
    phrasings = (
        "Under the microscope, outline the {thing} cells and report their number.",
        "Outline all cells that look like a {thing}; what number results?",
        "Report the number of {thing} cells once you have outlined them.",
        "Segment the {thing} cells for me and report how many turned up.",
    )


class BadgeMark(_Marked):
    """Validation: badges of a team, marked in a second step."""

    name = "badge_mark"
    domain = "sports"
    split = "validation"
    in_one_step = False
    paths = ("files/badges.png", "files/shirt.png", "files/club.png", "files/fans.png")
    phrasings = (
        "Fans wear badges: pick out each {thing} badge, paint it over, and state the number.",
        "Paint over the {thing} badges after locating them; their number is wanted.",
        "Wanted: the number of {thing} badges, with each one painted over.",
        "Locate, then paint over, the {thing} badges. State how many.",
    )


class FruitTray(Scenario):
    """Two kinds of shapes are located in one step; the answer is how many more there are of one."""

    name = "fruit_tray"
    domain = "food"
    paths = ("files/tray.jpg", "files/sweets.jpg", "files/cookies.jpg", "files/plate.jpg")
    phrasings = (
        "How many more {first} sweets than {second} sweets are on the tray?",
        "There are {first} and {second} sweets. By how many do they differ?",
        "What is the difference between the numbers of {first} and {second} sweets?",
        "Count the {first} and the {second} sweets and subtract.",
        "By how many do the {first} sweets outnumber the {second} ones?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        first, second, other = rng.sample(_KINDS, 3)
        few = rng.randint(1, 4)
        counts = {first: few + rng.randint(1, 4), second: few, other: rng.randint(1, 3)}
        path = rng.choice(self.paths)
        names = [" ".join(shape) for shape in (first, second)]
        return self.build(
            self.phrase(rng, first=names[0], second=names[1]),
            [_picture(rng, counts, folder, path)],
            str(counts[first] - few),
            (
                f"I locate every {names[0]} and every {names[1]}.",
                "\n".join(f'print(len(objectlocation("{name}", "{path}")))' for name in names),
            ),
            (f"There are {counts[first]} and {few}.", f"final_answer({counts[first]} - {few})"),
        )


class DieCast(FruitTray):
    """Pieces of an old game."""

    name = "die_cast"
    domain = "history"
    paths = ("files/pieces.jpg", "files/dig.jpg", "files/finds.jpg", "files/trench.jpg")
    phrasings = (
        "How many more {first} shards than {second} shards were found?",
        "By how many do the {first} shards exceed the {second} shards?",
        "What is the difference in number between {first} and {second} shards?",
        "Count both the {first} and the {second} shards. How large is the difference?",
    )


class StallPieces(FruitTray):
    """Goods of a stall."""

    name = "stall_pieces"
    domain = "finance"
    paths = ("files/stall.jpg", "files/goods.jpg", "files/shelf.jpg", "files/stock.jpg")
    phrasings = (
        "How many more {first} labels than {second} labels are on the shelf?",
        "Our stock has {first} and {second} labels. How many more of the former?",
        "Subtract the number of {second} labels from that of {first} labels.",
        "What is the surplus of {first} labels over {second} labels?",
    )


class PartyMask(Scenario):
    """Faces in a photo are found and marked; the answer is their number."""

    name = "party_mask"
    domain = "social"
    paths = ("files/party.jpg", "files/family.jpg", "files/class.jpg", "files/reunion.jpg")
    phrasings = (
        "Mark the faces in this photo and tell me how many people there are.",
        "How many faces does the photo show? Mark each of them.",
        "Find and mark everybody's face. How many did you find?",
        "I want every face marked and the number of people in it.",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        count, path = rng.randint(1, 4), rng.choice(self.paths)
        return self.build(
            self.phrase(rng),
            [save_picture(draw_people(rng, count), folder, path)],
            str(count),
            (
                "I find the faces and mark them.",
                f'faces = facedetection("{path}")\nprint(len(faces))\nprint(segmentation("{path}", faces))',
            ),
            (f"There are {count} faces.", f'final_answer("{count}")'),
        )


class SheetChart(Scenario):
    """Numbers of a sheet are drawn as a bar chart; the answer is the largest one's name."""

    name = "sheet_chart"
    domain = "finance"
    paths = ("files/quarter.xlsx", "files/revenue.xlsx", "files/shops.xlsx", "files/branches.xlsx")
    phrasings = (
        "Draw a bar chart of the numbers in this sheet. Which one is the largest?",
        "Make a bar chart from the workbook and name the row with the highest bar.",
        "I need a bar chart of these figures. Whose bar is the longest?",
        "Turn the sheet into a bar chart and tell me who leads.",
    )
    header: ClassVar[tuple[str, str]] = ("branch", "revenue")
    pool: ClassVar[tuple[str, ...]] = CITIES

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        names, path = rng.sample(self.pool, rng.randint(3, 4)), rng.choice(self.paths)
        values = dict(zip(names, rng.sample(range(5, 95), len(names)), strict=True))
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        best = max(values, key=values.__getitem__)
        return self.build(
            self.phrase(rng),
            [write_xlsx(folder, path, "Sheet", [self.header, *values.items()])],
            best,
            ("I read the numbers of the sheet.", read_with_python(path)),
            ("Now I draw the bar chart.", f'print(image_generator("a bar chart of {listed}"))'),
            (f"The largest is {best}.", f"final_answer({quote(best)})"),
        )


class MenuChart(SheetChart):
    """Orders of dishes, drawn as a chart."""

    name = "menu_chart"
    domain = "food"
    header, pool = ("dish", "orders"), DISHES
    paths = ("files/orders.xlsx", "files/dishes.xlsx", "files/evening.xlsx", "files/tables.xlsx")
    phrasings = (
        "Draw a bar chart of the orders. Which dish was ordered most?",
        "Chart the orders of this evening as bars and name the favourite dish.",
        "Make bars from the orders in the workbook. Which dish wins?",
        "Please draw the orders as a bar chart and tell me the top dish.",
    )


class SignCheck(Scenario):
    """A sign is drawn from words, then read again; the answer is the text on it."""

    name = "sign_check"
    domain = "entertainment"
    phrasings = (
        'Make a {color} poster with the text "{text}" and check that it can be read. What does it say?',
        'Draw a {color} card with the text "{text}", then read it to me.',
        'I need a {color} sign with the text "{text}". Read what is on the result.',
        'Create a {color} banner with the text "{text}" and tell me what you can read on it.',
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        color, text = rng.choice(("yellow", "white", "orange")), f"{rng.choice(CITIES)} {rng.choice(ITEMS)}"
        return self.build(
            self.phrase(rng, color=color, text=text),
            [],
            text,
            (
                "I draw the picture and read it.",
                f"path = image_generator('a {color} card with the text {quote(text)}')\n"
                'print(visualizer(path, "text"))',
            ),
            ("The text can be read.", f"final_answer({quote(text)})"),
        )


class ShapeSketch(Scenario):
    """Validation: shapes are drawn from words, then counted with the tool."""

    name = "shape_sketch"
    domain = "entertainment"
    split = "validation"
    phrasings = (
        "Sketch {count} {first}s beside {other} {second}s; afterwards verify the {first}s by counting.",
        "Produce a sketch holding {count} {first}s plus {other} {second}s, and verify how many {first}s it holds.",
        "For a card game, sketch {count} {first}s with {other} {second}s. Verify the {first}s.",
        "Could you sketch {other} {second}s and {count} {first}s, then verify the {first} count?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        (first, second), (count, other) = rng.sample(_KINDS, 2), rng.sample(range(2, 6), 2)
        names = [" ".join(shape) for shape in (first, second)]
        prompt = f"{count} {names[0]}s and {other} {names[1]}s"
        return self.build(
            self.phrase(rng, count=count, other=other, first=names[0], second=names[1]),
            [],
            str(count),
            (
                "I draw the shapes.",
                f'path = image_generator("{prompt}")\nprint(path)',
            ),
            ("I count them in the result.", f'print(len(objectlocation("{names[0]}", path)))'),
            (f"There are {count}.", f'final_answer("{count}")'),
        )


class TurnedScan(Scenario):
    """A scan that stands on its head: it is turned, then read.

    Attributes:
        title (`str`): title of the page.
        keys (`tuple[str, str, str]`): a name, a number and a day.
    """

    name = "turned_scan"
    domain = "history"
    title, keys = "LETTER", ("writer", "page", "sent")
    paths = ("files/old_letter.jpg", "files/scan.jpg", "files/attic.jpg", "files/envelope.jpg")
    phrasings = (
        "The scan of this old letter is upside down. What is the {key}?",
        "Turn the scanned letter around and read the {key}.",
        "I scanned this letter the wrong way up. Which {key} does it give?",
        "What is the {key} on the letter that was scanned upside down?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        values = (person(rng), str(rng.randint(100, 990)), date(rng))
        facts = dict(zip(self.keys, values, strict=True))
        key, path = rng.choice(self.keys), rng.choice(self.paths)
        rows = [(name.capitalize(), value) for name, value in facts.items()]
        page = draw_page(rows, self.title, width=270)
        return self.build(
            self.phrase(rng, key=key),
            [save_picture(page.rotate(180), folder, path)],
            facts[key],
            (
                "I turn the picture and read it.",
                f'path = image_edit("rotate 180 degrees", "{path}")\nprint(visualizer(path, "{key}"))',
            ),
            (f"The {key} is {facts[key]}.", f"final_answer({quote(facts[key])})"),
        )


class TurnedMenu(TurnedScan):
    """Test: an order slip of a kitchen."""

    name = "turned_menu"
    domain = "food"
    split = "test"
    title, keys = "ORDER SLIP", ("guest", "table", "day")
    paths = ("files/slip.jpg", "files/pinned.jpg", "files/counter.jpg", "files/chef.jpg")
    phrasings = (
        "Someone pinned the order slip the wrong way round; decipher its {key}.",
        "Decipher the {key} on an order slip that hangs head over heels.",
        "Head over heels on the board hangs a slip. Decipher the {key}.",
        "Put the slip upright, after which its {key} can be deciphered.",
    )


class PriceTags(Scenario):
    """Two photographed price tags, both read in one step and added.

    Attributes:
        stems (`tuple[str, ...]`), title (`str`), label (`str`): names of the files, title of the page, what is read.
    """

    name = "price_tags"
    domain = "food"
    stems: ClassVar[tuple[str, ...]] = ("cheese", "olives", "basket", "stand")
    title: ClassVar[str] = "MARKET"
    label: ClassVar[str] = "price"
    phrasings = (
        "What do the goods on these two tags cost together?",
        "Add the prices on both tags.",
        "I buy what is on the two tags. How much is it?",
        "What is the sum of the two prices in the photos?",
        "How much money do I need for both tags?",
    )

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        stem, files, values = rng.choice(self.stems), [], []
        for number in (1, 2):
            values.append(money(rng, 2, 80))
            rows = [(self.label.capitalize(), values[-1]), ("Lot", str(rng.randint(100, 9999)))]
            page = draw_page(rows, f"{self.title} {rng.choice(CITIES).upper()}", width=250)
            files.append(save_picture(page, folder, f"files/{stem}_{number}.jpg"))
        first, second = values
        return self.build(
            self.phrase(rng),
            files,
            str(round(float(first) + float(second), 2)),
            (
                f"I read the {self.label} in both pictures.",
                "\n".join(f'print(visualizer("{file.path}", "{self.label}"))' for file in files),
            ),
            (f"They are {first} and {second}.", f"final_answer(round({first} + {second}, 2))"),
        )


class AuctionTags(PriceTags):
    """Two tags of an auction of paintings."""

    name = "auction_tags"
    domain = "culture"
    stems, title, label = ("painting", "vase", "auction", "statue"), "AUCTION", "bid"
    phrasings = (
        "What do the two bids in these photos come to?",
        "Add the bids of both works of art.",
        "I won both lots. How much do I pay for the two bids?",
        "What is the sum of the bids on these two tags?",
    )


class FuelSlips(PriceTags):
    """Two slips of a fuel station."""

    name = "fuel_slips"
    domain = "transportation"
    stems, title, label = ("fuel", "station", "pump", "car"), "FUEL", "paid"
    phrasings = (
        "How much did I pay for fuel on these two slips?",
        "Add what I paid on both fuel slips.",
        "What did the fuel on the two slips cost in all?",
        "What is the sum that I paid at the pumps?",
    )


class RentSlips(PriceTags):
    """Two slips of a bank."""

    name = "rent_slips"
    domain = "finance"
    stems, title, label = ("rent", "deposit", "transfer", "payment"), "BANK", "amount"
    phrasings = (
        "What do the amounts on both bank slips add up to?",
        "Add the two amounts that I paid at the bank.",
        "How much money went out with these two slips?",
        "What is the sum of both payments in the pictures?",
    )
