"""The rules of GAIA's leaderboard, on cases whose outcome follows from them."""

import random
import string

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.gaia.scoring import answers_match


NUMBERS = [
    # Known numbers: `$`, `%` and `,` are taken out of the answer, then Python's float decides.
    (" 5 ", "5", True),
    ("1e3", "1000", True),
    ("10,00", "1000", True),
    ("$1,000.50", "1000.5", True),
    ("50%", "0.5", False),
    ("−7", "-7", False),  # a typographic minus is no minus for float
    ("€5", "5", False),
    ("5 000", "5000", False),
    ("1_000", "1000", True),  # float reads underscores
    ("٥", "5", True),  # float reads digits of any script
    ("", "5", False),
    (None, "5", False),
    ("5.0000001", "5", False),
    ("3.14", " 3.14 ", True),
    # Words that float reads are numbers, and what cannot be read counts as infinity.
    ("nan", "nan", False),
    ("inf", "inf", True),
    ("anything at all", "inf", True),
    ("anything at all", "-inf", False),
    ("1e999", "inf", True),
]
LISTS = [
    (None, "a, b", False),
    ("a, b,", "a, b", False),
    (",", ",", True),
    ("", ",", False),
    ("a and b", "a, b", False),
    ("sea gull, 2", "seagull, 2", True),
    # Items keep their punctuation.
    ("St. Petersburg, Rome", "St Petersburg, Rome", False),
    ("[a, b]", "a, b", False),
    # Numbers in a list.
    ("1.0, 2.00", "1, 2", True),
    ("1,000; 2", "1000; 2", False),  # the comma splits, so that there are three items
    ("1,000; 2", "1,000; 2", True),
    ("one, 2", "1, 2", False),
    ("x, y", "x, inf", True),
    ("x, nan", "x, nan", False),
    ("ÄPFEL, Birnen", "äpfel, birnen", True),
    ("a,\u00a0b", "a, b", True),  # a no-break space is white space
    ("a,\u200bb", "a, b", False),  # a zero-width space is not
    ("1234", "1,234", False),
    ("a\n,\nb", "a,b", True),
]
STRINGS = [
    ("Paris.", "Paris", True),
    ("  Pa ris ", "Paris", True),
    ("sea-gull", "seagull", True),
    ("The Paris", "Paris", False),
    ("", "Paris", False),
    (None, "Paris", False),
    (None, "None", True),
    (None, "none.", True),
    ("", "...", True),
    ("a(b)*c+", "abc", True),
    ("café", "cafe", False),
    ("café", "cafe\u0301", False),  # no Unicode normalization
    ("STRASSE", "straße", False),
    ("İ", "i", False),
    ("“Paris”", "Paris", False),  # punctuation beyond ASCII stays
    ("'Paris'", '"Paris"', True),
    ("東 京", "東京", True),
    ("5kg", "5 kg", True),
    ("5-10", "510 ", False),  # the known answer is a number
    ("5:10", "510 a.m.", False),
    ("x" * 5000, "X" * 5000, True),
]


@pytest.mark.parametrize(("answer", "known", "right"), [*NUMBERS, *LISTS, *STRINGS])
def test_a_case(answer, known, right):
    assert answers_match(answer, known) is right


def test_equal_answers_are_right_unless_they_are_not_a_number():
    rng = random.Random(0)
    alphabet = string.ascii_letters + string.digits + " .,;-é東🦆'"
    for _ in range(200):
        text = "x" + "".join(rng.choices(alphabet, k=rng.randint(0, 12)))
        assert answers_match(text, text)
        assert answers_match(text.upper() if text.isascii() else text, text)
        assert answers_match(text.replace(" ", ""), text)


def test_numbers_with_separators_and_signs():
    rng = random.Random(1)
    for _ in range(200):
        value = rng.choice([rng.randint(-(10**6), 10**6), round(rng.uniform(-1e4, 1e4), 3)])
        assert answers_match(f"${value:,}", str(value))
        assert answers_match(f"{value:,}%", str(value))
        assert not answers_match(f"{value + 1:,}", str(value))
        assert not answers_match(f"{value} metres", str(value))


def test_lists_of_other_lengths_and_orders():
    rng = random.Random(2)
    for _ in range(200):
        items = rng.sample(["red", "Blue", "7", "3.5", "sea gull", "Æ", "x-y"], rng.randint(2, 6))
        known = rng.choice([", ", ";", " , "]).join(items)
        assert answers_match(rng.choice([",", "; "]).join(items).upper(), known)
        assert not answers_match(",".join(items[:-1]), known)
        assert not answers_match(",".join([*items, "extra"]), known)
        assert not answers_match(",".join(items[1:] + items[:1]), known)


@pytest.mark.parametrize(("answer", "known"), [(5, "5"), ("5", 5), ("5", None), (["a"], "a"), (b"a", "a")])
def test_what_is_no_text_is_refused(answer, known):
    with pytest.raises(InputError, match="strings"):
        answers_match(answer, known)
