"""Tasks and files: what is refused, and that nothing is lost on the way to JSON and back."""

import json
import os

import pytest
from PIL import Image

from t3_agents.errors import InputError
from t3_agents.media import decode_image, encode_image
from t3_agents.storage import BlobStore, sha256_of
from t3_agents.task import MAX_FILE_BYTES, File, Task
from tests.helpers import noise, png


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def refused(source, path=None):
    """The sentence with which a file is refused."""
    with pytest.raises(InputError) as caught:
        File.from_path(source, path)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


class TestFilesThatCannotBeUsed:
    def test_no_file_with_content(self, write, tmp_path):
        os.mkfifo(tmp_path / "pipe.txt")
        assert "There is no file" in refused(tmp_path / "nothing.png")
        assert "is empty" in refused(write("empty.csv", b""))
        for source in ("", tmp_path, tmp_path / "pipe.txt"):
            assert "is not a file" in refused(source)

    def test_two_gigabytes_are_refused_before_they_are_read(self, tmp_path):
        path = tmp_path / "huge.csv"
        with path.open("wb") as stream:
            stream.truncate(2 * 2**30)
        message = refused(path)
        assert "2048 MiB" in message and f"{MAX_FILE_BYTES // 2**20} MiB" in message

    @pytest.mark.parametrize(
        "path", ["../photo.png", "files/../../photo.png", "/etc/photo.png", "files\\photo.png", "a\nb.png", "a\0b.png"]
    )
    def test_path_that_leaves_the_workspace(self, write, path):
        assert "not a path inside the workspace" in refused(write("photo.png", png()), path)

    def test_control_character_in_a_name(self, write):
        assert "not a path inside the workspace" in refused(write("a\x07b.png", png()))

    @pytest.mark.parametrize("data", [b"not a picture", b"GIF89a", encode_image(noise(0, (64, 64)))[:2000]])
    def test_image_that_cannot_be_decoded(self, write, data):
        assert "photo.png is not a readable image" in refused(write("photo.png", data))

    def test_picture_that_expands_to_gigabytes(self, write):
        bomb = encode_image(Image.new("1", (20000, 20000)))
        assert "DecompressionBombError" in refused(write("bomb.png", bomb))

    @pytest.mark.parametrize("name", ["table.csv", "notes.txt", "page.html", "unknown"])
    def test_image_under_another_extension(self, write, name):
        assert "holds a PNG image" in refused(write(name, png()))

    @pytest.mark.parametrize("name", ["letter.pdf", "table.xlsx", "letter.docx", "slides.pptx", "voice.wav", "x.zip"])
    def test_content_that_is_not_what_the_extension_says(self, write, name):
        assert name.rpartition(".")[2] in refused(write(name, png()))

    @pytest.mark.parametrize("extension", ["PDF", "Pdf", "pdf"])
    def test_extension_in_any_case(self, write, extension):
        assert "right extension" in refused(write(f"letter.{extension}", "plain words"))


class TestFiles:
    def test_a_file_is_described_by_its_content(self, write):
        file = File.from_path(write("photo.png", png()))
        assert (file.path, file.media_type, file.sha256) == ("files/photo.png", "image/png", sha256_of(png()))
        assert file.is_image and file.read_bytes() == png()

    @pytest.mark.parametrize(
        ("name", "media_type"),
        [("a.pdf", "application/pdf"), ("a.md", "text/markdown"), ("a.jsonl", "application/jsonl"), ("a.svg", None)],
    )
    def test_documents_are_no_images(self, name, media_type):
        file = File.from_bytes(b"%PDF", f"files/{name}")
        assert not file.is_image and media_type in (None, file.media_type)

    @pytest.mark.parametrize("name", ["bäume & co.png", "with space.png", "日本.png"])
    def test_names_in_any_language(self, write, name):
        assert File.from_path(write(name, png())).path == f"files/{name}"

    def test_pictures_stand_upright_as_the_camera_noted(self, tmp_path):
        image = Image.new("RGB", (40, 20), "white")
        image.paste("red", (0, 0, 10, 20))
        exif = image.getexif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(tmp_path / "turned.png", exif=exif)
        upright = File.from_path(tmp_path / "turned.png").open_image()
        assert upright.size == (20, 40)
        assert upright.getpixel((10, 2)) == (255, 0, 0) and upright.getpixel((10, 30)) == (255, 255, 255)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
    def test_every_picture_becomes_rgb(self, mode):
        data = encode_image(Image.new(mode, (5, 4)), "TIFF" if mode == "CMYK" else "PNG")
        image = decode_image(data, "photo")
        assert image.mode == "RGB" and image.size == (5, 4)

    def test_a_record_without_its_blobs_says_so_when_bytes_are_asked_for(self, write):
        record = File.from_path(write("photo.png", png())).to_dict()
        with pytest.raises(InputError, match="files/photo.png are not at hand"):
            File.from_dict(record).read_bytes()

    def test_bytes_come_back_from_the_blobs(self, write, tmp_path):
        blobs = BlobStore(tmp_path / "blobs")
        file = File.from_path(write("photo.png", png())).stored_in(blobs)
        again = File.from_dict(json.loads(json.dumps(file.to_dict())), blobs)
        assert again == file and again.read_bytes() == png()

    def test_the_record_names_no_place_of_this_machine(self, write, tmp_path):
        file = File.from_path(write("photo.png", png()))
        assert str(tmp_path) not in json.dumps(file.to_dict()) + repr(file)


