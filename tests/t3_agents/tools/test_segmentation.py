import numpy as np
import pytest
from PIL import Image, ImageChops

from t3_agents.errors import InputError
from t3_agents.hub.wheel_weights import PartError
from t3_agents.tools.local.masks import box_masks, salient_mask, shape_masks
from t3_agents.tools.segmentation import MAX_SIDE, Segmentation, overlay, read_boxes


@pytest.fixture
def tool(use):
    return use(Segmentation())


@pytest.fixture(scope="module")
def photo(portrait):
    return Image.open(portrait).convert("RGB")


def overlap(mask, other):
    return (mask & other).sum() / (mask | other).sum()


def test_shapes_of_a_drawing(tool, attach, workspace, shapes):
    image = Image.open(shapes).convert("RGB")
    masks = shape_masks(image)
    pixels = np.asarray(image)
    assert len(masks) == 6
    blue = (pixels == (0, 0, 255)).all(axis=2)
    assert max(overlap(mask, blue) for mask in masks) > 0.95
    result = Image.open(workspace.root / tool(attach(shapes)))
    changed = np.asarray(ImageChops.difference(result, image)).any(axis=2)
    assert changed[blue].mean() > 0.95 and not changed[:10].any()


def test_boxes_in_a_drawing(shapes):
    image = Image.open(shapes).convert("RGB")
    square, circles = box_masks(image, [[200, 10, 280, 90], [10, 10, 180, 90]])
    red = (np.asarray(image) == (255, 0, 0)).all(axis=2)
    assert overlap(square, red & (np.arange(300) > 200)) > 0.95
    assert 0.9 * 2 * 2827 < circles.sum() < 1.1 * 2 * 2827


def test_a_person_stands_out(photo):
    try:
        mask = salient_mask(photo)
    except PartError as error:
        pytest.skip(str(error))
    assert mask.shape == (600, 512) and mask.dtype == bool
    # Face and uniform, not the flag or the wall.
    assert mask[200:300, 220:320].mean() > 0.95 and mask[480:560, 150:400].mean() > 0.95
    assert mask[:100, 420:].mean() < 0.05 and mask[:150, :60].mean() < 0.05
    assert not salient_mask(Image.new("RGB", (64, 64), "white")).any()


def test_a_box_in_a_photo(photo, tool, attach, workspace, portrait):
    box = [173, 128, 358, 334]
    (mask,) = box_masks(photo, [box])
    outside = mask.copy()
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert not outside.any()
    assert mask[200:300, 220:320].mean() > 0.9 and 0.4 < mask[128:334, 173:358].mean() < 1
    (again,) = box_masks(photo, [box])
    assert (mask == again).all()
    result = Image.open(workspace.root / tool(attach(portrait), [box]))
    changed = np.asarray(ImageChops.difference(result, photo)).any(axis=2)
    assert changed[mask].mean() > 0.95 and changed[~mask].mean() < 0.01


@pytest.mark.parametrize("box", [[0, 0, 512, 600], [0, 0, 1, 1], [511, 599, 512, 600]])
def test_boxes_that_leave_nothing_to_compare_are_marked_whole(photo, box):
    (mask,) = box_masks(photo, [box])
    assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])


def test_boxes_as_models_write_them():
    assert read_boxes([1, 2, 30, 40], (100, 100)) == [[1, 2, 30, 40]]
    assert read_boxes(((1.4, 2.0, 30.6, 400.0),), (100, 100)) == [[1, 2, 31, 100]]
    assert read_boxes([], (9, 9)) == read_boxes(None, (9, 9)) == []


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("the dog", "finds nothing by its name"),
        (7, "not int"),
        ({"box": [1, 2, 3, 4]}, "not dict"),
        ([[1, 2, 3]], "no such box"),
        ([["a", 1, 2, 3]], "no such box"),
        ([[1, 2, 3, float("nan")]], "no such box"),
        ([[30, 2, 3, 40]], "empty or outside the picture of 300 x 220"),
        ([[900, 900, 950, 950]], "empty or outside the picture"),
        ([[1, 1, 2, 2]] * 100, "at most 64"),
    ],
)
def test_prompts_that_are_no_boxes(tool, attach, shapes, prompt, message):
    with pytest.raises(InputError, match=message):
        tool(attach(shapes), prompt)


def test_nothing_to_mark(tool, put, tmp_path):
    Image.new("RGB", (60, 60), "white").save(tmp_path / "empty.png")
    with pytest.raises(InputError, match="No object was found"):
        tool(put(tmp_path / "empty.png"))


def test_numbers_follow_the_order_of_the_masks():
    masks = np.zeros((2, 100, 200), bool)
    masks[0, 10:90, 10:90] = masks[1, 10:90, 110:190] = True
    image = overlay(Image.new("RGB", (200, 100), "white"), list(masks))
    assert image.getpixel((20, 20)) != image.getpixel((120, 20)) != (255, 255, 255)
    again = overlay(Image.new("RGB", (200, 100), "white"), list(masks[::-1]))
    assert again.getpixel((120, 20)) == image.getpixel((20, 20))


def test_a_very_large_picture(tool, put, workspace, tmp_path):
    Image.new("RGB", (6000, 3000), "white").save(tmp_path / "large.png")
    result = Image.open(workspace.root / tool(put(tmp_path / "large.png"), [[3000, 1500, 4500, 2250]]))
    assert result.size == (MAX_SIDE, MAX_SIDE // 2)
    assert result.getpixel((MAX_SIDE * 5 // 9, MAX_SIDE * 5 // 18)) != (255, 255, 255) == result.getpixel((5, 5))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 2)])
def test_tiny_and_narrow_pictures(tool, put, workspace, tmp_path, size):
    Image.new("RGB", size, "navy").save(tmp_path / "p.png")
    assert Image.open(workspace.root / tool(put(tmp_path / "p.png"), [0, 0, *size])).size == size
