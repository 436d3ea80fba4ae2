import pytest
from PIL import Image, ImageChops

from t3_agents.errors import InputError
from t3_agents.tools.image_edit import ImageEdit


@pytest.fixture
def edit(use, workspace, attach, shapes):
    tool = use(ImageEdit())
    path = attach(shapes)

    def edit(prompt, path=path):
        result = tool(prompt, path)
        assert result.startswith("outputs/edit_")
        return Image.open(workspace.root / result)

    return edit


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("crop to [10, 20, 110, 80]", (100, 60)),
        ("Crop the image to the box (10,20,110,80).", (100, 60)),
        ("crop the left half", (150, 220)),
        ("keep only the bottom half", (300, 110)),
        ("crop the centre", (150, 110)),
        ("resize to 200x100", (200, 100)),
        ("resize the picture to 50%", (150, 110)),
        ("resize to width 150", (150, 110)),
        ("rotate 90 degrees left", (220, 300)),
        ("rotate the image by 180 degrees", (300, 220)),
        ("crop to [0, 0, 100, 50] and rotate it by 90 degrees", (50, 100)),
        ("convert to grayscale", (300, 220)),
    ],
)
def test_sizes(edit, prompt, size):
    assert edit(prompt).size == size


def test_pixels(edit, shapes):
    before = Image.open(shapes).convert("RGB")
    assert edit("rotate 90 degrees right").getpixel((219 - 50, 240)) == (255, 0, 0)
    assert edit("rotate 90 degrees counterclockwise").getpixel((50, 299 - 240)) == (255, 0, 0)
    assert edit("flip horizontally").getpixel((299 - 240, 50)) == (255, 0, 0)
    assert edit("flip vertically").getpixel((240, 219 - 50)) == (255, 0, 0)
    assert edit("invert the colours").getpixel((240, 50)) == (0, 255, 255)
    grey = edit("make it black and white").getpixel((240, 50))
    assert len(set(grey)) == 1
    assert sum(edit("darken by 50%").getpixel((150, 5))) < sum(before.getpixel((150, 5)))
    assert edit("draw a blue box [5, 5, 290, 210]").getpixel((5, 100)) == (0, 0, 255)
    written = edit('add the text "flip and crop" at 20, 195')
    changed = ImageChops.difference(written.convert("RGB"), before).getbbox()
    assert written.size == before.size and changed[1] >= 190
    blurred = ImageChops.difference(edit("blur [200, 10, 280, 90]").convert("RGB"), before).getbbox()
    assert blurred[0] >= 200 and blurred[3] <= 90


def test_results_do_not_overwrite_each_other(edit):
    first, second = edit("invert"), edit("rotate 90 degrees")
    assert first.filename != second.filename


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("remove the background", "It can: crop"),
        ("turn it into a painting", "It can: crop"),
        ("", "must say what to do"),
        ("crop", "Crop needs a box"),
        ("crop to [900, 900, 950, 950]", "outside the picture"),
        ("resize to 99999x99999", "between 1 and"),
        ("resize it", "Resize needs"),
        ("add some text", "in quotes"),
        ("draw a box", "needs a box"),
    ],
)
def test_prompts_that_cannot_be_done(edit, prompt, message):
    with pytest.raises(InputError, match=message):
        edit(prompt)


def test_text_of_several_lines_with_an_apostrophe(shapes, attach, use):
    prompt = "Add the following text on the image at the bottom:\n'Tom's shop\n\nBuy now!' in a bold font."
    tool = use(ImageEdit())
    assert tool(prompt=prompt, image_path=attach(shapes)) == "outputs/edit_1.png"
