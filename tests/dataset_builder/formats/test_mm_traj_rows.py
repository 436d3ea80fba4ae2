"""The released MM-Traj rows in and out again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from datasets import load_dataset

from dataset_builder.export import export_dataset
from dataset_builder.formats.reading import REPORT_FILE, import_rows
from dataset_builder.formats.writing import export_rows
from dataset_builder.mm_traj import read_records
from t3_agents.errors import InputError, RunFolderError
from t3_agents.storage import read_rows
from tests.helpers.released_rows import SAMPLE, pack, picture_paths, released_rows, write_pictures
from tests.helpers.run_samples import make_trajectory, picture, read_run, write_shard


def import_list(tmp_path, rows, name="rows", **options):
    """Import the rows; the pictures a, b and c are where they say."""
    (tmp_path / "data").mkdir(exist_ok=True)
    for letter in "abc":
        (tmp_path / "data" / f"{letter}.png").write_bytes(picture((1, 2, ord(letter))))
    (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    options = {"images": tmp_path, **options}
    return import_rows("mm-traj", tmp_path / f"{name}.json", tmp_path / name, **options)


def row(**fields):
    turns = [
        {"from": "user", "value": "Picture 1: <img>data/a.png</img>\nTask: What is it?\n Attachment: in/a.png;  "},
        {"from": "assistant", "value": "Thought: t\nCode:\n```py\nprint(visualizer('in/a.png'))\n```"},
        {"from": "user", "value": "[OUTPUT OF STEP 0] Observation:\na dot\n"},
        {"from": "assistant", "value": "Thought: t\nCode:\n```py\nfinal_answer('dot')\n```"},
    ]
    return {"id": "one", "image": "data/a.png", "conversations": turns, "answer": "dot", **fields}


@pytest.mark.parametrize("place", ["folder", "zip", "zip of a part"])
def test_every_released_row_comes_back_as_it_was(tmp_path, place):
    images = write_pictures(tmp_path / "images")
    if place != "folder":
        images = pack(images, tmp_path / "images.zip", skip=0 if place == "zip" else 2)
    counts = import_rows("mm-traj", SAMPLE, tmp_path / "run", images=images)
    assert (counts.read, counts.kept, counts.dropped, counts.missing_files) == (20, 20, 0, 0)
    exported = export_rows(tmp_path / "run", tmp_path / "out", "mm-traj")
    assert (exported.exported, exported.left_out) == (20, 0)
    back = {row["id"]: row for row in json.loads((tmp_path / "out" / "train.json").read_text(encoding="utf-8"))}
    # Not even white space differs.
    assert back == {row["id"]: row for row in released_rows()}
    for row in released_rows():
        for path in picture_paths(row):
            assert (tmp_path / "out" / path).read_bytes().startswith(b"\x89PNG")


def test_a_released_row_is_a_trajectory_of_ours(tmp_path):
    import_rows("mm-traj", SAMPLE, tmp_path / "run", images=write_pictures(tmp_path / "images"))
    trajectories = read_run(tmp_path / "run")
    assert sum(len(t.actions) for t in trajectories.values()) == sum(
        turn["from"] == "assistant" for row in released_rows() for turn in row["conversations"]
    )
    dish = trajectories["5DiEm_m3"]
    assert dish.task.query == "Can you identify the ingredients in this image of a dish? What are they?"
    # The code opens the attachment by this path, not by that of the released picture.
    assert [file.path for file in dish.task.files] == ["data/tongagent/coco/train2017/000000013045.jpg"]
    assert dish.task.files[0].path in dish.steps[0].code
    assert dish.steps[0].tools == ["visualizer"]
    assert [step.is_final for step in dish.steps] == [False, True]
    assert dish.verification["trajectory"]["passed"]
    assert dish.provenance["import"] == {"file": SAMPLE.name, "row": 1}
    faces = trajectories["VadRVKkr"]
    assert faces.steps[0].code == "" and faces.steps[0].error.startswith("Error in code parsing")
    # Pictures come in the order of their marks, which is not that of the field `image`.
    calendar = trajectories["v7xej1k3"]
    assert [image.path.split("/")[-1] for image in calendar.images] == ["000235843.jpg", "000174008.jpg"]
    first = calendar.to_messages()[1]["content"]
    assert [part["type"] for part in first] == ["image", "image", "text"]


def test_rows_without_their_pictures_are_dropped_or_kept_by_choice(tmp_path):
    images = write_pictures(tmp_path / "images")
    rows = released_rows()
    (images / picture_paths(rows[0])[0]).unlink()
    (images / picture_paths(rows[4])[1]).write_bytes(b"\x89PNG is cut off")
    counts = import_rows("mm-traj", SAMPLE, tmp_path / "drop", images=images)
    assert (counts.kept, counts.dropped, counts.incomplete, counts.missing_files) == (18, 2, 0, 2)
    dropped = list(read_rows(tmp_path / "drop" / "rejected" / "train-mm-traj.jsonl"))
    assert [(r["row"], r["record"]["id"]) for r in dropped] == [(1, rows[0]["id"]), (5, rows[4]["id"])]
    assert dropped[0]["record"] == rows[0]
    assert "000000013045.jpg` is not there" in dropped[0]["reasons"][0]
    assert "not a readable image" in dropped[1]["reasons"][0]
    report = json.loads((tmp_path / "drop" / REPORT_FILE).read_text())
    assert report["dropped"] == 2 and sum(report["reasons"].values()) == 2

    counts = import_rows("mm-traj", SAMPLE, tmp_path / "keep", images=images, missing="keep")
    assert (counts.kept, counts.dropped, counts.incomplete, counts.missing_files) == (20, 0, 2, 2)
    kept = read_run(tmp_path / "keep")[rows[0]["id"]]
    assert kept.images == [] and kept.task.text().endswith("Files: data/tongagent/coco/train2017/000000013045.jpg")
    export_rows(tmp_path / "keep", tmp_path / "out", "mm-traj")
    back = {row["id"]: row for row in json.loads((tmp_path / "out" / "train.json").read_text(encoding="utf-8"))}
    assert back == {row["id"]: row for row in rows}


FORMS = {
    "no image field": {"image": None},
    "list": {"image": ["data/a.png"]},
    "by mark": {"image": {"<image_00>": "data/a.png"}},
    "more fields": {"source": "web", "scores": [1, {"a": None}], "answer": 7, "correct": "maybe"},
    "verdict without reason": {"correct": "no"},
    "verdict": {"correct": "yes", "traj_verification": "good"},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("keys", [("from", "value"), ("role", "content")])
@pytest.mark.parametrize("mark", ["Picture 1: <img>data/a.png</img>\nTask: ", "<image>\n", "<image_00>\nTask: ", ""])
def test_every_form_comes_back_as_it_was(tmp_path, fields, keys, mark):
    given = row(**fields)
    if fields.get("image", "") is None:
        del given["image"]
        mark = mark if "img" in mark else ""
    turns = [tuple(turn.values()) for turn in given["conversations"]]
    turns[0] = ("user", f"{mark}What is it?\nAttachment: data/a.png; ")
    given["conversations"] = [dict(zip(keys, turn, strict=True)) for turn in turns]
    counts = import_list(tmp_path, [given])
    assert (counts.kept, counts.reasons) == (1, {})
    trajectory = read_run(tmp_path / "rows")["one"]
    assert trajectory.task.query == "What is it?"
    assert [file.path for file in trajectory.images] == ["data/a.png"]
    export_rows(tmp_path / "rows", tmp_path / "out", "mm-traj")
    assert json.loads((tmp_path / "out" / "train.json").read_text()) == [given]


def test_marks_within_the_query_and_pictures_of_later_turns(tmp_path):
    given = row(image={f"<image_0{i}>": f"data/{name}.png" for i, name in enumerate("abc")})
    turns = given["conversations"]
    turns[0]["value"] = "Is <image_01> or <image_00> red?"
    turns[2]["value"] = "Picture 1: <img>data/c.png</img>\n[OUTPUT OF STEP 0] Observation:\n<img>data/x.png</img>"
    import_list(tmp_path, [given])
    trajectory = read_run(tmp_path / "rows")["one"]
    assert "<image" not in trajectory.task.query
    assert [image.path for image in trajectory.images] == ["data/b.png", "data/a.png", "data/c.png"]
    assert trajectory.steps[0].images == [2]
    # A tag that the program printed shows no picture of the row.
    assert trajectory.steps[0].observation == "<img>data/x.png</img>"
    export_rows(tmp_path / "rows", tmp_path / "out", "mm-traj")
    assert json.loads((tmp_path / "out" / "train.json").read_text()) == [given]


def test_documents_beside_the_pictures_are_attached(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.csv").write_text("a,b\n")
    given = row(image={})
    given["conversations"][0]["value"] = "Task: Sum it.\n Attachment: in/t.csv;  "
    import_list(tmp_path, [given])
    (file,) = read_run(tmp_path / "rows")["one"].task.files
    assert (file.path, file.read_bytes()) == ("in/t.csv", b"a,b\n")


BROKEN = {
    "no turns": ({"conversations": []}, "empty"),
    "turns of another kind": ({"conversations": {"from": "user"}}, "must be list"),
    "a turn without words": ({"conversations": [{"from": "user"}]}, "no field `value`"),
    "unknown speaker": ({"conversations": [{"from": "narrator", "value": "x"}]}, "narrator"),
    "two answers": ({"conversations": [{"from": r, "value": "x"} for r in ("user", "gpt", "gpt")]}, "do not go"),
    "no question": (
        {"conversations": [{"from": "user", "value": "Task: \n"}, {"from": "gpt", "value": "x"}]},
        "needs a question",
    ),
    "image of another kind": ({"image": 7}, "must be a path"),
    "id of another kind": ({"id": ["x"]}, "must be str"),
    "leaves the folder": ({"image": "../../etc/passwd"}, "not a path inside"),
}


@pytest.mark.parametrize(("fields", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_dropped_with_its_reason_and_the_others_stay(tmp_path, fields, reason):
    counts = import_list(tmp_path, [row(), row(**{"id": "two", **fields}), "no object", row(), row(id="three")])
    assert (counts.kept, counts.dropped) == (2, 3)
    dropped = list(read_rows(tmp_path / "rows" / "rejected" / "train-mm-traj.jsonl"))
    assert [r["row"] for r in dropped] == [2, 3, 4]
    assert reason in dropped[0]["reasons"][0]
    assert "must be a JSON object" in dropped[1]["reasons"][0]
    assert "has the id" in dropped[2]["reasons"][0]
    assert set(read_run(tmp_path / "rows")) == {"one", "three"}


def test_an_import_goes_on_where_it_was_and_refuses_another_file(tmp_path):
    rows = [row(id=f"r{n}", **({"image": 7} if n % 3 == 0 else {})) for n in range(9)]
    whole = import_list(tmp_path, rows, "whole")
    seen = []

    def stop():
        seen.append("row")
        if len(seen) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        import_list(tmp_path, rows, on_row=stop)
    assert import_list(tmp_path, rows) == whole
    assert import_list(tmp_path, rows) == whole  # nothing is left to do
    for name in ("shards", "rejected"):
        lines = [
            p.read_text().replace("whole.json", "rows.json") for p in sorted((tmp_path / "whole" / name).iterdir())
        ]
        assert [path.read_text() for path in sorted((tmp_path / "rows" / name).iterdir())] == lines
    with pytest.raises(RunFolderError, match="other settings"):
        import_list(tmp_path, rows[:-1])


def test_own_rows_in_the_released_form_are_read_back(tmp_path):
    """What is lost is what the form has no place for: token ids, counts, and where an observation ends."""
    given = {t.task.id: t for t in (make_trajectory(tmp_path / "f", n, pictures=n) for n in range(3))}
    write_shard(tmp_path / "run", "train-a", list(given.values()))
    export_rows(tmp_path / "run", tmp_path / "out", "mm-traj")
    import_rows("mm-traj", tmp_path / "out" / "train.json", tmp_path / "back")
    for name, trajectory in read_run(tmp_path / "back").items():
        assert trajectory.to_messages() == given[name].to_messages()
        assert [f.sha256 for f in trajectory.images] == [f.sha256 for f in given[name].images]
        assert trajectory.task.files == given[name].task.files


@pytest.mark.slow
def test_the_command_makes_a_dataset_that_loads_and_can_be_shown(tmp_path):
    from t3_agents.commands.view import page_of

    write_pictures(tmp_path / "images")
    run, out = tmp_path / "run", tmp_path / "out"

    def t3(*arguments) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "t3_agents.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = t3("import", "mm-traj", SAMPLE, "--images", tmp_path / "images", "--output", run)
    assert done.returncode == 0, done.stderr
    assert "20 rows read" in done.stdout
    rows = load_dataset(str(run / "dataset"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(rows) == 20 and sum(len(row["images"]) for row in rows) == 13
    assert "What are they?" in page_of(run)
    done = t3("export", run, "--format", "mm-traj", "--output", out)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((out / "train.json").read_text(encoding="utf-8"))) == 20
    done = t3("import", "csv", SAMPLE, "--output", run)
    assert done.returncode == 2 and "takes one of mm-traj" in done.stderr


@pytest.mark.slow
def test_an_import_that_is_killed_again_and_again_loses_nothing(tmp_path):
    images = write_pictures(tmp_path / "images")
    import_rows("mm-traj", SAMPLE, tmp_path / "whole", images=images)
    program = (
        "import sys\n"
        "from dataset_builder import import_rows\n"
        "def row():\n"
        "    print('row', flush=True)\n"
        "import_rows('mm-traj', sys.argv[1], sys.argv[2], images=sys.argv[3], on_row=row)\n"
    )
    command = [sys.executable, "-c", program, str(SAMPLE), str(tmp_path / "run"), str(images)]
    for rows in (3, 9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(rows):
            process.stdout.readline()
        time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert list(read_records(tmp_path / "run", "train")) == list(read_records(tmp_path / "whole", "train"))


def test_wrong_options_are_refused_before_anything_is_written(tmp_path):
    for options, message in (
        ({"missing": "guess"}, "choose one of drop, keep"),
        ({"split": "dev"}, "choose one of train"),
        ({"images": tmp_path / "nowhere"}, "neither a folder nor a zip"),
    ):
        with pytest.raises(InputError, match=message):
            import_list(tmp_path, [row()], **options)
    with pytest.raises(InputError, match="There is no file"):
        import_rows("mm-traj", tmp_path / "none.json", tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
    with pytest.raises(InputError, match="no row to export"):
        export_rows(tmp_path, tmp_path / "out", "mm-traj")
    assert not (tmp_path / "out").exists()


def test_an_exported_import_is_a_dataset(tmp_path):
    import_rows("mm-traj", SAMPLE, tmp_path / "run", images=write_pictures(tmp_path / "images"))
    dataset = export_dataset(tmp_path / "run", tmp_path / "dataset")
    statistics = json.loads((dataset / "statistics.json").read_text())
    assert statistics["rows"] == 20 and statistics["origins"] == {"mm-traj": 20}
    assert statistics["verdicts"]["trajectory"] == {"passed": 20, "failed": 0}
