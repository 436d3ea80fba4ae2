"""Kinds of files by their content."""

import io
import zipfile

import pytest
from PIL import Image

from t3_agents.media import encode_image, kind_in_zip, kind_of


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
