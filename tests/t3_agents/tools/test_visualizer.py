import pytest
from PIL import Image, ImageDraw

from t3_agents.errors import InputError
from t3_agents.hub.wheel_weights import PartError
from t3_agents.tools.facedetection import find_faces
from t3_agents.tools.local.shapes import color_name, measure
from t3_agents.tools.ocr import Word, join_rows
from t3_agents.tools.visualizer import Visualizer


@pytest.fixture
def tool(use):
    return use(Visualizer())


def test_text_comes_as_rows_and_the_question_chooses_among_them(tool, attach, receipt):
    path = attach(receipt)
    assert tool(path, "Read the text in the image.").splitlines() == [
        "CORNER SHOP",
        "Bread 2.50",
        "Green tea 3.75",
        "Total 6.25",
    ]
    assert tool(path, "What is the total?") == "Total 6.25"
    assert tool(path, "How much are the breads?") == "Bread 2.50"


def test_long_text_is_cut_with_a_note(attach, use, receipt):
    tool = use(Visualizer(max_chars=30))
    answer = tool(attach(receipt), "")
    assert answer.startswith("CORNER SHOP\nBread 2.50\n")
    assert answer.endswith("more characters cut]")


def test_a_drawing_without_text_is_measured(tool, attach, shapes):
    answer = tool(attach(shapes), "How many red circles are there?")
    assert "300 x 220" in answer and "No readable text" in answer
    for part in ("2 red circles", "1 blue circle", "1 red square", "1 green triangle", "1 orange rectangle"):
        assert part in answer
    assert "cannot be told" in answer


def test_a_photo_is_not_taken_for_shapes(tool, attach, portrait):
    answer = tool(attach(portrait), "How many faces are there?")
    assert "Shapes: not counted" in answer
    assert "Faces: 1." in answer or "Faces: not counted" in answer


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ("How many red circles are there?", "2: 2 red circles."),
        ("Count the red objects.", "3: 2 red circles, 1 red square."),
        ("How many stars?", "0: there is none."),
        ("What colour is the triangle?", "green triangle."),
        ("Where is the triangle?", "green triangle at the bottom left [20, 112, 101, 191]."),
        ("Is there a blue circle?", "Yes: 1 blue circle."),
        ("Is there a purple star?", "No, there is none."),
        ("How large is the orange rectangle?", "orange rectangle 131 x 41 pixels."),
        ("What is the size of the picture?", "The picture is 300 pixels wide and 220 pixels high."),
        ("What are the main colours?", "Mainly white, red"),
        ("Who painted it?", "Size: 300 x 220 pixels."),
        ("How many circles touch a square?", "Size: 300 x 220 pixels."),
        ("Are there more circles than squares?", "Size: 300 x 220 pixels."),
    ],
)
def test_questions_about_a_drawing(tool, attach, shapes, question, start):
    answer = tool(attach(shapes), question)
    assert answer.startswith(start) and answer.endswith("Anything else in it cannot be told by this tool.")


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ("How many people are there?", "1 face (people whose face is not seen"),
        ("Is there a person in the picture?", "Yes, 1 face."),
        ("Where is the face?", "1 face: at the center ["),
        ("How many circles are there?", "This is a photo"),
        ("What is this?", "Size: 512 x 600 pixels."),
        ("How many people wear glasses?", "Size: 512 x 600 pixels."),
    ],
)
def test_questions_about_a_photo(tool, attach, portrait, question, start):
    if "face" in start:
        try:
            find_faces(Image.new("RGB", (64, 64)))
        except PartError as error:
            pytest.skip(str(error))
    assert tool(attach(portrait), question).startswith(start)


def test_text_of_a_photo_is_read_when_asked_for(tool, attach, portrait):
    assert tool(attach(portrait), "Read the name tag.").splitlines()[-1] == "COMO HOPPER"


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 2)])
def test_tiny_and_narrow_pictures(tool, put, workspace, tmp_path, size):
    Image.new("RGB", size, "navy").save(tmp_path / "p.png")
    answer = tool(put(tmp_path / "p.png"), "What is this?")
    assert f"{size[0]} x {size[1]}" in answer and "blue 100%" in answer


def test_question_must_be_text(tool, attach, receipt):
    with pytest.raises(InputError, match="question"):
        tool(attach(receipt), ["a"])


def test_rows_follow_the_height_of_the_words():
    words = (Word("2.50", (200, 52, 240, 70)), Word("Bread", (20, 48, 70, 68)), Word("Shop", (20, 10, 70, 30)))
    assert join_rows(words) == ["Shop", "Bread 2.50"]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 0, 0), "red"),
        ((255, 165, 0), "orange"),
        ((139, 69, 19), "brown"),
        ((128, 0, 128), "purple"),
        ((255, 192, 203), "pink"),
        ((250, 250, 250), "white"),
        ((128, 128, 128), "gray"),
        ((10, 10, 10), "black"),
        ((0, 0, 128), "blue"),
    ],
)
def test_color_names(rgb, name):
    assert color_name(rgb) == name


@pytest.mark.parametrize("quality", [60, 95])
def test_shapes_survive_jpeg(tmp_path, shapes, quality):
    Image.open(shapes).save(tmp_path / "s.jpg", quality=quality)
    found = sorted(map(str, measure(Image.open(tmp_path / "s.jpg").convert("RGB")).shapes))
    assert found == [
        "blue circle", "green triangle", "orange rectangle", "red circle", "red circle", "red square",
    ]  # fmt: skip


def test_a_ring_is_one_circle():
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).ellipse((40, 40, 160, 160), outline="blue", width=3)
    assert [str(shape) for shape in measure(image).shapes] == ["blue circle"]
