"""Two processes under `accelerate launch` train as one with twice the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT, kill_when
from tests.helpers.training_rows import SAME_SHARED, TINY, make_row, write_dataset
from tests.helpers.training_runs import losses, read_log, weight_difference, write_recipe
from trainers.config import TrajectoryConfig
from trainers.loading import COMPLETE
from trainers.sft import train


LAUNCH = ROOT / "trainers" / "launch"
SHARDS = ROOT / "tests" / "helpers" / "cpu_shards.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Rows of different lengths, every second one without a picture."""
    rows = [make_row(number, attached=number % 2, brought=[0] * (number % 3)) for number in range(1, 17)]
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset_mixed", rows)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Rows with a picture each."""
    rows = [make_row(number, attached=1, brought=[0] * (number % 3)) for number in range(1, 17)]
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset_pictures", rows)


@pytest.fixture(scope="module")
def recipe(tiny_vlm, dataset) -> dict:
    """Four steps in each of two epochs, on two processes."""
    return {
        **TINY,
        "dataset_name": str(dataset),
        "model_name_or_path": str(tiny_vlm),
        "lora_modules_to_save": None,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "packing_strategy": "shared_prefix",
        "save_steps": 1,
    }


def start_two(config: str, recipe: Path, *options: str) -> subprocess.Popen:
    """`accelerate launch` with a config of the package and two CPU processes."""
    script = ["-m", "t3_agents.cli", "train"] if config == "ddp" else [str(SHARDS)]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / f"{config}.yaml")]
    command += ["--num_processes", "2", "--main_process_port", "0", *script, "--config", str(recipe), *options]
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": threads}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run_two(config: str, recipe: Path) -> None:
    process = start_two(config, recipe)
    _, problems = process.communicate(timeout=1200)
    assert process.returncode == 0, problems[-4000:]


def train_alone(recipe: dict, folder: Path) -> Path:
    """The same run in this process, with two batches for each step."""
    train(TrajectoryConfig(**{**recipe, "gradient_accumulation_steps": 2}, output_dir=str(folder)))
    return folder


def assert_same_run(folder: Path, alone: Path) -> None:
    assert losses(folder) == pytest.approx(losses(alone), rel=SAME_SHARED)
    assert [entry["tokens"] for entry in read_log(folder)] == [entry["tokens"] for entry in read_log(alone)]
    assert weight_difference(folder / "agent", alone / "agent") < SAME_SHARED


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"packing": False, "lora_modules_to_save": ["connector"]}, id="padded"),
        pytest.param({"packing": False, "train_sampling_strategy": "group_by_length"}, id="length_grouped"),
    ],
)
def test_two_processes_train_as_one_with_twice_the_batch(recipe, tmp_path, settings):
    recipe = {**recipe, **settings}
    run_two("ddp", write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(tmp_path / "two")))
    assert_same_run(tmp_path / "two", train_alone(recipe, tmp_path / "alone"))


@pytest.mark.slow
def test_two_processes_share_the_packs(recipe, tmp_path):
    """Nine packs in an epoch: the last step of an epoch is filled up with one that comes twice, those before are
    the same."""
    recipe = {**recipe, "max_length": 1024, "pack_length": 1024, "num_train_epochs": 1}
    run_two("ddp", write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(tmp_path / "two")))
    found, alone = losses(tmp_path / "two"), losses(train_alone(recipe, tmp_path / "alone"))
    assert len(found) == len(alone) == 5
    assert found[:4] == pytest.approx(alone[:4], rel=SAME_SHARED)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3"])
def test_two_processes_that_are_killed_go_on(recipe, pictures, tmp_path, config):
    """In the middle of the second epoch, in which the rows come in another order than in the first."""
    if config.startswith("deepspeed"):
        pytest.importorskip("deepspeed")
    if config == "deepspeed_zero3":
        recipe = {**recipe, "dataset_name": str(pictures)}
    folder = tmp_path / "two"
    file = write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(folder))
    kill_when(start_two(config, file), (folder / "checkpoint-5" / COMPLETE).exists, with_children=True)
    assert not (folder / "agent").exists()

    run_two(config, file)
    assert_same_run(folder, train_alone(recipe, tmp_path / "alone"))
    state = json.loads(max(folder.glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["global_step"] == 8


@pytest.mark.slow
def test_split_weights_and_rows_without_pictures_are_refused_where_they_would_wait_for_ever(recipe, tmp_path):
    recipe = {**recipe, "lora_modules_to_save": ["connector"]}
    file = write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(tmp_path / "run"))
    process = start_two("fsdp2", file)
    _, problems = process.communicate(timeout=400)
    assert process.returncode != 0
    assert "t3 train: Only some processes have pictures in this step" in problems
    assert not (tmp_path / "run" / "agent").exists()
