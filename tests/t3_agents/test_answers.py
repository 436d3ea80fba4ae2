"""The rule by which answers are compared: chosen pairs, and properties of generated ones."""

import random

import pytest

from t3_agents.answers import answers_match, normalize


SAME = [
    ("Paris", "paris"),
    ("  Paris.\n", "Paris"),
    ("**Paris**", "Paris"),
    ("`Paris`", "Paris"),
    ("“Paris”", "'Paris'"),
    ("The Eiffel Tower", "eiffel tower"),
    ("an  apple", "apple"),
    ("A", "a."),
    ("The", "the"),
    ("Straße", "STRASSE"),
    ("ﬁsh", "fish"),
    ("caf\u00e9", "cafe\u0301"),
    ("\u200bParis\ufeff", "Paris"),
    ("$1,250.00", "1250"),
    ("1250", "$1,250.00"),
    ("€5", "5 EUR"),
    ("EUR 5.00", "5€"),
    ("-$5", "$-5"),
    ("−5", "-5"),
    ("+5", "5"),
    ("(5)", "5"),
    ("#5", "5"),
    ("007", "7"),
    (".5", "0.50"),
    ("5.", "5"),
    ("1e3", "1,000"),
    ("12 %", "12%"),
    ("12.0%.", "12%"),
    ("12kg", "12.0 KG"),
    ("3 apples", "3 apples."),
    ("９", "9"),
    ("0.30000000000000004", "0.3"),
    ("33.3333333333", "33.33333333333333"),
    ("$12", "12"),
    ("the Oslo", "Oslo"),
    ("12.000000001", "12"),
    ("1,250, 300", "1250; 300"),
    ("a, b", "A,B"),
    ("['a', 'b']", "a, b"),
    ("a, b, and c", "a; b; c"),
    ("a and b", "a, b"),
    ("- a\n- b", "a\nb"),
    ("Tom & Jerry", "tom and jerry"),
    ("the cat, a dog", "cat, dog"),
    ("a, b,", "a, b"),
    ("C#", "c#"),
    ("?", "?"),
    ("...", "..."),
    ("10:30", "10:30."),
    ("a 5", "5"),
    ("1" * 300, "1" * 300),
]

DIFFERENT = [
    (None, "5"),
    ("", "5"),
    (" \n", "5"),
    ("\u200b", "5"),
    ("...", "5"),
    ("5", "50"),
    ("5", "-5"),
    ("The answer is 5", "5"),
    ("5 or 6", "5"),
    ("5, 6", "5"),
    ("6, 5", "5, 6"),
    ("5, 5", "5"),
    ("12", "12%"),
    ("0.12", "12%"),
    ("€5", "$5"),
    ("12 kg", "12 g"),
    ("12 kg", "12"),
    ("1250.01", "1250"),
    ("3.33", "3.3333"),
    ("12.3000001", "12.3"),
    ("9876543.21", "9876543.22"),
    ("1234567", "1234568"),
    ("1,25", "125"),
    ("12,50", "1250"),
    ("12345678901234567890", "12345678901234567891"),
    ("1" * 300, "1" * 299 + "2"),
    ("Paris", "Parish"),
    ("C", "C#"),
    ("cat", "the"),
    ("five", "5"),
    ("true", "yes"),
    ("nan", "5"),
    ("inf", "1e999"),
    ("1e999999999", "5"),
    ("½", "0.5"),
]


@pytest.mark.parametrize(("prediction", "reference"), SAME)
def test_same_answers(prediction, reference):
    assert answers_match(prediction, reference)
    assert answers_match(reference, prediction)


@pytest.mark.parametrize(("prediction", "reference"), DIFFERENT)
def test_different_answers(prediction, reference):
    assert not answers_match(prediction, reference)
    if prediction is not None and normalize(prediction):
        assert not answers_match(reference, prediction)


def test_every_number_matches_its_other_spellings():
    numbers = random.Random(0)
    for _ in range(300):
        cents = numbers.randrange(-(10**9), 10**9)
        value = cents / 100
        spellings = [f"{value:.2f}", f"{value:,.2f}", f"${value:,.2f}", f" {value:.2f} USD.", f"**{value:,.3f}**"]
        for spelling in spellings:
            assert answers_match(spelling, f"{value}"), spelling
        assert not answers_match(f"{value + 0.01:.2f}", f"{value:.2f}")
        assert answers_match(repr(value / 3 * 3), repr(value))


LETTERS = "ab 5,.;-$%&()\n\t\u200b€½'\"`*#e+_A\ud800"


def test_any_answer_matches_itself_and_its_plain_variants():
    letters = random.Random(1)
    for _ in range(2000):
        text = "".join(letters.choices(LETTERS, k=letters.randrange(1, 12)))
        assert answers_match(text, text) == bool(normalize(text)), repr(text)
        assert answers_match(f" {text.swapcase()}\u200b ", text) == bool(normalize(text)), repr(text)


def test_the_order_of_two_answers_does_not_matter():
    letters = random.Random(2)
    words = "12|12.0|1,200|$12|12 €|12%|the Oslo|oslo.|and|,|-|12.000000001|12.1| ".split("|")
    answers = ["".join(letters.choices(words, k=letters.randrange(1, 4))) for _ in range(400)]
    same = 0
    for first in answers:
        for second in letters.sample(answers, 40):
            same += answers_match(first, second)
            assert answers_match(first, second) == answers_match(second, first), (first, second)
    assert 0 < same < 400 * 40


@pytest.mark.parametrize(
    "text", ["1," * 20000, "the " * 20000, "(" * 50000, "9" * 50000, "and " * 20000, "-." * 20000]
)
def test_long_answers_take_no_time(text):
    assert answers_match(text, text)
