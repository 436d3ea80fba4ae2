"""The builder reads what the shards hold, and refuses rows that a trainer could not use."""

from __future__ import annotations

import json

import pytest

from dataset_builder.mm_traj import (
    MMTraj,
    make_features,
    make_row,
    read_records,
    to_example,
)
from t3_agents.errors import InputError
from t3_agents.storage import BlobStore
from tests.helpers.run_samples import expected, make_trajectory, plain, write_shard


@pytest.mark.parametrize("config", ["default", "tasks"])
def test_builder_gives_the_rows_of_the_shards(run_folder, tmp_path, config):
    builder = MMTraj(config_name=config, data_dir=str(run_folder), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    loaded = builder.as_dataset()
    assert set(loaded) == {"train", "validation", "test"}
    for split, dataset in loaded.items():
        assert dataset.features == make_features(config)
        assert [plain(row) for row in dataset] == list(expected(run_folder, split, config))
        assert [plain(row) for row in builder.as_streaming_dataset(split)] == [plain(row) for row in dataset]


def test_new_rows_are_not_hidden_by_the_cache(run_folder, tmp_path):
    def count():
        builder = MMTraj(config_name="default", data_dir=str(run_folder), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        return len(builder.as_dataset(split="train"))

    before = count()
    write_shard(run_folder, "train-receipts", [make_trajectory(tmp_path / "more", 99)])
    assert count() == before + 1


def test_order_does_not_depend_on_the_shards(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    rows = [make_trajectory(tmp_path / "files", n) for n in range(6)]
    write_shard(one, "train-a", rows)
    write_shard(two, "train-b", rows[3:][::-1])
    write_shard(two, "train-a", rows[:3])
    assert list(read_records(one, "train")) == list(read_records(two, "train"))


def test_torn_last_line_is_passed_over(run_folder):
    path = run_folder / "shards" / "train-receipts.jsonl"
    whole = list(read_records(run_folder, "train"))
    with path.open("ab") as stream:
        stream.write(path.read_bytes()[:300])
    assert list(read_records(run_folder, "train")) == whole


def test_row_that_is_twice_is_refused(run_folder, tmp_path):
    write_shard(run_folder, "train-maps", [make_trajectory(tmp_path / "scratch", 1)])
    with pytest.raises(InputError, match="twice in the train shards"):
        list(read_records(run_folder, "train"))


def test_line_that_is_no_record_is_refused(run_folder):
    with (run_folder / "shards" / "train-maps.jsonl").open("ab") as stream:
        stream.write(b'{"messages": []}\n')
    with pytest.raises(InputError, match="train-maps.jsonl is not a trajectory record"):
        list(read_records(run_folder, "train"))


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_blob_is_named(run_folder, damage):
    blobs = BlobStore(run_folder / "blobs")
    record = next(read_records(run_folder, "validation"))
    path = blobs.path(record["images"][0]["sha256"])
    path.write_bytes(path.read_bytes()[:-1]) if damage == "changed" else path.unlink()
    with pytest.raises(InputError, match=f"Row {record['task']['id']}: .*(damaged|missing)"):
        make_row(record, blobs)


def test_json_columns_do_not_depend_on_the_order_of_keys():
    one = to_example({"provenance": {"a": 1, "ü": None}})
    two = to_example({"provenance": {"ü": None, "a": 1}})
    assert one == two
    assert json.loads(one["provenance"]) == {"a": 1, "ü": None}


def test_data_dir_is_needed(tmp_path):
    with pytest.raises(InputError, match="pass it as data_dir"):
        MMTraj(config_name="default", cache_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(InputError, match="holds no shards"):
        MMTraj(config_name="default", data_dir=str(tmp_path), cache_dir=str(tmp_path)).download_and_prepare()
