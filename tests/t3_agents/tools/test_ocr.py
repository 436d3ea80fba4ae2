import os

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from t3_agents.errors import InputError
from t3_agents.tools.hub_models.shared_models import onnx_threads
from t3_agents.tools.ocr import Ocr, find_words, join_rows, text_with_boxes


@pytest.fixture
def tool(use):
    return use(Ocr())


def page(size, scale=1):
    image = Image.new("RGB", size, "white")
    font = ImageFont.load_default(20 * scale)
    ImageDraw.Draw(image).text((30 * scale, 40 * scale), "Gate B12", fill="black", font=font)
    return image


def test_rows(tool, attach, receipt):
    assert tool(attach(receipt)) == "CORNER SHOP\nBread 2.50\nGreen tea 3.75\nTotal 6.25"


def test_text_with_its_places(receipt):
    lines = text_with_boxes(Image.open(receipt)).splitlines()
    assert len(lines) == 7
    (total,) = [line for line in lines if line.endswith(") Total")]
    box = [int(side) for side in total[1 : total.index(")")].split(", ")]
    assert all(abs(a - b) <= 12 for a, b in zip(box, [20, 185, 65, 205], strict=True))


def test_long_text_is_cut_with_a_note(attach, use, receipt):
    tool = use(Ocr(max_chars=20))
    assert "more characters cut" in tool(attach(receipt))


def test_a_picture_without_text(tool, put, shapes):
    assert tool(put(shapes)) == ""


def test_places_are_those_of_the_large_picture(tool, put, tmp_path):
    page((4000, 2400), scale=10).save(tmp_path / "large.png")
    assert tool(put(tmp_path / "large.png")) == "Gate B12"
    (small,), (large,) = find_words(page((400, 240))), find_words(page((4000, 2400), scale=10))
    assert all(abs(10 * a - b) <= 60 for a, b in zip(small.box, large.box, strict=True))


@pytest.mark.slow
def test_a_very_large_picture(tool, put, tmp_path):
    page((10000, 8000), scale=25).save(tmp_path / "huge.png")
    assert tool(put(tmp_path / "huge.png")) == "Gate B12"


def _in_mode(mode):
    image = page((400, 240))
    if mode == "I;16":
        # Grey levels of a scanner: black is 2,000 of 65,535.
        return Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) * 240 + 2000).astype(np.uint16))
    if mode == "F":
        return Image.fromarray(np.asarray(image.convert("L"), dtype=np.float32) / 255)
    if mode in ("RGBA", "LA"):
        # Black letters on nothing.
        image = image.convert("RGBA")
        image.putalpha(Image.eval(page((400, 240)).convert("L"), lambda value: 255 - value))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", "png"), ("L", "png"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("I;16", "png"), ("F", "tiff"),
     ("CMYK", "jpg")],
)  # fmt: skip
def test_every_kind_of_picture_is_read(tool, put, tmp_path, mode, suffix):
    _in_mode(mode).save(tmp_path / f"p.{suffix}")
    assert tool(put(tmp_path / f"p.{suffix}")) == "Gate B12"


def test_a_picture_on_its_side_is_turned_as_the_camera_noted(tool, put, tmp_path):
    image = page((400, 240)).rotate(90, expand=True)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    image.save(tmp_path / "p.jpg", exif=exif)
    assert tool(put(tmp_path / "p.jpg")) == "Gate B12"


@pytest.mark.parametrize(("name", "pages"), [("p.gif", 2), ("p.tiff", 3), ("p.tiff", 7), ("p.png", 2)])
def test_pages_and_frames_are_read_and_counted(tool, put, tmp_path, name, pages):
    more = [Image.new("RGB", (400, 240), (255, 0, shade)) for shade in range(pages - 2)]
    page((400, 240)).save(tmp_path / name, save_all=True, append_images=[*more, page((400, 240)).rotate(180)])
    text = tool(put(tmp_path / name))
    assert text.startswith(f"Page 1 of {pages}:\nGate B12\nPage 2:")
    assert text.endswith(f"Page {pages}:\nGate B12" if pages < 6 else "[2 more pages or frames were not read]")


@pytest.mark.parametrize("degrees", [90, 180, 270, 3, -3, 8, -8, 95, 183])
def test_turned_text_is_read_by_rows(receipt, degrees):
    image = Image.open(receipt).rotate(degrees, expand=True, fillcolor="white")
    words = find_words(image)
    assert join_rows(words) == ["CORNER SHOP", "Bread 2.50", "Green tea 3.75", "Total 6.25"]
    # Boxes are those of the picture as it is.
    total = next(word.box for word in words if word.text == "6.25")
    ink = np.asarray(image.convert("L").crop(total)) < 128
    assert ink.any() and total[2] <= image.width + 8 and total[3] <= image.height + 8
    others = next(word.box for word in words if word.text == "2.50")
    distance = np.hypot(*(np.array(total[:2]) - np.array(others[:2])))
    assert 90 < distance < 130


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_files_that_are_no_pictures(tool, put, content):
    with pytest.raises(InputError, match="not a readable image"):
        tool(put(content, "bad.png"))


def test_a_wrong_path_lists_what_is_there(tool, put, receipt):
    with pytest.raises(InputError, match=r"Files here: files/receipt\.png"):
        put(receipt)
        tool("receipt.png")


def test_small_networks_take_the_threads_that_are_given(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert onnx_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert onnx_threads() == min(4, len(os.sched_getaffinity(0)))
