"""Facts about countries, as they stand in The World Factbook (CIA, public domain), and how they are asked for."""

import csv
from pathlib import Path
from typing import NamedTuple


class Country(NamedTuple):
    """Facts about one country.

    Args:
        code (`str`): internet country code, for example `.ke`.
        airports (`int`): number of airports.
        coastline (`int`): length in kilometres; 0 for a country without a coast.
        area (`int`): total area in square kilometres.
        independence (`int`): year of independence.
        colors (`str`): national colors.
    """

    code: str
    airports: int
    coastline: int
    area: int
    independence: int
    colors: str


class Topic(NamedTuple):
    """Something that the Factbook tells about countries.

    Args:
        name (`str`): as people call it, with an article where one is due.
        search (`str`): words that find it.
        values (`dict[str, str]`): by country; a country without a clear value is left out.
    """

    name: str
    search: str
    values: dict[str, str]


with Path(__file__).parents[1].joinpath("countries.csv").open(encoding="utf-8", newline="") as _file:
    _ROWS = {row["country"]: row for row in csv.DictReader(_file)}

COUNTRIES = {
    name: Country(row["code"], *(int(row[field]) for field in Country._fields[1:-1]), row["colors"])
    for name, row in _ROWS.items()
}

# By column of `countries.csv`: what it is called, and what finds it where that are other words.
_TOPICS = {
    "capital": ("capital",),
    "life": ("life expectancy at birth",),
    "age": ("median age",),
    "births": ("birth rate",),
    "obesity": ("share of adults with obesity", "obesity"),
    "doctors": ("number of physicians per 1,000 people", "physicians density"),
    "forest": ("share of forest in the land", "forest land use"),
    "internet": ("share of people who use the internet", "internet users"),
    "mobile": ("number of mobile subscriptions per 100 people", "mobile cellular telephones"),
    "railways": ("length of the railways", "railways"),
    "peak": ("height of the highest point", "highest point"),
    "rate": ("exchange rate to the dollar in 2024", "exchange rates"),
    "inflation": ("inflation rate in 2024", "inflation rate"),
    "unemployment": ("unemployment rate in 2024", "unemployment rate"),
    "product": ("first agricultural product", "agricultural products"),
    "symbol": ("national symbol",),
    "anthem": ("title of the national anthem", "national anthem"),
    "independence": ("year of independence", "independence"),
}
TOPICS = {
    column: Topic(words[0], words[-1], {name: row[column] for name, row in _ROWS.items() if row[column]})
    for column, words in _TOPICS.items()
}
"""What may be asked about countries, by the names that `families.yaml` uses."""


def search(words: str, country: str) -> str:
    """The call that finds something about a country."""
    return f'print(ask_search_agent("{words} of {country}"))'
