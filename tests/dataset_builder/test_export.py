"""The Parquet export loads with stock `datasets`, and is the same every time."""

from __future__ import annotations

import json

import pyarrow.parquet
import pytest
from datasets import load_dataset

from dataset_builder.export import ShardIndex, export_dataset, export_run
from dataset_builder.mm_traj import make_features, read_records
from hub_cards.dataset_card import write_card
from t3_agents.errors import InputError, RunFolderError
from t3_agents.storage import Shard
from tests.helpers.run_samples import digests, expected, make_trajectory, plain, write_shard


@pytest.mark.parametrize("config", ["default", "tasks"])
def test_load_dataset_gives_the_rows(run_folder, tmp_path, config):
    output = export_dataset(run_folder, tmp_path / "out", finish=write_card)
    loaded = load_dataset(str(output), config, cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train", "validation", "test"]
    for split, dataset in loaded.items():
        assert dataset.features == make_features(config)
        rows = [plain(row) for row in dataset]
        assert rows == list(expected(run_folder, split, config))
        stream = load_dataset(str(output), config, split=split, streaming=True)
        assert stream.features == dataset.features
        assert [plain(row) for row in stream] == rows
    paths = {image["path"] for row in loaded["train"].cast_column("images", [_undecoded()]) for image in row["images"]}
    assert "files/bild 0 é.png" in paths


def _undecoded():
    from datasets import Image

    return Image(decode=False)


def test_files_are_split_by_size_and_named_with_their_number(run_folder, tmp_path):
    output = export_dataset(run_folder, tmp_path / "out", shard_bytes=4000)
    names = sorted(path.name for path in (output / "data").glob("train-*"))
    assert len(names) > 1
    numbers = [f"train-{n:05d}" for n in range(len(names))]
    assert [name.rsplit("-", 1)[0] for name in names] == numbers
    loaded = load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert [plain(row) for row in loaded] == list(expected(run_folder, "train"))


def test_row_groups_are_bounded(tmp_path):
    run = tmp_path / "run"
    write_shard(run, "train-a", [make_trajectory(tmp_path / "files", n, pictures=0) for n in range(230)])
    output = export_dataset(run, tmp_path / "out")
    file = pyarrow.parquet.ParquetFile(next((output / "data").glob("train-00000-*")))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [100, 100, 30]


def test_same_rows_give_the_same_bytes(run_folder, tmp_path):
    one = export_dataset(run_folder, tmp_path / "one", finish=write_card)
    two = export_dataset(run_folder, tmp_path / "two", finish=write_card)
    assert digests(one) == digests(two)
    assert {"README.md", "statistics.json", "plots/tools.png"} <= set(digests(one))


def test_the_dataset_of_a_run_is_made_once_and_again_when_the_run_has_grown(run_folder, tmp_path):
    dataset = export_run(run_folder)
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert export_run(run_folder) == dataset
    assert before == {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    write_shard(run_folder, "train-more", [make_trajectory(tmp_path / "scratch", 40)])
    export_run(run_folder)
    assert len(load_dataset(str(dataset), split="train", cache_dir=str(tmp_path / "cache"))) == 9
    with pytest.raises(InputError, match="No row was kept; the reasons are in"):
        export_run(tmp_path / "empty")


def test_two_folders_of_one_name_are_not_taken_for_each_other(tmp_path):
    loaded = []
    for number in (1, 2):
        run = tmp_path / f"run{number}"
        write_shard(run, "train-a", [make_trajectory(run / "files", n) for n in range(number)])
        folder = export_dataset(run, run / "dataset")
        loaded.append(load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache")).num_rows)
    assert loaded == [1, 2]


def test_statistics_are_counted(run_folder, tmp_path):
    with Shard(run_folder / "rejected" / "train-maps.jsonl") as shard:
        verdict = {"trajectory": {"passed": False, "reasons": ["wrong answer"]}}
        shard.append({"reasons": ["The answer is '7', not 8."], "trajectory": {"verification": verdict}})
        shard.append({"reasons": ["crashed"], "trajectory": None})
    output = export_dataset(run_folder, tmp_path / "out")
    found = json.loads((output / "statistics.json").read_text())
    assert found["rows"] == 10 and found["splits"] == {"train": 8, "validation": 1, "test": 1}
    assert found["rejected"] == 2 and found["reasons"] == {"The answer is …, not …": 1, "crashed": 1}
    assert found["verdicts"]["trajectory"] == {"passed": 10, "failed": 1}
    assert found["tools"] == {"final_answer": 10, "visualizer": 10}
    assert found["file_types"] == {"png": 11, "csv": 10}
    assert found["steps"] == {"2": 10}
    assert found["families"] == {
        "maps": {"train": 3, "validation": 1},
        "posters": {"test": 1},
        "receipts": {"train": 5},
    }
    assert found["actions"] == {"ran": 17, "failed": 3}
    assert (
        found["columns"]["default"]["files"]
        == "list<{path: string, bytes: binary, media_type: string, sha256: string}>"
    )


def test_broken_row_is_named_and_leaves_nothing_behind(run_folder, tmp_path):
    trajectory = make_trajectory(tmp_path / "files", 77)
    first, last = trajectory.steps
    first.images, last.images = [], first.images
    write_shard(run_folder, "test-posters", [trajectory])
    with pytest.raises(InputError, match=f"Row {trajectory.task.id}: .* image placeholders"):
        export_dataset(run_folder, tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_row_in_two_splits_is_refused(run_folder, tmp_path):
    trajectory = make_trajectory(tmp_path / "scratch", 20, family="maps")
    write_shard(run_folder, "test-maps", [trajectory])
    with pytest.raises(InputError, match=f"Row {trajectory.task.id} is in the splits validation and test"):
        export_dataset(run_folder, tmp_path / "out")


def test_nothing_is_overwritten_and_nothing_empty_is_written(run_folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(RunFolderError, match="exists already"):
        export_dataset(run_folder, tmp_path / "out")
    with pytest.raises(InputError, match="no row to export"):
        export_dataset(tmp_path / "empty", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_remains_of_a_killed_export_are_cleared(run_folder, tmp_path):
    remains = tmp_path / ".out.partial" / "data"
    remains.mkdir(parents=True)
    (remains / "train-00000.partial").write_bytes(b"PAR1")
    output = export_dataset(run_folder, tmp_path / "out")
    assert not remains.exists() and not list(output.rglob("*.partial"))
    assert len(list(read_records(run_folder, "train"))) == 8


def index_of(folder):
    return ShardIndex.from_json((folder / "shards.json").read_text())


def test_a_grown_run_adds_files_and_leaves_the_others(run_folder, tmp_path):
    first = export_dataset(run_folder, tmp_path / "first", shard_bytes=4000)
    new = [make_trajectory(tmp_path / "new", 300 + n) for n in range(2)]
    write_shard(run_folder, "train-new", new)
    second = export_dataset(run_folder, tmp_path / "second", shard_bytes=4000, previous=index_of(first))
    written = {path.relative_to(second).as_posix() for path in second.rglob("*.parquet")}
    before = {shard.path for shard in index_of(first).shards}
    assert written and not written & before
    assert {shard.path for shard in index_of(second).shards} == before | written
    rows = [name for s in index_of(second).shards if s.path in written and s.config == "default" for name, _ in s.rows]
    assert sorted(rows) == sorted(t.task.id for t in new)
    # Put together, as a push puts them together, the folder has all rows once.
    for path in before:
        (second / path).parent.mkdir(exist_ok=True)
        (second / path).write_bytes((first / path).read_bytes())
    loaded = load_dataset(str(second), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["id"]) == sorted(record["task"]["id"] for record in read_records(run_folder, "train"))


def test_a_changed_row_leaves_its_old_file(run_folder, tmp_path):
    first = export_dataset(run_folder, tmp_path / "first", shard_bytes=4000)
    path = run_folder / "shards" / "train-receipts.jsonl"
    lines = path.read_text().splitlines()
    changed = json.loads(lines[0])
    changed["answer"] = "another"
    path.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    second = export_dataset(run_folder, tmp_path / "second", shard_bytes=4000, previous=index_of(first))
    name = changed["task"]["id"]
    gone = {s.path for s in index_of(first).shards if name in dict(s.rows)}
    assert gone and not gone & {s.path for s in index_of(second).shards}
    rows = [row for s in index_of(second).shards if (s.config, s.split) == ("default", "train") for row, _ in s.rows]
    assert sorted(rows) == sorted(record["task"]["id"] for record in read_records(run_folder, "train"))


@pytest.mark.parametrize(
    "change", [{"format": "t3-shards/2"}, {"shards": {}}, {"shards": [{}]}, {"shards": [{"path": "../x.parquet"}]}]
)
def test_an_index_that_is_none(run_folder, tmp_path, change):
    record = json.loads((export_dataset(run_folder, tmp_path / "out") / "shards.json").read_text())
    if change.get("shards") and change["shards"][0]:
        change = {"shards": [{**record["shards"][0], **change["shards"][0]}]}
    with pytest.raises(InputError, match="shards.json"):
        ShardIndex.from_json(json.dumps({**record, **change}))
