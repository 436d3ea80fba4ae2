"""Kinds of files by their content."""

import io
import random
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from t3_agents.errors import InputError
from t3_agents.media import (
    HugePicture,
    check_kind,
    decode_image,
    encode_image,
    kind_in_zip,
    kind_of,
    open_picture,
    to_rgb,
    without_metadata,
)
from tests.helpers.mutations import PICTURE_FORMATS, mutated, pictures


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        *((encode_image(Image.new("RGB", (4, 4)), form), kind) for form, kind in (("PNG", "png"), ("JPEG", "jpg"))),
        *((encode_image(Image.new("RGB", (4, 4)), form), form.lower()) for form in ("GIF", "TIFF", "WEBP", "BMP")),
        (b"%PDF-1.7\n", "pdf"),
        (b"PK\x03\x04....", "zip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
        (b"RIFF\x24\0\0\0AVI LIST", "avi"),
        (b"\0\0\0\x18ftypisom", "mp4"),
        (b"\0\0\0\x18ftypavif", "avif"),
        (b"\xff\xfb\x90\0", "mp3"),
        (b"PK,name\n1,a\n", None),
        (b"BM is a shop", None),
        ("wörter".encode("utf-16"), None),
        (b"", None),
    ],
)
def test_kinds_by_their_first_bytes(data, kind):
    assert kind_of(data) == kind


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        # Office programs need not begin with the parts that tell.
        ({"docProps/app.xml": "x" * 70000, "word/document.xml": ""}, "docx"),
        ({"xl/workbook.xml": ""}, "xlsx"),
        ({"mimetype": "application/epub+zip"}, "epub"),
        ({"mimetype": "application/vnd.oasis.opendocument.text"}, "odt"),
        ({"mimetype": "application/vnd.oasis.opendocument.graphics"}, "opendocument"),
        ({"mimetype": "anything", "a.txt": ""}, "zip"),
    ],
)
def test_kinds_of_zip_archives(members, kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with zipfile.ZipFile(buffer) as archive:
        assert kind_in_zip(archive) == kind


@pytest.mark.parametrize("name", sorted(pictures()))
def test_formats_that_tasks_use_are_read_and_no_others(name):
    data = pictures()[name]
    if name.partition("-")[0] in PICTURE_FORMATS:
        image = decode_image(data, name)
        assert image.mode == "RGB" and image.size[0] >= 16
    else:
        with pytest.raises(InputError, match="not a readable image"):
            decode_image(data, name)


@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures_are_read_or_refused_in_one_sentence():
    samples = pictures()
    for seed in range(3000):
        rng = random.Random(seed)
        name = rng.choice(sorted(samples))
        try:
            assert decode_image(mutated(samples[name], rng), name, 2**22).mode == "RGB"
        except InputError as error:
            assert name in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("scans", [101, 5000])
@pytest.mark.parametrize("comment", [b"", b"\xff\xfe\x27\x12" + b"\xff\xd8" * 5000], ids=["plain", "comment"])
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(scans, comment):
    data = encode_image(Image.linear_gradient("L"), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    with pytest.raises(InputError, match="more than 100 scans"):
        open_picture(data[:2] + comment + data[2:start] + last * scans + data[-2:], "a.jpg")


def test_ordinary_files_have_few_scans():
    image = Image.linear_gradient("L").convert("RGB")
    for options in ({}, {"progressive": True}, {"progressive": True, "quality": 100}):
        assert decode_image(encode_image(image, "JPEG", **options), "a.jpg").size == (256, 256)
    strips = encode_image(image.resize((256, 4000)), "TIFF", compression="jpeg", tiffinfo={278: 8})
    assert strips.count(b"\xff\xda") > 100 and decode_image(strips, "a.tiff").size == (256, 4000)


def test_pixels_are_counted_before_they_are_decoded():
    data = encode_image(Image.new("1", (20_000, 6_000)), "PNG")
    with pytest.raises(HugePicture, match="20000 x 6000 pixels"):
        decode_image(data, "a.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_is_written_beside_pixels_goes_and_the_pixels_stay(form, orientation):
    image = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "planted secret", orientation
    texts = PngInfo()
    texts.add_text("Comment", "planted secret")
    texts.add_itxt("Author", "planted secret", zip=False)
    options = {"PNG": {"pnginfo": texts, "exif": exif}, "GIF": {"comment": b"planted secret"}}
    data = encode_image(image, form, **options.get(form, {"exif": exif}))
    assert b"planted secret" in data
    clean = without_metadata(data)
    assert b"planted secret" not in clean
    before, after = (np.asarray(decode_image(each, "a")).astype(int) for each in (data, clean))
    assert before.shape == after.shape
    exact = form in ("PNG", "GIF", "TIFF") or (form == "JPEG" and orientation == 1)
    assert np.abs(before - after).max() <= (0 if exact else 12)
    assert without_metadata(clean) == clean or not exact


@pytest.mark.parametrize("data", [b"", b"words", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_stays_as_it_is(data):
    assert without_metadata(data) == data


def _lab(image):
    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "La", "PA", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "F"])
def test_every_mode_becomes_rgb(mode):
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    source = {"La": red.convert("LA"), "RGBa": red.convert("RGBA"), "PA": red.convert("P"), "LAB": red}.get(mode, red)
    image = to_rgb(_lab(source) if mode == "LAB" else source.convert(mode))
    assert image.mode == "RGB"
    is_gray = mode in ("1", "L", "LA", "La", "F")
    assert is_gray or np.abs(np.array(image.getpixel((3, 3))) - (255, 0, 0)).max() < 16
    # What a PNG cannot hold is written as RGB.
    assert decode_image(encode_image(source.convert(mode) if mode != "LAB" else _lab(source)), "a").size == (8, 8)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
@pytest.mark.parametrize("value", [30000, 65535])
def test_sixteen_bits_keep_their_shades(mode, value):
    assert to_rgb(Image.new(mode, (4, 4), value)).getpixel((0, 0)) == (value // 257,) * 3


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("chunk", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_large_text_beside_a_png_is_no_reason_to_refuse_it(place, chunk):
    data = encode_image(Image.new("RGB", (64, 48), "red"))
    text = b"k" * 2**23
    content = {
        b"tEXt": b"key\0" + text,
        b"zTXt": b"key\0\0" + zlib.compress(text),
        b"iTXt": b"key\0\1\0\0\0" + zlib.compress(text),
    }[chunk]
    cut = data.index(b"IDAT") - 4 if place == "before" else data.index(b"IEND") - 4
    piece = len(content).to_bytes(4, "big") + chunk + content + zlib.crc32(chunk + content).to_bytes(4, "big")
    assert decode_image(data[:cut] + piece + data[cut:], "a.png").size == (64, 48)


@pytest.mark.parametrize(
    ("data", "suffix", "kind"),
    [
        (b"\r\n\r\n%PDF-1.4", "pdf", "pdf"),
        (b"\xef\xbb\xbf%PDF-1.4", "pdf", "pdf"),
        (b"x" * 1000 + b"%PDF-1.4", "pdf", "pdf"),
        (b"x" * 1030 + b"%PDF-1.4", "pdf", None),
        (b"about %PDF-1.4", "txt", None),
        (b"ID3\4\0\0\0\0\1\5" + bytes(133) + b"fLaC", "flac", "flac"),
        (b"ID3\4\0\0\0\0\1\5" + bytes(133) + b"\xff\xfb", "flac", "mp3"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav", "wav"),
        (b"RIFX0000WAVE", "wav", "wav"),
        (b" \n{\\rtf1", "rtf", "rtf"),
        (b"\0\0\0\x08moov", "mov", "mp4"),
        (b"MM\0+\0\x08\0\0", "tiff", "tiff"),
    ],
)
def test_what_may_stand_before_a_signature(data, suffix, kind):
    assert kind_of(data, suffix) == kind


@pytest.mark.parametrize("suffix", ["zip", "docx"])
def test_an_archive_behind_a_program(suffix):
    buffer = io.BytesIO(b"MZ program " * 500)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("a.txt", "words")
    assert kind_of(buffer.getvalue(), suffix) == "zip" and kind_of(buffer.getvalue()) is None


@pytest.mark.parametrize("name", ["a.eps", "a.wmf", "a.djvu", "a.psd", "a.h5", "a.grib", "a.mpg", "a.svg", "a.fits"])
def test_files_that_pillow_only_announces_are_files(name):
    check_kind(b"\1data", name)
