"""Families about things in pictures: they are located, marked, counted, drawn and turned."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import SHAPES, draw_page, draw_people, draw_shapes, read_with_python, save_picture, write_xlsx
from .words import CITIES, ITEMS, POOLS, date, money, person


_GROUND = (245, 245, 245)


def _picture(rng: random.Random, counts: dict[tuple[str, str], int], folder: Path, path: str):
    shapes = [shape for shape, count in counts.items() for _ in range(count)]
    rng.shuffle(shapes)
    return save_picture(draw_shapes(rng, shapes, _GROUND), folder, path)


class Marked(Scenario):
    """One kind of shape is located and marked, in one step or in two; the answer is their number.

    Attributes:
        in_one_step (`bool`): whether locating and marking share a step.
    """

    in_one_step: ClassVar[bool] = True

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        wanted, *others = rng.sample(SHAPES, 3)
        counts = {wanted: rng.randint(2, 7), others[0]: rng.randint(1, 3), others[1]: rng.randint(1, 3)}
        path, thing = self.path(rng), " ".join(wanted)
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


class FruitTray(Scenario):
    """Two kinds of shapes are located in one step; the answer is how many more there are of one."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        first, second, other = rng.sample(SHAPES, 3)
        few = rng.randint(1, 4)
        counts = {first: few + rng.randint(1, 4), second: few, other: rng.randint(1, 3)}
        path = self.path(rng)
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


class PartyMask(Scenario):
    """Faces in a photo are found and marked; the answer is their number."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        count, path = rng.randint(1, 4), self.path(rng)
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
    """Numbers of a sheet are drawn as a bar chart; the answer is the largest one's name.

    Attributes:
        header (`tuple[str, str]`): names of the columns.
        pool (`str`): what the rows are about, a name of `POOLS`.
    """

    header: ClassVar[tuple[str, str]]
    pool: ClassVar[str]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        names, path = rng.sample(POOLS[self.pool], rng.randint(3, 4)), self.path(rng)
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


class SignCheck(Scenario):
    """A sign is drawn from words, then read again; the answer is the text on it."""

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
    """Shapes are drawn from words, then counted with the tool."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        (first, second), (count, other) = rng.sample(SHAPES, 2), rng.sample(range(2, 6), 2)
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

    title: ClassVar[str]
    keys: ClassVar[tuple[str, str, str]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        values = (person(rng), str(rng.randint(100, 990)), date(rng))
        facts = dict(zip(self.keys, values, strict=True))
        key, path = rng.choice(self.keys), self.path(rng)
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


class PriceTags(Scenario):
    """Two photographed price tags, both read in one step and added.

    Attributes:
        stems (`tuple[str, ...]`), title (`str`), label (`str`): names of the files, title of the page, what is read.
    """

    stems: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    label: ClassVar[str]

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
