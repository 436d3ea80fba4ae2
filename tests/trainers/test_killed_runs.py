"""`t3 train` killed again and again ends where it would have ended alone."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import kill_when
from tests.helpers.training_rows import SAME, TINY, make_row, write_dataset
from tests.helpers.training_runs import losses, read_log, start_train, weight_difference, write_recipe
from trainers.config import TrajectoryConfig
from trainers.loading import COMPLETE
from trainers.sft import train


KILLS = ["start", "step", "write", "torn", "step", "write", "step", "torn", "step", "write", "agent"]
"""When each process is killed: soon after its start, between checkpoints, while one or the agent is written. `write`
may come too late to tear the checkpoint, so that `torn` takes the mark of the newest one away."""


@pytest.fixture(scope="module")
def recipe(tiny_vlm, tmp_path_factory) -> dict:
    """Ten epochs, with a checkpoint after every second optimizer step."""
    rows = [make_row(number, attached=number % 2, brought=[number % 3 // 2]) for number in range(1, 17)]
    return {
        **TINY,
        "dataset_name": str(write_dataset(tmp_path_factory.mktemp("data") / "dataset", rows)),
        "model_name_or_path": str(tiny_vlm),
        "lora_modules_to_save": ["vision_model", "connector"],
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 10,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_steps": 2,
    }


def checkpoints(folder: Path) -> set[Path]:
    return set(folder.glob("checkpoint-*"))


def unfinished(folder: Path) -> set[Path]:
    return {checkpoint for checkpoint in checkpoints(folder) if not (checkpoint / COMPLETE).exists()}


def number_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def kill(process: subprocess.Popen, moment: str, folder: Path, dice: random.Random) -> None:
    """Kill a run of `t3 train` at a moment of a kind."""
    known, begun = checkpoints(folder), time.monotonic()
    wait, pause = dice.uniform(1, 6), dice.uniform(0, 0.1)
    arrived = {
        "start": lambda: time.monotonic() > begun + wait,
        "step": lambda: checkpoints(folder) - unfinished(folder) - known and not time.sleep(pause),
        "torn": lambda: checkpoints(folder) - unfinished(folder) - known,
        "write": lambda: unfinished(folder) - known,
        "agent": lambda: (folder / ".agent").exists(),
    }[moment]
    kill_when(process, arrived)
    if moment == "torn":
        newest = max(checkpoints(folder) - unfinished(folder), key=number_of)
        (newest / COMPLETE).unlink()
        (newest / "trainer_state.json").write_text('{"global_st')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        pytest.param({"max_length": 1024, "pack_length": 1024}, KILLS, id="packs"),
        pytest.param(
            {"eval_strategy": "steps", "dataset_test_split": "train"}, ["step", "torn", "step"], id="random rows"
        ),
    ],
)
def test_a_run_killed_at_random_ends_like_one_that_was_not(recipe, tmp_path, settings, kills):
    recipe = {**recipe, **settings}
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    train(TrajectoryConfig(**recipe, output_dir=str(whole)))
    file = write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(folder))
    dice, torn, reached = random.Random(0), 0, []
    for moment in kills:
        kill(start_train(file), moment, folder, dice)
        assert moment == "agent" or not (folder / "agent").exists()
        torn += len(unfinished(folder))
        complete = checkpoints(folder) - unfinished(folder)
        reached.append(max(map(number_of, complete), default=0))
    last = start_train(file)
    assert last.wait(600) == 0, last.communicate()[1]

    found, expected = losses(folder), losses(whole)
    print(f"last whole checkpoint at each kill: {reached} of {len(expected)} steps, {torn} checkpoints torn")
    print(f"final loss {found[-1]} killed, {expected[-1]} alone")
    assert torn >= kills.count("torn") and len(set(reached)) >= kills.count("step")
    assert [entry["step"] for entry in read_log(folder)] == list(range(1, len(expected) + 1))
    assert found == pytest.approx(expected, rel=SAME)
    assert weight_difference(whole / "agent", folder / "agent") < SAME
