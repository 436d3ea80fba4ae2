"""Words that several families draw from."""

import random


FIRST_NAMES = tuple(
    """Anna Omar Lena Ivan Mia Tariq Nora Felix Zara Hugo Ada Bruno Clara David Elsa Frank Grace Henry Iris Jonas Kira
    Leon Marta Nils Olga Pablo Rosa Simon Tina Viktor""".split()
)
LAST_NAMES = tuple(
    """Berg Moor Silva Kovacs Novak Weber Rossi Duval Larsen Okafor Haddad Tanaka Murphy Costa Nilsson Petrov Garcia
    Fischer Mendes Adler Brandt Keller Lopez Walsh Young""".split()
)
MONTHS = ("January", "February", "March", "April", "June", "July", "August", "October", "November", "December")
CITIES = tuple(
    "Oslo Rome Cairo Lima Delhi Tokyo Paris Quito Dakar Milan Berlin Perth Turin Leeds Osaka Porto Bergen".split()
)
ITEMS = tuple("chairs tables lamps desks shelves mirrors stools carpets clocks vases baskets pillows".split())
BIRDS = tuple("owl crow heron robin eagle stork finch gull swan wren kite magpie".split())
DISHES = tuple("Soup Salad Pasta Pizza Curry Bread Steak Tea Coffee Juice Rice Cake Noodles Burger".split())
POOLS = {
    "birds": BIRDS,
    "cities": CITIES,
    "dishes": DISHES,
    "first names": FIRST_NAMES,
    "items": ITEMS,
    "rooms": tuple("kitchen garage office cellar attic garden hall studio library bathroom".split()),
    "samples": tuple(f"sample {letter}" for letter in "ABCDEFGHKL"),
    "streets": tuple(f"{city} Street" for city in CITIES),
}
"""Lists that `families.yaml` names."""


def date(rng: random.Random) -> str:
    """A day as people write it, for example `14 March 2025`."""
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2019, 2027)}"


def person(rng: random.Random) -> str:
    """A first and a last name."""
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def money(rng: random.Random, low: float, high: float) -> str:
    """An amount with two decimals, for example `12.40`; always a multiple of five cents."""
    return f"{rng.randint(round(low * 20), round(high * 20)) / 20:.2f}"
