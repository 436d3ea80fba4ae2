"""Facts about countries, as they stand in The World Factbook (CIA, public domain)."""

from typing import NamedTuple


class Country(NamedTuple):
    """Facts about one country.

    Args:
        internet (`str`): internet country code, for example `.ke`.
        airports (`int`): number of airports.
        coastline (`int`): length in kilometres; 0 for a country without a coast.
        area (`int`): total area in square kilometres.
        independence (`int`): year of independence.
        colors (`str`): national colors.
    """

    internet: str
    airports: int
    coastline: int
    area: int
    independence: int
    colors: str


COUNTRIES: dict[str, Country] = {
    "Afghanistan": Country(".af", 68, 0, 652230, 1919, "red, green, black"),
    "Algeria": Country(".dz", 95, 998, 2381740, 1962, "green, white, red"),
    "Angola": Country(".ao", 107, 1600, 1246700, 1975, "red, black, yellow"),
    "Argentina": Country(".ar", 764, 4989, 2780400, 1816, "sky blue, white"),
    "Bahrain": Country(".bh", 3, 161, 760, 1971, "red, white"),
    "Bangladesh": Country(".bd", 17, 580, 148460, 1971, "green, red"),
    "Barbados": Country(".bb", 1, 97, 430, 1966, "blue, yellow, black"),
    "Belarus": Country(".by", 46, 0, 207600, 1991, "green, red, white"),
    "Belize": Country(".bz", 27, 386, 22966, 1981, "red, blue"),
    "Botswana": Country(".bw", 122, 0, 581730, 1966, "light blue, white, black"),
    "Burkina Faso": Country(".bf", 49, 0, 274200, 1960, "red, yellow, green"),
    "Cabo Verde": Country(".cv", 10, 965, 4033, 1975, "blue, white, red, yellow"),
    "Cambodia": Country(".kh", 12, 443, 181035, 1953, "red, blue"),
    "Cameroon": Country(".cm", 37, 402, 475440, 1960, "green, red, yellow"),
    "Comoros": Country(".km", 3, 340, 2235, 1975, "green, white"),
    "Czechia": Country(".cz", 252, 0, 78867, 1993, "white, red, blue"),
    "Djibouti": Country(".dj", 10, 314, 23200, 1977, "light blue, green, white, red"),
    "Ecuador": Country(".ec", 317, 2237, 283561, 1822, "yellow, blue, red"),
    "El Salvador": Country(".sv", 27, 307, 21041, 1821, "blue, white"),
    "Eritrea": Country(".er", 11, 0, 117600, 1993, "green, red, blue"),
    "Gabon": Country(".ga", 42, 885, 267667, 1960, "green, yellow, blue"),
    "Ghana": Country(".gh", 11, 539, 238533, 1957, "red, yellow, green, black"),
    "Greece": Country(".gr", 82, 13676, 131957, 1830, "blue, white"),
    "Guatemala": Country(".gt", 58, 400, 108889, 1821, "blue, white"),
    "Guyana": Country(".gy", 55, 459, 214969, 1966, "red, yellow, green, black, white"),
    "Honduras": Country(".hn", 129, 0, 112090, 1821, "blue, white"),
    "India": Country(".in", 315, 7000, 3287263, 1947, "saffron, white, green"),
    "Indonesia": Country(".id", 556, 54716, 1904569, 1945, "red, white"),
    "Iraq": Country(".iq", 73, 58, 438317, 1932, "red, white, black"),
    "Italy": Country(".it", 655, 7600, 301340, 1861, "red, white, green"),
    "Jamaica": Country(".jm", 20, 1022, 10991, 1962, "green, yellow, black"),
    "Jordan": Country(".jo", 18, 26, 89342, 1946, "black, white, green, red"),
    "Kazakhstan": Country(".kz", 132, 0, 2724900, 1991, "blue, yellow"),
    "Kenya": Country(".ke", 368, 536, 580367, 1963, "black, red, green, white"),
    "Kiribati": Country(".ki", 21, 1143, 811, 1979, "red, white, blue, yellow"),
    "Kuwait": Country(".kw", 6, 499, 17818, 1961, "green, white, red, black"),
    "Kyrgyzstan": Country(".kg", 28, 0, 199951, 1991, "red, yellow"),
    "Lebanon": Country(".lb", 8, 225, 10400, 1943, "red, white, green"),
    "Lesotho": Country(".ls", 34, 0, 30355, 1966, "blue, white, green, black"),
    "Liberia": Country(".lr", 19, 579, 111369, 1847, "red, white, blue"),
    "Madagascar": Country(".mg", 93, 4828, 587041, 1960, "red, green, white"),
    "Malawi": Country(".mw", 27, 0, 118484, 1964, "black, red, green"),
    "Malaysia": Country(".my", 100, 0, 329847, 1957, "gold, black"),
    "Mali": Country(".ml", 30, 0, 1240192, 1960, "green, yellow, red"),
    "Malta": Country(".mt", 1, 0, 316, 1964, "red, white"),
    "Marshall Islands": Country(".mh", 33, 0, 181, 1986, "blue, white, orange"),
    "Mauritania": Country(".mr", 25, 754, 1030700, 1960, "green, yellow"),
    "Mauritius": Country(".mu", 5, 177, 2040, 1968, "red, blue, yellow, green"),
    "Morocco": Country(".ma", 48, 2945, 716550, 1956, "red, green"),
    "Mozambique": Country(".mz", 92, 2470, 799380, 1975, "green, black, yellow, white, red"),
    "Namibia": Country(".na", 259, 1572, 824292, 1990, "blue, red, green, white, yellow"),
    "Nicaragua": Country(".ni", 39, 910, 130370, 1821, "blue, white"),
    "Nigeria": Country(".ng", 50, 853, 923768, 1960, "green, white"),
    "North Macedonia": Country(".mk", 13, 0, 25713, 1991, "red, yellow"),
    "Pakistan": Country(".pk", 117, 1046, 796095, 1947, "green, white"),
    "Peru": Country(".pe", 174, 2414, 1285216, 1821, "red, white"),
    "Philippines": Country(".ph", 256, 36289, 300000, 1946, "red, white, blue, yellow"),
    "Qatar": Country(".qa", 8, 563, 11586, 1971, "maroon, white"),
    "Rwanda": Country(".rw", 8, 0, 26338, 1962, "blue, yellow, green"),
    "Saint Lucia": Country(".lc", 2, 158, 616, 1979, "cerulean blue, gold, black, white"),
    "Samoa": Country(".ws", 4, 403, 2831, 1962, "red, white, blue"),
    "Saudi Arabia": Country(".sa", 90, 2640, 2149690, 1932, "green, white"),
    "Seychelles": Country(".sc", 16, 491, 455, 1976, "blue, yellow, red, white, green"),
    "Sierra Leone": Country(".sl", 8, 402, 71740, 1961, "green, white, blue"),
    "Singapore": Country(".sg", 9, 193, 719, 1965, "red, white"),
    "Slovakia": Country(".sk", 116, 0, 49035, 1993, "white, blue, red"),
    "Slovenia": Country(".si", 42, 0, 20273, 1991, "white, blue, red"),
    "Solomon Islands": Country(".sb", 36, 5313, 28896, 1978, "blue, yellow, green, white"),
    "Suriname": Country(".sr", 55, 386, 163820, 1975, "green, white, red, yellow"),
    "Syria": Country(".sy", 42, 193, 187437, 1946, "red, white, black, green"),
    "Tajikistan": Country(".tj", 19, 0, 144100, 1991, "red, white, green"),
    "Togo": Country(".tg", 7, 56, 56785, 1960, "green, yellow, red, white"),
    "Tunisia": Country(".tn", 14, 1148, 163610, 1956, "red, white"),
    "Turkey": Country(".tr", 116, 7200, 783562, 1923, "red, white"),
    "Tuvalu": Country(".tv", 1, 24, 26, 1978, "light blue, yellow"),
    "Uganda": Country(".ug", 39, 0, 241038, 1962, "black, yellow, red"),
    "Uruguay": Country(".uy", 65, 660, 176215, 1825, "blue, white, yellow"),
    "Venezuela": Country(".ve", 509, 2800, 912050, 1811, "yellow, blue, red"),
    "Zambia": Country(".zm", 120, 0, 752618, 1964, "green, red, black, orange"),
    "Zimbabwe": Country(".zw", 144, 0, 390757, 1980, "green, yellow, red, black, white"),
}


def search(words: str, country: str) -> str:
    """The call that finds something about a country."""
    return f'print(ask_search_agent("{words} of {country}"))'
