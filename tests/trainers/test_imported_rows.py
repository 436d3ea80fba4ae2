"""Rows that were imported from the released data train like those that were built here."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset

from dataset_builder.export import export_dataset
from dataset_builder.formats.reading import import_rows
from dataset_builder.mm_traj import make_row, read_records
from t3_agents.storage import BlobStore
from tests.helpers.released_rows import picture_paths, released_rows, write_pictures
from tests.helpers.training_rows import make_trainer
from trainers.collators import IGNORE, TrajectoryCollator


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The released sample as a run; the system prompt is cut, because the tiny model reads few tokens."""
    folder = tmp_path_factory.mktemp("imported")
    rows = released_rows()
    for row in rows:
        row["conversations"][0]["value"] = row["conversations"][0]["value"][:400]
    (folder / "rows.json").write_text(json.dumps(rows))
    images = write_pictures(folder / "images")
    import_rows("mm-traj", folder / "rows.json", folder / "run", images=images)
    return folder / "run"


def test_the_labels_are_the_released_turns(encoder, tmp_path, run):
    exported = export_dataset(run, tmp_path / "dataset")
    released = {row["id"]: row for row in released_rows()}
    dataset = load_dataset(str(exported), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(dataset) == len(released)
    for row in dataset:
        batch = TrajectoryCollator(encoder)([row])
        labels = batch["labels"][0]
        said = encoder.tokenizer.decode(labels[labels != IGNORE])
        turns = [turn["value"] for turn in released[row["id"]]["conversations"] if turn["from"] == "assistant"]
        assert said == "".join(f"{turn}<|im_end|>" for turn in turns)
        assert len(row["images"]) == len(picture_paths(released[row["id"]]))


@pytest.mark.slow
def test_the_trainer_trains_on_them(tiny_vlm, tmp_path, run):
    blobs = BlobStore(run / "blobs")
    rows = [make_row(record, blobs) for record in read_records(run, "train")]
    rows.sort(key=lambda row: sum(len(part.get("text", "")) for m in row["messages"] for part in m["content"]))
    assert any(row["images"] for row in rows[:6])
    trainer = make_trainer(tiny_vlm, tmp_path / "run", rows[:6], max_length=4096)
    assert trainer.train().training_loss > 0
