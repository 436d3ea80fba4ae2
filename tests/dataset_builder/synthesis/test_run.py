"""`t3 synth` as a process against a scripted teacher at which everything goes wrong that can."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import pytest
from datasets import load_dataset

from dataset_builder.synthesis.run_folder import IN_FLIGHT, finished_rows
from dataset_builder.synthesis.story import tell
from tests.helpers.teacher_server import MODEL, teacher_server


FAULTS = "0.05"


def command(url: str, folder: Path, num_tasks: int, *options: str) -> list[str]:
    arguments = ["--teacher", url, "--output", str(folder), "--num-tasks", str(num_tasks), "--model", MODEL]
    arguments += "--flavor gaia --embedding words --request-time-limit 5 --concurrency 8".split()
    return [sys.executable, "-m", "t3_agents.cli", "synth", *arguments, *options]


def synthesize(url: str, folder: Path, num_tasks: int, *options: str) -> None:
    done = subprocess.run(command(url, folder, num_tasks, *options), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


def outcomes(folder: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason, or answer, by candidate; fails when one is there twice."""
    found = {}
    for outcome, row in finished_rows(folder):
        kept = outcome == "kept"
        name = row["provenance"]["synthesis"]["id"] if kept else row["id"]
        assert name not in found
        found[name] = (outcome, row["answer"] if kept else row["reasons"][0])
    return found


def check_run(folder: Path, num_tasks: int) -> dict[str, tuple[str, str]]:
    found = outcomes(folder)
    counts = Counter(outcome for outcome, _ in found.values())
    assert sum(counts.values()) == num_tasks and not list((folder / IN_FLIGHT).iterdir())
    assert counts["kept"] and counts["rejected"] and counts["failed"]
    assert all(reason for _, reason in found.values())
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["outcomes"] == dict(counts)
    rows = load_dataset(str(folder / "dataset"), cache_dir=str(folder.parent / "cache"))
    assert sum(map(len, rows.values())) == counts["kept"]
    return found


def num_events(folder: Path) -> int:
    journal = folder / "events.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def check_killed_run(url: str, folder: Path, num_tasks: int, events: int) -> int:
    """Kill a run each time that it has noted so many events, until it is through; the number of kills."""
    kills = 0
    while True:
        process = subprocess.Popen(command(url, folder, num_tasks), stderr=subprocess.PIPE, text=True)
        before = num_events(folder)
        while process.poll() is None and num_events(folder) < before + events:
            time.sleep(0.02)
        if process.poll() is not None:
            _, errors = process.communicate()
            assert process.returncode == 0, errors[-3000:]
            return kills
        process.kill()
        process.communicate()
        kills += 1


def check_everything(tmp_path: Path, num_tasks: int, kills: int) -> None:
    with teacher_server("--faults", FAULTS) as url:
        synthesize(url, tmp_path / "whole", num_tasks)
        events = num_events(tmp_path / "whole") // (kills + 1)
        assert check_killed_run(url, tmp_path / "killed", num_tasks, events) > 0
    whole = check_run(tmp_path / "whole", num_tasks)
    assert check_run(tmp_path / "killed", num_tasks) == whole


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_keeps_the_same_rows(tmp_path):
    check_everything(tmp_path, num_tasks=24, kills=2)


@pytest.mark.slow
def test_300_tasks_with_every_fault_and_kills(tmp_path):
    check_everything(tmp_path, num_tasks=300, kills=6)


@pytest.mark.slow
def test_ctrl_c_finishes_what_is_under_way_and_the_next_run_the_rest(tmp_path):
    folder = tmp_path / "run"
    with teacher_server("--latency", "0.2") as url:
        process = subprocess.Popen(command(url, folder, 40), stderr=subprocess.PIPE, text=True)
        while not list((folder / IN_FLIGHT).glob("*.json")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 130 and "run the same command to resume" in errors
        assert 0 < len(outcomes(folder)) < 40 and not list((folder / IN_FLIGHT).iterdir())
        name = next(iter(outcomes(folder)))
        assert any(title == "Query" for title, _ in tell(folder, name))


def test_ctrl_c_twice_stops_at_once(tmp_path):
    folder = tmp_path / "run"
    # A reply takes an hour.
    with teacher_server("--latency", "3600") as url:
        process = subprocess.Popen(
            command(url, folder, 40, "--request-time-limit", "7200"), stderr=subprocess.PIPE, text=True
        )
        while sum(json.load(urlopen(f"{url.removesuffix('/v1')}/stats"))["calls"].values()) < 2:  # one is a probe
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        while "again stops at once" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 130, errors