class TestTasks:
    def test_round_trip(self, tmp_path, write):
        files = [File.from_path(write("photo.png", png())), File.from_path(write("t.csv", "a,b\n1,2\n"))]
        task = Task.create(
            "What is it?",
            files,
            ground_truth="7",
            tools=("visualizer", "visualizer"),
            domain="finance",
            origin={"family": "receipt", "seed": 3},
        )
        blobs = BlobStore(tmp_path / "blobs")
        for file in files:
            file.stored_in(blobs)
        again = Task.from_dict(json.loads(json.dumps(task.to_dict())), blobs)
        assert again == task
        assert [file.read_bytes() for file in again.files] == [file.read_bytes() for file in files]

    def test_fields_that_may_be_left_out(self):
        task = Task.from_dict({"id": "1", "query": "?", "files": []})
        assert task == Task(id="1", query="?")

    def test_the_id_follows_from_query_and_files(self):
        files = [File.from_bytes(b"a", "files/a.txt")]
        ids = {
            Task.create("one", files).id,
            Task.create("two", files).id,
            Task.create("one").id,
            Task.create("one", [File.from_bytes(b"b", "files/a.txt")]).id,
            Task.create("one", [File.from_bytes(b"a", "files/b.txt")]).id,
        }
        assert len(ids) == 5
        assert Task.create("one", files, domain="x").id == Task.create("one", tuple(files)).id

    @pytest.mark.parametrize("query", ["", "  \n "])
    def test_a_task_needs_a_question(self, query):
        with pytest.raises(InputError, match="the query is empty"):
            Task.create(query)

    @pytest.mark.parametrize("other", ["files/a.txt", "files//a.txt", "files/./a.txt"])
    def test_two_files_in_one_place(self, other):
        files = [File.from_bytes(b"a", "files/a.txt"), File.from_bytes(b"b", other)]
        with pytest.raises(InputError, match="same path"):
            Task.create("?", files)

    def test_the_first_turn_names_the_files_in_order(self):
        files = [File.from_bytes(png(), "files/b.png"), File.from_bytes(b"a", "files/a.txt")]
        task = Task.create("What?", files)
        assert task.text() == "What?\nFiles: files/b.png, files/a.txt"
        assert [file.path for file in task.images] == ["files/b.png"]
        assert Task.create("What?").text() == "What?"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("id", 3),
            ("query", None),
            ("files", {}),
            ("ground_truth", 7),
            ("tools", "visualizer"),
            ("tools", [1]),
            ("domain", []),
            ("origin", []),
        ],
    )
    def test_a_wrong_type_names_the_field(self, field, value):
        record = {**Task(id="1", query="?").to_dict(), field: value}
        with pytest.raises(InputError, match=f"`{field}`"):
            Task.from_dict(record)

    @pytest.mark.parametrize("field", ["id", "query", "files"])
    def test_a_missing_field_is_named(self, field):
        record = Task(id="1", query="?").to_dict()
        del record[field]
        with pytest.raises(InputError, match=f"no field `{field}`"):
            Task.from_dict(record)

    def test_an_unknown_field_is_named(self):
        with pytest.raises(InputError, match="unknown field `qery`"):
            Task.from_dict({"id": "1", "qery": "?", "files": []})

    @pytest.mark.parametrize("record", [None, [], "task", 3])
    def test_a_record_must_be_an_object(self, record):
        with pytest.raises(InputError, match="JSON object"):
            Task.from_dict(record)

    @pytest.mark.parametrize(
        ("field", "value"), [("path", "../x.png"), ("path", 3), ("media_type", None), ("sha256", 1)]
    )
    def test_a_wrong_file_record_is_refused(self, field, value):
        record = {**File.from_bytes(b"x", "files/x.png").to_dict(), field: value}
        with pytest.raises(InputError, match=field):
            Task.from_dict({"id": "1", "query": "?", "files": [record]})

    def test_a_digest_that_is_none_finds_no_file_of_the_machine(self, tmp_path):
        record = {**File.from_bytes(b"x", "files/x.png").to_dict(), "sha256": "../../etc/passwd"}
        with pytest.raises(InputError, match="not a SHA-256 digest"):
            File.from_dict(record, BlobStore(tmp_path))
