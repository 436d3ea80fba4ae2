"""Pictures of imported rows: found where they are, and hostile sources refused."""

from __future__ import annotations

import os
import stat
import struct
import zipfile

import pytest
from PIL import Image

from dataset_builder.formats import files
from dataset_builder.formats.conversation import make_file
from dataset_builder.formats.files import open_source
from t3_agents.errors import InputError
from tests.helpers.released_rows import pack
from tests.helpers.run_samples import picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "coco").mkdir(parents=True)
    (tmp_path / "in" / "coco" / "a.jpg").write_bytes(b"in coco")
    (tmp_path / "in" / "b.jpg").write_bytes(b"flat")
    return tmp_path / "in"


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_path_is_found_by_its_end(folder, tmp_path, kind):
    with open_source(folder if kind == "folder" else pack(folder, tmp_path / "x.zip")) as source:
        assert source.find("data/llava/coco/a.jpg") == b"in coco"
        assert source.find("/elsewhere/coco/a.jpg") == b"in coco"
        assert source.find("data/b.jpg") == b"flat"
        assert source.find("a.jpg") is None  # not at the top
        assert source.find("coco") is None
        assert source.find("x" * 5000) is None
        for path in ("../secret", "coco/../../secret", "a\\..\\b", "a\nb", "a\0b"):
            with pytest.raises(InputError, match="not a path inside"):
                source.find(path)


def test_links_and_pipes_of_a_folder(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "out.jpg").symlink_to(tmp_path / "secret")
    (folder / "within.jpg").symlink_to(folder / "b.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    with open_source(folder) as source:
        with pytest.raises(InputError, match="link out of the folder"):
            source.find("out.jpg")
        assert source.find("within.jpg") == b"flat"
        assert source.find("loop.jpg") is None
        assert source.find("pipe.jpg") is None


def test_a_large_file_is_not_read(folder):
    with (folder / "large.jpg").open("wb") as stream:
        stream.truncate(files.MAX_FILE_BYTES + 1)
    with open_source(folder) as source, pytest.raises(InputError, match="the limit is"):
        source.find("large.jpg")


LEADING_OUT = ("../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "C:/a.jpg", "a\\b.jpg")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        *((name, stat.S_IFREG, "leads out of it") for name in LEADING_OUT),
        ("a.jpg", stat.S_IFLNK, "the link"),
        ("ok.jpg", stat.S_IFREG, "twice"),
    ],
)
def test_an_archive_with_a_dangerous_entry_is_refused(tmp_path, name, kind, message):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("ok.jpg", b"ok")
        archive.writestr(entry, b"/etc/passwd")
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "x.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """What an archive says of its sizes is enough: nothing more than it says is read."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", b"\0" * 4321)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    place = data.rindex(struct.pack("<L", 4321))  # in the directory at the end
    for size, name in ((2_000_000_000, "bomb.zip"), (files.MAX_FILE_BYTES + 1, "large.zip")):
        data[place : place + 4] = struct.pack("<L", size)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match="unpacks to 1.9 GiB"):
        open_source(tmp_path / "bomb.zip")
    with open_source(tmp_path / "large.zip") as source, pytest.raises(InputError, match="the limit is"):
        source.find("a.bmp")


def test_an_entry_that_lies_about_its_size_is_not_unpacked_further(tmp_path):
    zeros = b"\0" * 5_000_000
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", zeros)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for place in (data.index(struct.pack("<L", len(zeros))), data.rindex(struct.pack("<L", len(zeros)))):
        data[place : place + 4] = struct.pack("<L", 10)
    (tmp_path / "x.zip").write_bytes(data)
    with open_source(tmp_path / "x.zip") as source, pytest.raises(InputError, match="cannot be read"):
        source.find("a.bmp")


def test_damaged_and_encrypted_entries_are_errors_of_their_row(tmp_path, folder):
    pack(folder, tmp_path / "x.zip")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    place = data.index(b"b.jpg") + 5
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "damaged.zip").write_bytes(data)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "encrypted.zip").write_bytes(data)
    for name in ("damaged.zip", "encrypted.zip"):
        with open_source(tmp_path / name) as source, pytest.raises(InputError, match="cannot be read"):
            source.find("b.jpg")


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK no archive")
    for path in (tmp_path / "x.zip", tmp_path / "none"):
        with pytest.raises(InputError, match="neither a folder nor a zip"):
            open_source(path)


def test_a_picture_is_decoded_and_gets_its_type(tmp_path):
    assert make_file(picture((1, 2, 3)), "images/0001", is_picture=True).media_type == "image/png"
    with pytest.raises(InputError, match="not a readable image"):
        make_file(picture((1, 2, 3))[:60], "a.png", is_picture=False)
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="make it smaller"):
        make_file((tmp_path / "large.png").read_bytes(), "a.png", is_picture=True)
