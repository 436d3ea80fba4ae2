"""Families with the same words and the same file name: only the look of the picture tells which tool is right."""

from __future__ import annotations

import random
from abc import abstractmethod
from pathlib import Path

from PIL import Image

from ..base import Scenario, ScenarioTask
from .files import COLORS, Color, draw_page, draw_people, draw_shapes, save_picture
from .words import BIRDS


PATH = "files/picture.png"

# Vivid grounds on which every color of `COLORS` stands out; neither a page nor a photo has such a color all over.
_GROUNDS: tuple[Color, ...] = ((0, 205, 235), (10, 195, 220), (0, 220, 225), (30, 200, 245))


class Look(Scenario):
    """A picture that is recognized by its look.

    Attributes:
        thought (`str`), call (`str`): the first move of every task of the family.
    """

    vision_only = True
    paths = (PATH,)
    thought: str
    call: str

    @abstractmethod
    def draw(self, rng: random.Random) -> tuple[Image.Image, int]:
        """A picture and the number that it stands for."""

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        picture, count = self.draw(rng)
        return self.build(
            self.phrase(rng),
            [save_picture(picture, folder, PATH)],
            str(count),
            (self.thought, f"print({self.call})"),
            (f"The number is {count}.", f'final_answer("{count}")'),
        )


class LookSlip(Look):
    """A white page with dark text: read its total."""

    thought = "The picture is a page with text, so I read it."
    call = f'visualizer("{PATH}", "total")'

    def draw(self, rng: random.Random) -> tuple[Image.Image, int]:
        counts = {bird: rng.randint(2, 60) for bird in rng.sample(BIRDS, 4)}
        rows = [(bird.capitalize(), str(count)) for bird, count in counts.items()]
        total = sum(counts.values())
        return draw_page([*rows, ("Total", str(total))], "BIRD WALK", width=256), total


class LookPeople(Look):
    """A photo with people: count their faces."""

    thought = "The picture is a photo of people, so I count faces."
    call = f'len(facedetection("{PATH}"))'

    def draw(self, rng: random.Random) -> tuple[Image.Image, int]:
        count = rng.randint(1, 4)
        return draw_people(rng, count), count


class LookShapes(Look):
    """Flat shapes on a plain ground: count them."""

    thought = "The picture is a drawing of shapes, so I locate them."
    call = f'len(objectlocation("shape", "{PATH}"))'

    def draw(self, rng: random.Random) -> tuple[Image.Image, int]:
        count = rng.randint(2, 12)
        shape = (rng.choice(list(COLORS)), rng.choice(("circle", "square", "triangle")))
        return draw_shapes(rng, [shape] * count, rng.choice(_GROUNDS)), count
