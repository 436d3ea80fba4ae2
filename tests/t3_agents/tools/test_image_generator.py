import numpy as np
import pytest
from PIL import Image

from t3_agents.errors import InputError
from t3_agents.tools.image_generator import ImageGenerator
from t3_agents.tools.local.shapes import measure
from t3_agents.tools.ocr import find_words, join_rows


@pytest.fixture
def make(use, workspace):
    tool = use(ImageGenerator())

    def make(prompt):
        path = tool(prompt)
        assert path.startswith("outputs/image_")
        return Image.open(workspace.root / path)

    return make


def text_of(image):
    return " ".join(join_rows(find_words(image)))


@pytest.mark.parametrize(
    ("prompt", "shapes"),
    [
        ("two red circles and a blue square on white", "blue square, red circle, red circle"),
        ("Draw a green triangle.", "green triangle"),
        ("3 yellow stars on a black background", "yellow star, yellow star, yellow star"),
        ("an image of five small orange diamonds on a blue background", ", ".join(["orange diamond"] * 5)),
        ("12 purple hexagons", ", ".join(["purple hexagon"] * 12)),
        ("a big pink pentagon and a cyan ellipse", "cyan ellipse, pink pentagon"),
    ],
)
def test_shapes_are_those_that_were_asked_for(make, prompt, shapes):
    # Another part of the package, which measures pictures, tells what was drawn.
    assert ", ".join(sorted(map(str, measure(make(prompt)).shapes))) == shapes


@pytest.mark.parametrize(
    ("prompt", "first", "axis", "sign"),
    [
        ("a red circle above a blue square", "circle", 1, -1),
        ("a red circle below a blue square", "circle", 1, 1),
        ("a red circle to the left of a blue square", "circle", 0, -1),
        ("a red circle at the top right and a blue square at the bottom right", "circle", 1, -1),
    ],
)
def test_places(make, prompt, first, axis, sign):
    one, other = sorted(measure(make(prompt)).shapes, key=lambda shape: shape.kind != first)
    assert sign * (one.box[axis] - other.box[axis]) > 100
    assert abs(one.box[1 - axis] - other.box[1 - axis]) < 30


def test_size_and_ground(make):
    image = make("a white circle on a navy background, 300x200")
    assert image.size == (300, 200) and image.getpixel((2, 2)) == (0, 0, 128)
    assert image.getpixel((150, 100)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a yellow poster with the text "Grand Opening Saturday" in red', "Grand Opening Saturday"),
        ("Create a banner that says 'Adventure Stories'", "Adventure Stories"),
        ('a card with the title "Lunch" and the text "Soup 4.50"', "Lunch Soup 4.50"),
    ],
)
def test_text_can_be_read(make, prompt, text):
    assert text_of(make(prompt)) == text


def test_text_fits(make):
    words = " ".join(["photosynthesis"] * 12)
    image = make(f'a sign with the text "{words}" 400x300')
    assert text_of(image).count("photosynthesis") >= 11
    assert (np.asarray(image)[:, [0, -1]] == 255).all()


def test_text_and_shapes_together(make):
    image = make('a blue card with the words "Hello" and two white stars')
    assert text_of(image) == "Hello"
    assert sorted(map(str, measure(image).shapes)).count("white star") == 2


def test_bar_chart(make):
    image = make('a bar chart titled "Fruit" of apples 3, pears 5 and plums 2')
    text = text_of(image)
    assert all(word in text for word in ("Fruit", "apples", "pears", "plums"))
    # The bars have the heights of their numbers.
    bars = [shape for shape in measure(image).shapes if shape.color == "blue"]
    heights = [bar.box[3] - bar.box[1] for bar in sorted(bars, key=lambda bar: bar.box[0])]
    assert len(bars) == 3 and heights[1] / heights[0] == pytest.approx(5 / 3, rel=0.05)
    assert heights[2] / heights[0] == pytest.approx(2 / 3, rel=0.05)


def test_other_charts(make):
    pie = text_of(make("pie chart of rent 40%, food 35%, fun 25%"))
    assert "rent" in pie and "40.0%" in pie and "25.0%" in pie
    line = text_of(make("Line graph showing sales by year: 2019: 5, 2020: 7.5, 2021: 6"))
    assert "2019" in line and "2021" in line and "sales by year" in line and "year:" not in line
    assert "1200" in text_of(make("bar chart of Jan 1,200, Feb 900"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a cat on a sofa", "cannot draw `cat sofa`"),
        ("a vibrant sunset with the title 'Stories'", "cannot draw `vibrant sunset`"),
        ("a photo of a red circle", "cannot draw `photo`"),
        ("an image", "cannot tell what to draw"),
        ("", "must say what to draw"),
        (None, "must say what to draw"),
        ("a bar chart", "needs its numbers"),
        ("a bar chart of the population of France", "no label with a number"),
        ("a pie chart of debt -3, cash 5", "positive"),
        ("a red circle 9000x9000", "pixels a side"),
        ("500 red dots", "at most 200"),
    ],
)
def test_what_cannot_be_drawn_is_said(make, prompt, message):
    with pytest.raises(InputError, match=message):
        make(prompt)


def test_refusals_say_what_can_be_drawn(make):
    with pytest.raises(InputError, match="bar, line or pie chart .* shapes .* card with text"):
        make("a dragon")
