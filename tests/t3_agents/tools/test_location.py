import pytest
from PIL import Image

from t3_agents.errors import InputError
from t3_agents.hub.wheel_weights import PartError
from t3_agents.tools.facedetection import FaceDetection, find_faces
from t3_agents.tools.objectlocation import ObjectLocation


@pytest.fixture
def tool(use):
    return use(ObjectLocation())


@pytest.fixture(scope="module")
def face_model():
    try:
        find_faces(Image.new("RGB", (64, 64)))
    except PartError as error:
        pytest.skip(str(error))


def near(box, expected, pixels=4):
    return all(abs(a - b) <= pixels for a, b in zip(box, expected, strict=True))


def test_shapes_by_kind_and_color(tool, attach, shapes):
    path = attach(shapes)
    (square,) = tool("red square", path)
    assert near(square, [210, 20, 270, 80]) and all(type(side) is int for side in square)
    assert len(tool("the red circles", path)) == 2
    assert len(tool("circle", path)) == 3
    assert len(tool("red object", path)) == 3
    assert near(tool("green triangles", path)[0], [20, 110, 100, 190])
    assert tool("purple star", path) == []


def test_words_in_the_picture(tool, attach, receipt):
    path = attach(receipt)
    (total,) = tool('the word "Total"', path)
    assert near(total, [20, 185, 65, 205], 12)
    (tea,) = tool("tea", path)
    assert tea[0] > tool("green tea", path)[0][0]
    assert len(tool("text", path)) == 7
    assert tool('"Milk"', path) == []


def test_what_cannot_be_found_is_said(tool, attach, receipt, shapes):
    path = attach(receipt)
    with pytest.raises(InputError, match="this tool finds shapes"):
        tool("dog", path)
    with pytest.raises(InputError, match="must name what to find"):
        tool(" ", path)
    with pytest.raises(InputError, match="no file"):
        tool("red circle", "files/none.png")


def test_faces(face_model, tool, attach, use, portrait, tmp_path):
    path = attach(portrait)
    (box,) = tool("face", path)
    assert near(box, [173, 128, 358, 334], 30)
    assert tool("person", path) == [box]
    faces = use(FaceDetection())
    assert faces(path) == [box]
    page = Image.new("RGB", (1200, 800), "white")
    small = Image.open(portrait).resize((256, 300))
    page.paste(small, (800, 400))
    page.paste(small, (100, 50))
    page.save(tmp_path / "two.png")
    left, right = faces(attach(tmp_path / "two.png"))
    assert near(left, [186, 114, 279, 217], 20) and near(right, [886, 464, 979, 567], 20)


def test_no_face(face_model, attach, use, receipt, shapes):
    faces = use(FaceDetection())
    assert faces(attach(receipt)) == [] and faces(attach(shapes)) == []


def test_shapes_are_not_looked_for_in_photos(tool, attach, portrait):
    with pytest.raises(InputError, match="photo"):
        tool("circle", attach(portrait))
