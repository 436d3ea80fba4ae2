"""The ShareGPT form of LLaMA-Factory and ms-swift."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from datasets import load_dataset

from dataset_builder.formats.reading import import_rows
from dataset_builder.formats.writing import export_rows
from t3_agents.storage import read_rows
from t3_agents.turns import write_turn
from tests.helpers.run_samples import make_trajectory, picture, read_run, write_shard


def import_list(tmp_path, rows, **options):
    (tmp_path / "in.json").write_text(json.dumps(rows))
    return import_rows("sharegpt", tmp_path / "in.json", tmp_path / "taken", **options)


def test_the_rows_are_what_llama_factory_reads(tmp_path, run_folder):
    """Its converter: odd turns by human, even ones by gpt, and as many marks as pictures."""
    counts = export_rows(run_folder, tmp_path / "out", "sharegpt")
    assert (counts.exported, counts.left_out) == (10, 0)
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert set(info) == {"t3_train", "t3_validation", "t3_test"}
    for split in info.values():
        lines = (tmp_path / "out" / split["file_name"]).read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            turns = row[split["columns"]["messages"]]
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            text = "".join(turn["value"] for turn in turns)
            assert text.count("<image>") == len(row[split["columns"]["images"]])
            assert all((tmp_path / "out" / path).is_file() for path in row["images"])
        # One schema for all rows, as these libraries load them.
        loaded = load_dataset("json", data_files=str(tmp_path / "out" / split["file_name"]), cache_dir=tmp_path / "c")
        assert len(loaded["train"]) == len(lines)


def test_own_rows_say_the_same_when_they_are_read_back(tmp_path, run_folder):
    export_rows(run_folder, tmp_path / "out", "sharegpt")
    given = read_run(run_folder)
    counts = import_rows("sharegpt", tmp_path / "out" / "train.jsonl", tmp_path / "taken")
    assert (counts.kept, counts.dropped, counts.missing_files) == (len(given), 0, 0)
    for name, trajectory in read_run(tmp_path / "taken").items():
        assert trajectory.to_messages() == given[name].to_messages()
        assert trajectory.task.files == given[name].task.files
        assert trajectory.images == given[name].images
        assert trajectory.answer == given[name].answer
        assert [s.code for s in trajectory.steps] == [s.code for s in given[name].steps]


def test_the_swift_form_with_pictures_in_later_turns(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(picture((1, 1, ord(name))))
    messages = [
        {"role": "system", "content": "Tools:\n- look(path)\n"},
        {"role": "user", "content": "<image><image>Which is red?"},
        {"role": "assistant", "content": "Thought: t\n```py\nlook('files/0_a.png')\n```"},
        {"role": "user", "content": "<image>Observation: this"},
        {"role": "assistant", "content": "The first."},
    ]
    counts = import_list(tmp_path, [{"messages": messages, "images": ["a.png", "b.png", "c.png"]}])
    assert (counts.kept, counts.reasons) == (1, {})
    (trajectory,) = read_run(tmp_path / "taken").values()
    assert trajectory.system_prompt.startswith("Tools")
    assert trajectory.task.text() == "Which is red?\nFiles: files/0_a.png, files/1_b.png"
    assert trajectory.steps[0].images == [2] and trajectory.steps[0].observation == "this"
    assert trajectory.steps[0].tools == ["look"]


BROKEN = {
    "a mark without picture": ({"images": []}, "1 marks <image>, but there are 0"),
    "a picture without mark": ({"images": ["a.png", "b.png"]}, "1 marks <image>, but there are 2"),
    "images of another kind": ({"images": {"a": 1}}, "must be a list of paths"),
    "a mark of the assistant": (
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<image>"}]},
        "only come from the user",
    ),
    "no turns": ({"messages": None}, "must be list"),
}


@pytest.mark.parametrize(("fields", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_dropped_with_its_reason(tmp_path, fields, reason):
    (tmp_path / "a.png").write_bytes(picture((1, 1, 1)))
    messages = [{"role": "user", "content": "<image>x"}, {"role": "assistant", "content": "y"}]
    row = {"messages": messages, "images": ["a.png"]}
    counts = import_list(tmp_path, [row, {**row, **fields}])
    assert (counts.kept, counts.dropped) == (1, 1)
    (dropped,) = read_rows(tmp_path / "taken" / "rejected" / "train-sharegpt.jsonl")
    assert reason in dropped["reasons"][0]


@pytest.mark.parametrize("form", ["sharegpt", "mm-traj", "atif"])
def test_the_word_for_a_picture_stays_a_word(tmp_path, form):
    given = make_trajectory(tmp_path / "f", 1)
    given.task = replace(given.task, query="What does <image> mean in <image_01>?")
    given.steps[0].observation += "\n<image> is a tag"
    given.steps[0].read(write_turn("Print <image>.", "print('<image>')"))
    write_shard(tmp_path / "run", "train-a", [given])
    export_rows(tmp_path / "run", tmp_path / "out", form)
    source = tmp_path / "out" if form == "atif" else next((tmp_path / "out").glob("train.json*"))
    counts = import_rows(form, source, tmp_path / "back")
    assert counts.kept == 1
    [taken] = read_run(tmp_path / "back").values()
    assert taken.task.query == given.task.query and len(taken.images) == len(given.images)
    if form != "mm-traj":  # which words turns in another way
        assert taken.to_messages() == given.to_messages()
    assert "<image> is a tag" in taken.steps[0].observation and "print('<image>')" in taken.steps[0].code
