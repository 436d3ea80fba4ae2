"""JSON files of every shape, row by row."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dataset_builder.formats.json_rows import CHUNK, read_json_rows
from t3_agents.errors import InputError


ROWS = [{"a": 1, "b": 'ü \U0001f600 "]},{['}, {"a": [[1.5, {}], None, True, 10**30]}, [], "text", 7, {"b": "\ud800"}]


def read(path, **options):
    return [(row.number, row.record) for row in read_json_rows(path, **options)]


SHAPES = {
    "array": json.dumps(ROWS),
    "indented array": json.dumps(ROWS, indent=4),
    "array with a byte order mark": "\ufeff \n" + json.dumps(ROWS, ensure_ascii=True),
    "lines in .json": "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("chunk", [1, 3, 64, CHUNK])
def test_every_shape_gives_the_rows(tmp_path, text, chunk):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    assert read(tmp_path / "x.json", chunk=chunk) == list(enumerate(ROWS, start=1))


def test_a_document_a_folder_and_lines(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=2))
    assert read(tmp_path / "one.json") == [(1, ROWS[0])]
    (tmp_path / "two.json").write_text("[1, 2]")
    assert [(row.file, row.number) for row in read_json_rows(tmp_path)] == [
        ("one.json", 1),
        ("two.json", 1),
        ("two.json", 2),
    ]
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n{"a": \n{"a": NaN}\n' + "[" * 100_000 + '\n{"a": 2}')
    rows = list(read_json_rows(tmp_path / "x.jsonl"))
    assert [row.number for row in rows] == [1, 3, 4, 5, 6]
    assert [row.problem is None for row in rows] == [True, False, False, False, True]
    (tmp_path / "none.json").write_text("[]")
    assert read(tmp_path / "none.json") == []


BROKEN = {
    "cut off": ('[{"a": 1}, {"a": "x', "Row 2 of x.json is not JSON"),
    "cut off between rows": ('[{"a": 1},', "Row 2 of x.json is not JSON"),
    "no end": ('[{"a": 1}', "'the end of the file' before row 2 where `,` belongs"),
    "no comma": ('[{"a": 1} {"a": 2}]', "before row 2"),
    "a wrong row": ('[{"a": 1}, {"a" 2}, {"a": 3}]', "Row 2 of x.json is not JSON"),
    "something behind": ('[{"a": 1}] x', "goes on after its array"),
    "no JSON": ("hello", "Row 1 of x.json is not JSON"),
    "empty": ("", "Row 1 of x.json is not JSON"),
    "deep": ("[" * 200_000, "nested too deep"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_an_error_names_file_and_row(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "x.json")


def test_text_that_is_not_utf8_and_a_missing_file(tmp_path):
    (tmp_path / "x.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path / "x.json")
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "y.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.json"):
        read(tmp_path / "empty")


@pytest.mark.slow
def test_a_large_array_is_not_held_in_memory(tmp_path):
    row = json.dumps({"id": 0, "text": "word " * 4000})
    with (tmp_path / "large.json").open("w") as stream:
        stream.write("[" + row)
        for _ in range(10_000):
            stream.write("," + row)
        stream.write("]")
    size = (tmp_path / "large.json").stat().st_size
    program = (
        "import resource, sys\n"
        "from dataset_builder.formats.json_rows import read_json_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = sum(1 for _ in read_json_rows(sys.argv[1]))\n"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    output = subprocess.check_output([sys.executable, "-c", program, str(tmp_path / "large.json")], text=True)
    rows, grown = map(int, output.split())
    assert rows == 10_001 and grown * 1024 < size / 8
