"""The offline image corpus: pictures that the scenarios' drawing functions make, with captions that are true."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dataset_builder.scenarios.families.files import COLORS, draw_bars, draw_page, draw_people, draw_shapes
from dataset_builder.scenarios.families.words import CITIES, DISHES, date, money, person
from t3_agents.media import encode_image


if TYPE_CHECKING:
    import datasets

FOLDER = "drawn-1"
"""Name of the saved corpus; the number changes with the pictures."""
NUM_PICTURES = 240

_SHAPES = ("circle", "square", "triangle")
_GROUNDS = ((255, 255, 255), (235, 240, 230), (225, 235, 245))


def drawn_corpus(cache: Path) -> datasets.Dataset:
    """The corpus, drawn at the first call and kept in `cache`. Columns `image` and `caption`."""
    import datasets

    folder = cache / FOLDER
    if not (folder / "dataset_info.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        rows = [draw_captioned(number) for number in range(NUM_PICTURES)]
        # Each process in a folder of its own: the first to rename wins, the pictures are the same.
        building = cache / f".{FOLDER}-{os.getpid()}"
        datasets.Dataset.from_list(rows, features=features).save_to_disk(str(building))
        try:
            os.rename(building, folder)
        except OSError:
            if not folder.is_dir():
                raise
    return datasets.load_from_disk(str(folder))


def draw_captioned(number: int) -> dict[str, Any]:
    """Picture `number` of the corpus as a row: `image` with `bytes` and `path`, and `caption`."""
    rng = random.Random(f"drawn-{number}")
    drawers = (_receipt, _menu, _chart, _ticket, _label, _shapes, _people)
    image, caption = drawers[number % len(drawers)](rng)
    # JPEG blurs letters, so it is for pictures that nobody reads.
    is_photo = drawers[number % len(drawers)] in (_people, _shapes, _chart)
    data = encode_image(image, "JPEG", quality=92) if is_photo else encode_image(image)
    name = f"{number}.{'jpg' if is_photo else 'png'}"
    return {"image": {"bytes": data, "path": name}, "caption": caption}


def _priced(rows: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {price}" for name, price in rows)


def _receipt(rng: random.Random) -> tuple[Image.Image, str]:
    rows = [(dish, money(rng, 2, 30)) for dish in rng.sample(DISHES, rng.randint(2, 4))]
    total = f"{sum(float(price) for _, price in rows):.2f}"
    place, city = rng.choice(("cafe", "bar", "bistro", "grill")), rng.choice(CITIES)
    image = draw_page([*rows, ("TOTAL", total)], f"{place.upper()} {city.upper()}")
    return image, f"A printed receipt of a {place} in {city}: {_priced(rows)}, total {total}."


def _menu(rng: random.Random) -> tuple[Image.Image, str]:
    rows = [(dish, money(rng, 4, 25)) for dish in rng.sample(DISHES, rng.randint(3, 5))]
    kind = rng.choice(("Lunch", "Dinner", "Snack"))
    return draw_page(rows, f"{kind} menu", (252, 250, 240)), f"A {kind.lower()} menu with prices: {_priced(rows)}."


def _chart(rng: random.Random) -> tuple[Image.Image, str]:
    what, unit = rng.choice((("Rainfall", "mm"), ("Visitors", "k"), ("Sales", "k"), ("Snow", "cm")))
    values = dict(zip(rng.sample(CITIES, 4), rng.sample(range(20, 190), 4), strict=True))
    year = rng.randint(1990, 2025)
    image = draw_bars(f"{what} in {year}", values, unit, rng.choice(list(COLORS.values())))
    bars = ", ".join(f"{city} {value} {unit}" for city, value in values.items())
    return image, f"A bar chart of {what.lower()} in {year}: {bars}."


def _ticket(rng: random.Random) -> tuple[Image.Image, str]:
    kind = rng.choice(("Train", "Bus", "Concert", "Museum"))
    start, end = rng.sample(CITIES, 2)
    rows = [("From", start), ("To", end), ("Seat", f"{rng.randint(1, 40)}{rng.choice('ABCD')}")]
    if kind in ("Concert", "Museum"):
        rows = [("City", start), ("Date", date(rng)), ("Persons", str(rng.randint(1, 6)))]
    rows.append(("Price", money(rng, 8, 120)))
    words = ", ".join(f"{label.lower()} {value}" for label, value in rows)
    return draw_page(rows, f"{kind} ticket", (246, 249, 255)), f"A {kind.lower()} ticket: {words}."


def _label(rng: random.Random) -> tuple[Image.Image, str]:
    kind, labels = rng.choice(
        (
            ("Nutrition facts", ("Energy kcal", "Sugar g", "Fat g", "Salt g")),
            ("Device plate", ("Voltage V", "Power W", "Weight kg", "Year")),
            ("Parking sign", ("First hour", "Each hour", "Whole day", "Night")),
        )
    )
    rows = [(label, str(rng.randint(2, 480) if label != "Year" else rng.randint(1995, 2025))) for label in labels]
    owner = f" of {person(rng)}" if kind == "Device plate" else ""
    return draw_page(rows, kind), f"A {kind.lower()}{owner} that says {_priced(rows)}."


def _shapes(rng: random.Random) -> tuple[Image.Image, str]:
    shapes = [(rng.choice(list(COLORS)), rng.choice(_SHAPES)) for _ in range(rng.randint(3, 9))]
    counts = Counter(f"{color} {kind}" for color, kind in shapes)
    words = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in sorted(counts.items()))
    return draw_shapes(rng, shapes, rng.choice(_GROUNDS)), f"Coloured shapes on a light ground: {words}."


def _people(rng: random.Random) -> tuple[Image.Image, str]:
    count = rng.randint(1, 4)
    words = "one person" if count == 1 else f"a group of {count} people"
    return draw_people(rng, count), f"A photo of {words} looking at the camera."
