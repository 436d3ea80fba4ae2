"""Families about sound and video: a spoken memo, an offer in a clip."""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

from ..base import Scenario, ScenarioTask, quote
from .files import draw_page, write_mp3, write_mp4
from .words import CITIES, money


class _Memo(Scenario):
    """A spoken sentence; one word of it is asked for.

    Attributes:
        sentence (`str`): with a slot for each key.
        words (`dict[str, tuple[str, ...]]`): what may stand in each slot; words that speech recognition tells apart.
    """

    sentence: ClassVar[str]
    words: ClassVar[dict[str, tuple[str, ...]]]

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        facts = {key: rng.choice(values) for key, values in self.words.items()}
        key, path = rng.choice(list(facts)), rng.choice(self.paths)
        return self.build(
            self.phrase(rng, key=key),
            [write_mp3(folder, path, self.sentence.format(**facts))],
            facts[key],
            ("I listen to the recording.", f'print(inspect_file_as_text("{path}"))'),
            (f"The {key} is {facts[key]}.", f"final_answer({quote(facts[key])})"),
        )


class DinnerMemo(_Memo):
    """An invitation."""

    name = "dinner_memo"
    domain = "social"
    sentence = "{event} is on {day} at {hour}."
    words = {
        "event": ("dinner", "breakfast", "lunch"),
        "day": ("Monday", "Friday", "Sunday", "Thursday"),
        "hour": ("eight", "nine", "seven", "six"),
    }
    paths = ("files/memo.mp3", "files/voice.mp3", "files/message.mp3", "files/call.mp3")
    phrasings = (
        "What {key} does the voice message give?",
        "Listen to the message. Which {key} is it?",
        "Which {key} am I invited for?",
        "Tell me the {key} in this recording.",
    )


class ShoppingMemo(_Memo):
    """A shopping list."""

    name = "shopping_memo"
    domain = "food"
    sentence = "We need {number} {thing} and five tables."
    words = {"number": ("seven", "twelve", "six", "nine"), "thing": ("apples", "onions", "chairs")}
    paths = ("files/list.mp3", "files/shopping.mp3", "files/note.mp3", "files/kitchen.mp3")
    phrasings = (
        "What does the recording give as the first {key}?",
        "Listen to the list and tell me the first {key}.",
        "Which {key} is named first in the recording?",
        "I cannot listen now. What is the first {key} in the memo?",
    )


class OfferClip(Scenario):
    """A video of offers; a value of one of its frames."""

    name = "offer_clip"
    domain = "entertainment"
    paths = ("files/clip.mp4", "files/trailer.mp4", "files/advert.mp4", "files/video.mp4")
    phrasings = (
        "What is the {key} in the first offer that this video shows?",
        "Watch the video. Which {key} has the first offer?",
        "Find the {key} of the first offer in the clip.",
        "Tell me the first {key} in the clip.",
    )
    seconds: ClassVar[int] = 3

    def make(self, rng: random.Random, folder: Path) -> ScenarioTask:
        offers = [{"price": money(rng, 5, 90), "seats": str(rng.randint(12, 990))} for _ in range(self.seconds)]
        key, path = rng.choice(("price", "seats")), rng.choice(self.paths)
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


class TrafficClip(OfferClip):
    """Test: a clip of timetables."""

    name = "traffic_clip"
    domain = "transportation"
    split = "test"
    paths = ("files/platform.mp4", "files/bus.mp4", "files/screen.mp4", "files/hall.mp4")
    phrasings = (
        "Filmed at the platform, the screen begins with which {key}?",
        "My film of the screen opens with some {key}: quote it.",
        "At the opening of the film, quote the {key} on display.",
        "On display when the film opens is a {key}; quote it.",
    )
