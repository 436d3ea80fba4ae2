"""Building resumes after a kill at any moment and gives the same dataset."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from dataset_builder.build import FIRST_INDEX, BuildConfig, build_dataset, build_family, solve_task
from dataset_builder.scenarios import Scenario, make_task
from t3_agents.cli import main
from t3_agents.errors import InputError, RunFolderError
from t3_agents.storage import BlobStore, read_rows
from tests.helpers import ROOT, kill_when
from tests.helpers.run_samples import digests


# Two seen families and an unseen one, all of them quick.
FAMILIES = ["airport_pair", "bird_counts", "area_share"]
CONFIG = BuildConfig(families=FAMILIES, train=3, validation=1, test=2, seed=5)
ROWS = {"train": 6, "validation": 2, "test": 6}


class WrongAnswer(Scenario):
    """A family whose program ends with another answer than the known one, in every third task."""

    name = "wrong_answer"
    domain = "others"

    def make(self, rng, folder):
        number = rng.randrange(10**6)
        known = str(number + (number % 3 == 0))
        moves = ("I print it.", f"print({number})"), ("It is seen.", f"final_answer({number})")
        return self.build(f"Which number is {number}?", [], known, *moves)


class OneTask(Scenario):
    """A family that knows one task only."""

    name = "one_task"
    domain = "others"

    def make(self, rng, folder):
        moves = ("I print it.", "print(7)"), ("It is seen.", "final_answer(7)")
        return self.build("Which number is 7?", [], "7", *moves)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build_dataset(CONFIG, tmp_path_factory.mktemp("build") / "run")


def start(output: Path, *flags: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    options = ["--train", "3", "--validation", "1", "--test", "2", "--seed", "5", "--families", *FAMILIES]
    command = [sys.executable, "-m", "t3_agents.cli", "build", "--output", str(output), *options, *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def num_rows(output: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in output.glob("shards/*.jsonl"))


def test_build_gives_a_dataset_that_loads(built, tmp_path):
    dataset = load_dataset(str(built), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in dataset.items()} == ROWS
    families = {split: {row["origin"]["family"] for row in rows["provenance"]} for split, rows in dataset.items()}
    assert families == {"train": set(FAMILIES[:2]), "validation": set(FAMILIES[:2]), "test": set(FAMILIES)}
    for split, rows in dataset.items():
        for row in rows:
            assert row["answer"] == row["ground_truth"] and row["num_steps"] == len(row["steps"]) > 1
            assert all(verdict["passed"] for verdict in row["verification"].values())
            assert 0 <= row["provenance"]["origin"]["index"] - FIRST_INDEX[split] < 1_000_000
    ids = [row_id for rows in dataset.values() for row_id in rows["id"]]
    assert len(set(ids)) == len(ids)
    assert DatasetCard.load(built / "README.md").data.license == "apache-2.0"


@pytest.mark.slow
def test_killed_build_goes_on_and_gives_the_same_dataset(built, tmp_path):
    output = tmp_path / "run"
    # In the middle of the first family, in the middle of a later one, and while the dataset is written.
    kill_when(start(output), lambda: num_rows(output) >= 2)
    shard = max(output.glob("shards/*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    with shard.open("ab") as stream:
        stream.write(b'{"format": "t3-trajectory/1", "task": {"id"')
    kill_when(start(output), lambda: num_rows(output) >= 11)
    kill_when(start(output), (output / ".dataset.partial").exists)
    process = start(output)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"{sum(ROWS.values())} rows, 0 rejected" in printed
    assert digests(output / "dataset") == digests(built)
    assert num_rows(output) == sum(ROWS.values())


@pytest.mark.slow
def test_killed_workers_leave_no_writer_behind(built, tmp_path):
    output = tmp_path / "run"
    kill_when(start(output, "--num-workers", "2"), lambda: num_rows(output) >= 2)
    time.sleep(1)
    written = num_rows(output)
    process = start(output, "--num-workers", "2")
    time.sleep(0.5)
    assert num_rows(output) == written
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert digests(output / "dataset") == digests(built)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fails(int descriptor) {
    static int calls = 0;
    char link[64], path[4096];
    const char *folder = getenv("FAULT_FOLDER");
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (strncmp(path, folder, strlen(folder)) || calls++ < atoi(getenv("FAULT_AFTER"))) return 0;
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t (*call)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return fails(descriptor) ? -1 : call(descriptor, data, size);
}

int fsync(int descriptor) {
    int (*call)(int) = dlsym(RTLD_NEXT, "fsync");
    return fails(descriptor) ? -1 : call(descriptor);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*call)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = call(clock, now);
    if (clock == CLOCK_REALTIME && getenv("FAULT_CLOCK")) now->tv_sec += atol(getenv("FAULT_CLOCK"));
    return result;
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library that fails writes below a folder, or sets the clock, for a process that is started with it."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    source = tmp_path_factory.mktemp("shim") / "shim.c"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", source.with_suffix(".so"), source, "-ldl"], check=True)
    return source.with_suffix(".so")


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 7])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["run", "scratch"])
def test_a_disk_that_fails_loses_no_row(built, shim, tmp_path, place, number, after):
    (tmp_path / "scratch").mkdir()
    faults = {"FAULT_FOLDER": str(tmp_path / place), "FAULT_ERRNO": str(number), "FAULT_AFTER": str(after)}
    variables = {**os.environ, "LD_PRELOAD": str(shim), "TMPDIR": str(tmp_path / "scratch"), **faults}
    process = start(tmp_path / "run", env=variables)
    _, errors = process.communicate(timeout=300)
    if place == "scratch" and not after:  # Python takes another temporary folder where it cannot write to this one
        assert process.returncode == 0, errors
    else:
        assert process.returncode > 0 and "Traceback" not in errors and os.strerror(number) in errors
    process = start(tmp_path / "run")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert digests(tmp_path / "run" / "dataset") == digests(built)
    assert not [path for path in (tmp_path / "run").rglob("*") if "partial" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [-10 * 365 * 86400, -3600, 3600, 10 * 365 * 86400])
def test_a_clock_that_is_set_changes_no_row(built, shim, tmp_path, seconds):
    kill_when(start(tmp_path / "run"), lambda: num_rows(tmp_path / "run") >= 2)
    variables = {**os.environ, "LD_PRELOAD": str(shim), "FAULT_CLOCK": str(seconds)}
    process = start(tmp_path / "run", env=variables)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert digests(tmp_path / "run" / "dataset") == digests(built)


@pytest.mark.slow
def test_worker_hands_its_error_on(built, tmp_path):
    shutil.copytree(built.parent, tmp_path / "run", ignore=shutil.ignore_patterns("dataset", ".lock"))
    shard = tmp_path / "run" / "shards" / "train-bird_counts.jsonl"
    shard.write_bytes(b"{not json}\n" + shard.read_bytes())
    with pytest.raises(InputError, match="Line 1 of train-bird_counts.jsonl is not JSON"):
        build_dataset(replace(CONFIG, num_workers=2), tmp_path / "run")
    assert not (tmp_path / "run" / "dataset").exists()


def test_same_command_on_a_finished_folder_changes_nothing(built):
    before = {
        path: path.stat().st_mtime_ns for path in built.parent.rglob("*") if path.is_file() and path.name != ".lock"
    }
    # The number of workers is no setting.
    assert build_dataset(CONFIG, built.parent) == build_dataset(replace(CONFIG, num_workers=2), built.parent) == built
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_settings_are_refused(built):
    with pytest.raises(RunFolderError, match="seed is 5 there, 6 now"):
        build_dataset(replace(CONFIG, seed=6), built.parent)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"families": ["nothing"]}, "no scenario family `nothing`"),
        ({"train": -1}, "`--train` takes a whole number from 0 to 1,000,000, not `-1`"),
        ({"num_workers": 0}, "`--num-workers` takes a whole number above 0"),
        ({"train": 0, "validation": 0, "test": 0}, "All splits have 0 tasks"),
        ({"families": ["area_share"], "test": 0}, "kept unseen"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        build_dataset(BuildConfig(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rejected_tasks_are_kept_with_their_reasons(tmp_path):
    config = BuildConfig(train=6, validation=0, test=0)
    calls = []
    for times in (1, 2):
        build_family(config, tmp_path, WrongAnswer(), lambda: calls.append(1))
        assert len(calls) == 6 * times
    kept = list(read_rows(tmp_path / "shards" / "train-wrong_answer.jsonl"))
    rejected = list(read_rows(tmp_path / "rejected" / "train-wrong_answer.jsonl"))
    indexes = [row["task"]["origin"]["index"] for row in kept] + [row["index"] for row in rejected]
    assert sorted(indexes) == list(range(FIRST_INDEX["train"], FIRST_INDEX["train"] + 6))
    assert kept and rejected
    for row in rejected:
        assert any("is known to be right" in reason for reason in row["reasons"])
        assert row["trajectory"]["task"]["origin"]["index"] == row["index"]


def test_same_task_is_kept_once_and_in_the_test_split(tmp_path):
    build_family(BuildConfig(train=2, validation=0, test=1), tmp_path, OneTask(), lambda: None)
    assert len(list(read_rows(tmp_path / "shards" / "test-one_task.jsonl"))) == 1
    assert not list(read_rows(tmp_path / "shards" / "train-one_task.jsonl"))
    reasons = [row["reasons"] for row in read_rows(tmp_path / "rejected" / "train-one_task.jsonl")]
    assert reasons == [["build: the same task is in the test split already."]] * 2


def test_row_holds_no_time(tmp_path):
    record, reasons = solve_task(OneTask(), BuildConfig(), 0, BlobStore(tmp_path / "blobs"), {})
    assert not reasons
    assert record["task"] == make_task(OneTask(), 0, 0, tmp_path / "files").task.to_dict()
    again, _ = solve_task(OneTask(), BuildConfig(), 0, BlobStore(tmp_path / "blobs"), {})
    assert record == again


def test_command_reads_a_config_file(built, tmp_path, capsys):
    file = tmp_path / "build.yaml"
    file.write_text(
        f"output: {built.parent}\nfamilies: [{', '.join(FAMILIES)}]\ntrain: 3\nvalidation: 1\ntest: 2\nseed: 5\n"
    )
    assert main(["build", "--config", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "14 rows, 0 rejected" in printed and printed.strip().endswith("dataset")


def test_command_is_quick_to_import():
    heavy = "torch", "transformers", "datasets", "smolagents", "matplotlib"
    code = f"import sys, dataset_builder.build; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"
    )


@pytest.mark.slow
def test_tasks_that_the_machine_failed_are_done_again(tmp_path):
    """A limit on the size of files stands in for a full disk: sandboxes cannot be set up. Then it is lifted."""
    command = [sys.executable, "-m", "t3_agents.cli", "build", "--output", str(tmp_path / "run"), "--num-workers", "1"]
    command += ["--train", "1", "--validation", "0", "--test", "0", "--families", "receipt_tip", "price_tags"]

    def build(limit):
        limits = (limit, resource.RLIM_INFINITY if limit < 0 else limit)
        return subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
        )

    first = build(200_000)
    assert first.returncode == 2 and "This machine fails, not the task: The sandbox does not start" in first.stderr
    assert not any(path.read_bytes() for path in (tmp_path / "run").glob("*/*.jsonl"))
    second = build(resource.RLIM_INFINITY)
    assert second.returncode == 0, second.stderr
    rows = [path.read_bytes().count(b"\n") for path in sorted((tmp_path / "run" / "shards").glob("*.jsonl"))]
    assert rows == [1, 1]
