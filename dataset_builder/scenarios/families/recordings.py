"""Families about sound and video: a spoken memo, an offer in a clip."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import draw_page, write_mp3, write_mp4
from .words import CITIES, money


class Memo(Scenario):
    """A spoken sentence; one word of it is asked for.

    Attributes:
        sentence (`str`): with a slot for each key.
        words (`dict[str, tuple[str, ...]]`): what may stand in each slot; words that speech recognition tells apart.
    """

    sentence: ClassVar[str]
    words: ClassVar[dict[str, tuple[str, ...]]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: rng.choice(values) for key, values in self.words.items()}
        key, path = rng.choice(list(facts)), self.path(rng)
        return self.build(
            self.phrase(rng, key=key),
            [write_mp3(folder, path, self.sentence.format(**facts))],
            facts[key],
            ("I listen to the recording.", f'print(inspect_file_as_text("{path}"))'),
            (f"The {key} is {facts[key]}.", f"final_answer({quote(facts[key])})"),
        )


class OfferClip(Scenario):
    """A video of offers; a value of one of its frames."""

    seconds: ClassVar[int] = 3

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        offers = [{"price": money(rng, 5, 90), "seats": str(rng.randint(12, 990))} for _ in range(self.seconds)]
        key, path = rng.choice(("price", "seats")), self.path(rng)
        city = rng.choice(CITIES).upper()
        pages = [
            draw_page([(k.capitalize(), v) for k, v in offer.items()], f"SHOW {city}", width=256) for offer in offers
        ]
        # The tool saves frames from the first second on, so the first picture stays for two.
        frames = [page.crop((0, 0, 256, 144)) for page in (pages[0], *pages)]
        answer = offers[0][key]
        return self.build(
            self.phrase(rng, key=key),
            [write_mp4(folder, path, frames)],
            answer,
            ("I look into the video.", f'print(inspect_file_as_text("{path}"))'),
            (
                "I look at its first frame.",
                f'print(visualizer("outputs/{Path(path).stem}_1.png", "{key}"))',
            ),
            (f"The {key} is {answer}.", f"final_answer({quote(answer)})"),
        )
