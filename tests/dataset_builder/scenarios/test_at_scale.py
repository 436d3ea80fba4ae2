"""The scenarios as a teacher at scale: mixture, paraphrases, splits, resuming, and a whole run."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from datasets import load_dataset

from dataset_builder.scenarios import SCENARIOS, make_task, split_of
from dataset_builder.scenarios.at_scale import (
    FIRST_INDEX,
    PLAN_FILE,
    WORDS,
    _Job,
    framed,
    make_rows,
    query_key,
    rows_by_split,
    synthesize_scenarios,
)
from dataset_builder.scenarios.families.words import FIRST_NAMES, LAST_NAMES
from dataset_builder.scenarios.mixture import FamilyProfile, solve_mixture, whole_numbers
from t3_agents.cli import parse
from t3_agents.errors import InputError
from t3_agents.evaluation.published import AXES, beside_paper, paper_shares
from t3_agents.storage import RunFolder, read_rows
from tests.helpers import ROOT


BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
# Both are quick: one searches, the other reads a table with Python.
QUOTAS = (("capital_quiz", 4), ("poll_table", 3))


def family(name: str, split: str = "train", **counts: dict[str, float]) -> FamilyProfile:
    empty = {axis: {} for axis in ("file_types", "tools", "domains", "steps")}
    return FamilyProfile(name, split, empty | counts)


def rows_of(folder: Path, kind: str = "shards") -> list[dict]:
    return [row for path in sorted((folder / kind).glob("*.jsonl")) for row in read_rows(path)]


def test_a_mixture_meets_shares_that_can_be_met():
    # 40 families, so that the bounds of a family's share leave room.
    profiles = []
    for n in range(40):
        files = {"pdf": 2} if n % 4 else {"jpg": 1}
        profiles.append(family(f"{n}", "train" if n % 10 else "test", file_types=files, steps={"2": 1}))
    wanted = {"file_types": {"jpg": 15.0, "pdf": 85.0}, "steps": {"2": 100.0}}
    weights = solve_mixture(profiles, wanted, {"train": 0.92, "test": 0.08})
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(weights[p.name] for p in profiles if p.split == "test") == pytest.approx(0.08)
    files = Counter()
    for p in profiles:
        for key, count in p.counts["file_types"].items():
            files[key] += count * weights[p.name]
    assert files["jpg"] / files.total() == pytest.approx(0.15, abs=1e-6)
    assert min(weights.values()) > 0


def test_splits_that_no_family_can_fill_are_refused():
    with pytest.raises(InputError, match="cannot fill the splits"):
        solve_mixture([family("one", steps={"2": 1})], {"steps": {"2": 100.0}}, {"train": 1.0})


def test_weights_become_numbers_without_losing_a_row():
    weights = {"a": 0.335, "b": 0.335, "c": 0.33}
    assert whole_numbers(weights, 100) == {"a": 34, "b": 33, "c": 33}
    assert sum(whole_numbers(weights, 7).values()) == 7


def test_distances_are_total_variations():
    def paper_distances(found):
        return {axis: one.distance for axis, one in beside_paper(found).items()}

    papers = {axis: paper_shares(axis) for axis in AXES}
    # The rounded domains of the paper add up to 100.1 %.
    assert max(paper_distances(papers).values()) < 0.001
    # The answer is no tool call, and types that the paper does not name are its `other`.
    files = {key: share for key, share in papers["file_types"].items() if key != "other"} | {"json": 1.0, "txt": 2.0}
    same = papers | {"tools": papers["tools"] | {"final_answer": 99}, "file_types": files}
    assert max(paper_distances(same).values()) < 0.001
    assert paper_distances(papers | {"steps": {"9": 4}})["steps"] == pytest.approx(1)
    assert paper_distances(papers | {"steps": {}})["steps"] is None
    domains = papers["domains"]
    moved = domains | {"finance": domains["finance"] - 10, "nature": domains["nature"] + 10}
    assert paper_distances(papers | {"domains": moved})["domains"] == pytest.approx(0.1, abs=0.001)


def test_no_template_is_in_two_splits():
    seen: dict[str, str] = {}
    for scenario in SCENARIOS:
        for template in scenario.phrasings:
            assert seen.setdefault(query_key(template), split_of(scenario)) == split_of(scenario), template
    frames = {split: {*f["before"], *f["after"], *filter(None, f["endings"])} for split, f in WORDS["frames"].items()}
    assert not frames["train"] & frames["validation"] | frames["train"] & frames["test"]
    assert not frames["validation"] & frames["test"]
    assert {split_of(scenario) for scenario in SCENARIOS} == set(frames)
    assert all(split_of(scenario) == "test" for scenario in SCENARIOS if scenario.unseen)


def test_people_in_a_frame_are_no_answers():
    assert not {*WORDS["names"]} & {*FIRST_NAMES, *LAST_NAMES}
    assert not any(
        sign.isdigit() for f in WORDS["frames"].values() for text in (*f["before"], *f["after"]) for sign in text
    )


def test_frames_tell_nothing_about_families_where_only_the_picture_does(tmp_path):
    purposes = []
    for scenario in (s for s in SCENARIOS if s.vision_only):
        task = make_task(scenario, 0, 0, tmp_path / scenario.name).task
        queries = {framed(task, "train", random.Random(n)).query.replace(task.query, "") for n in range(200)}
        purposes.append(queries)
    assert all(found == purposes[0] for found in purposes)
    assert len(purposes[0]) == 200


def test_a_frame_keeps_everything_but_the_words(tmp_path):
    task = make_task(BY_NAME["poll_table"], 0, 0, tmp_path).task
    other = framed(task, "test", random.Random(1))
    assert task.query in other.query
    assert other.id != task.id
    assert (other.files, other.tools, other.ground_truth, other.origin) == (
        task.files, task.tools, task.ground_truth, task.origin,
    )  # fmt: skip


def test_rows_are_verified_and_the_same_after_a_stop(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    count = Counter()
    make_rows(_Job(whole, 0, "compact", QUOTAS), lambda: count.update(["row"]))
    assert count["row"] == 7

    def stop() -> None:
        count["stopped"] += 1
        if count["stopped"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        make_rows(_Job(stopped, 0, "compact", QUOTAS), stop)
    shard = stopped / "shards" / "train-capital_quiz.jsonl"
    # A process that was killed while it wrote leaves half a line.
    with shard.open("ab") as stream:
        stream.write(b'{"task": {"id": "')
    make_rows(_Job(stopped, 0, "compact", QUOTAS), lambda: None)
    rows = rows_of(whole)
    assert rows == rows_of(stopped)
    assert len({query_key(row["task"]["query"]) for row in rows}) == len({row["task"]["id"] for row in rows}) == 7
    assert all(v == {"passed": True, "reasons": []} for row in rows for v in row["verification"].values())
    assert all(set(row["verification"]) == {"query_file", "trajectory"} for row in rows)
    assert min(row["task"]["origin"]["index"] for row in rows) == FIRST_INDEX


def test_a_run_can_be_looked_at(tmp_path, capsys):
    plan = {name: {"rows": rows + 2, "cost": 1.0} for name, rows in QUOTAS}
    with RunFolder(tmp_path, {"command": "synth", "teacher": "scenarios"}):
        (tmp_path / PLAN_FILE).write_text(json.dumps(plan))
        make_rows(_Job(tmp_path, 0, "compact", QUOTAS), lambda: None)
    assert rows_by_split(tmp_path) == {"train": (11, 7, 0), "validation": (0, 0, 0), "test": (0, 0, 0)}
    assert parse(["synth", "status", str(tmp_path)])() == 0
    assert re.search(r"train\W+11\W+7\W+0", capsys.readouterr().out)
    row = rows_of(tmp_path)[0]
    assert parse(["synth", "inspect", str(tmp_path), row["task"]["id"]])() == 0
    story = " ".join(capsys.readouterr().out.split())
    for text in (row["task"]["query"], row["steps"][0]["code"], "trajectory: accepted"):
        assert " ".join(text.split()) in story
    with pytest.raises(InputError, match="no candidate"):
        parse(["synth", "inspect", str(tmp_path), "0" * 16])()
    with pytest.raises(InputError, match="no folder of a run"):
        parse(["synth", "status", str(tmp_path / "shards")])()


def test_options_are_checked():
    with pytest.raises(InputError, match="from 1 to 1,000,000 rows"):
        synthesize_scenarios("mm-traj", num_tasks=0)


def start(output: Path, num_tasks: int) -> subprocess.Popen:
    options = ["--teacher", "scenarios", "--output", str(output), "--num-tasks", str(num_tasks)]
    command = [sys.executable, "-m", "t3_agents.cli", "synth", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stop_after(process: subprocess.Popen, folder: Path, num_rows: int, number: int) -> None:
    while len(rows_of(folder)) < num_rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=120)


@pytest.mark.slow
def test_a_run_that_is_killed_and_interrupted_gives_the_same_rows(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start(whole, 110).wait(timeout=1200) == 0
    stop_after(start(stopped, 110), stopped, 10, signal.SIGKILL)
    stop_after(start(stopped, 110), stopped, 40, signal.SIGINT)
    process = start(stopped, 110)
    printed, _ = process.communicate(timeout=1200)
    assert process.returncode == 0
    assert b"distance" in printed
    assert rows_of(whole) == rows_of(stopped)
    assert len(rows_of(whole)) == 110
    assert (whole / "dataset" / "statistics.json").read_bytes() == (
        stopped / "dataset" / "statistics.json"
    ).read_bytes()


@pytest.mark.slow
def test_two_thousand_rows_are_distinct_and_near_the_paper(tmp_path):
    process = start(tmp_path / "run", 2000)
    process.communicate()
    assert process.returncode == 0
    found = json.loads((tmp_path / "run" / "dataset" / "statistics.json").read_text())
    assert found["rows"] == 2000
    assert max(one.distance for one in beside_paper(found).values()) < 0.1
    rows = rows_of(tmp_path / "run")
    assert len({query_key(row["task"]["query"]) for row in rows}) == 2000
    splits: dict[str, set[str]] = {}
    for name, count in found["families"].items():
        splits.setdefault(name, set()).update(count)
    assert all(len(there) == 1 for there in splits.values())
    dataset = load_dataset(str(tmp_path / "run" / "dataset"))
    assert {name: len(split) for name, split in dataset.items()} == found["splits"]
