"""Recipes, the trainer that they make, and `t3 train` as a user calls it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError, RunFolderError
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from tests.helpers import kill_when
from tests.helpers.training_rows import (
    PACKING,
    SAME,
    SAME_SHARED,
    TINY,
    make_dataset,
    make_row,
    make_trainer,
    trained_parameters,
    write_dataset,
)
from tests.helpers.training_runs import losses, read_log, start_train, weight_difference, weights, write_recipe
from trainers.collators import TrajectoryCollator
from trainers.config import TrajectoryConfig
from trainers.loading import COMPLETE, ROWS_PROMPT, last_checkpoint, load_rows
from trainers.sft import build_trainer, train


ROWS = [make_row(number, attached=number % 2, brought=[number % 3 // 2]) for number in range(1, 9)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "dataset", ROWS)


@pytest.fixture(scope="module")
def recipe(tiny_vlm, dataset) -> dict:
    """Four optimizer steps, each with a checkpoint."""
    return {
        **TINY,
        "dataset_name": str(dataset),
        "model_name_or_path": str(tiny_vlm),
        "lora_modules_to_save": ["vision_model", "connector"],
        "per_device_train_batch_size": 2,
        "packing_strategy": "shared_prefix",
        "save_steps": 1,
    }


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    """The output folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("train") / "run"
    assert train(TrajectoryConfig(**recipe, output_dir=str(folder))) == folder / "agent"
    return folder


def t3_train(*argv: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "t3_agents.cli", "train", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


# What is trained


def test_only_adapter_and_saved_modules_get_gradients_and_change(tiny_vlm, tmp_path):
    trainer = make_trainer(tiny_vlm, tmp_path, ROWS[:4], per_device_train_batch_size=4)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(before[n], p.detach())}
    assert changed == set(trained_parameters(trainer.model))
    assert all("lora_" in name or "connector.modules_to_save" in name for name in changed)
    assert any("connector" in name for name in changed)


def test_saved_modules_may_have_a_rate_of_their_own(tiny_vlm, tmp_path):
    trainer = make_trainer(tiny_vlm, tmp_path, ROWS[:4], modules_learning_rate=1e-5)
    groups = trainer.create_optimizer().param_groups
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    rates = {group["lr"]: {"connector" in names[id(p)] for p in group["params"]} for group in groups}
    assert rates == {1e-3: {False}, 1e-5: {True}}
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(trained)


def test_the_seed_decides_adapter_and_order(recipe, finished, tmp_path):
    train(TrajectoryConfig(**recipe, output_dir=str(tmp_path / "same")))
    assert weight_difference(finished / "agent", tmp_path / "same" / "agent") < SAME
    train(TrajectoryConfig(**{**recipe, "seed": 1}, output_dir=str(tmp_path / "other")))
    assert weight_difference(finished / "agent", tmp_path / "other" / "agent") > 1e-4


# Mistakes


def test_an_empty_dataset_is_refused(tiny_vlm, tmp_path):
    controller = VLMModel.from_pretrained(tiny_vlm, device="cpu")
    config = TrajectoryConfig(output_dir=str(tmp_path), **TINY)
    with pytest.raises(InputError, match="^The split `train` has no rows to train on.$"):
        build_trainer(config, controller.model, controller.processor, make_dataset(ROWS[:1]).select([]))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"lora_target_modules": ".*nothing$"},
            r"^No module of Idefics3ForC\w+ matches lora_target_modules `\.\*nothing\$`\.$",
        ),
        ({"lora_modules_to_save": ["conector"]}, "^No module of .* is named as `conector` in lora_modules_to_save"),
    ],
)
def test_modules_that_match_nothing_are_named(tiny_vlm, tmp_path, recipe, message):
    with pytest.raises(InputError, match=message):
        make_trainer(tiny_vlm, tmp_path, ROWS[:1], **recipe)


@pytest.mark.parametrize("targets", ["*.q_proj", "(q_proj"])
def test_targets_that_are_no_regular_expression_are_named(targets):
    with pytest.raises(InputError, match=f"^`lora_target_modules` `{re.escape(targets)}` is no regular expression: "):
        TrajectoryConfig(output_dir="o", lora_target_modules=targets)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("packing_strategy", "bfd", "`packing_strategy` is one of packed, shared_prefix, not `bfd`."),
        ("padding_free", True, "`padding_free` changes nothing in the tuning of agents: leave it out."),
        ("load_in_8bit", True, "`load_in_8bit` changes nothing in the tuning of agents: leave it out."),
        ("per_device_train_batch_size", 0, "`per_device_train_batch_size` must be above 0, not 0."),
        ("num_train_epochs", -1, "`num_train_epochs` must be above 0, not -1."),
    ],
)
def test_values_that_cannot_be_used_are_named(field, value, message):
    with pytest.raises(InputError) as caught:
        TrajectoryConfig(output_dir="o", **{field: value})
    assert str(caught.value) == message


def test_datasets_that_cannot_be_read_are_named(dataset, tmp_path):
    assert load_rows(os.path.relpath(dataset), "train").num_rows == len(ROWS)
    with pytest.raises(InputError, match="with split `dev` cannot be loaded"):
        load_rows(str(dataset), "dev")
    with pytest.raises(InputError, match="is a file: name the folder of a built dataset"):
        load_rows(str(dataset / "data" / "train-00000-of-00001.parquet"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded as a dataset"):
        load_rows(str(tmp_path / "empty"), "train")


def test_a_row_that_cannot_be_trained_on_stops_before_the_first_step(recipe, tmp_path):
    with pytest.raises(InputError, match=r"^Row \w+: its first step ends at token \d+, beyond max_length=20\."):
        train(TrajectoryConfig(**{**recipe, "max_length": 20}, output_dir=str(tmp_path / "run")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1.0", "`--learning-rat`; did you mean `--learning-rate`"),
        pytest.param(
            "packing_strategy: bfd",
            "`packing_strategy` is one of packed, shared_prefix, not `bfd`.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_command_refuses_a_wrong_recipe(dataset, tmp_path, content, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(content + "\n")
    result = t3_train("--config", str(file), "--dataset_name", str(dataset), "--output_dir", str(tmp_path / "run"))
    assert result.returncode == 2 and message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("packing", ["none", "length_grouped", "packed", "shared_prefix"])
def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path, packing):
    settings = {**recipe, "learning_rate": 1e30, **PACKING[packing]}
    with pytest.raises(InputError, match=r"^The loss is (nan|inf) at step \d with the rows \w{16}"):
        train(TrajectoryConfig(**settings, output_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run" / "agent").exists()


# The whole way


@pytest.mark.slow
def test_freed_blocks_go_back_to_the_system():
    code = """if True:
        import psutil, torch
        from trainers.trainer import return_freed_memory
        def used():
            return psutil.Process().memory_info().rss >> 20
        return_freed_memory()
        torch.ones(7_000_000)  # from now on glibc by itself keeps blocks of up to 26 MiB
        start = used()
        blocks = [torch.ones(5_000_000) for _ in range(20)]
        full = used()
        blocks = blocks[1::2]
        print(full - start, used() - start)
    """
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    full, half = map(int, output.split())
    assert 350 < full < 450 and 150 < half < 250


def test_a_run_leaves_an_agent_a_log_and_a_plot(finished, recipe):
    record = json.loads((finished / "train.json").read_text())
    assert record["summary"]["rows"] == len(ROWS) and record["summary"]["steps"] == 4
    assert record["summary"]["cut_rows"] == {}
    assert [entry["step"] for entry in record["log"]] == [1, 2, 3, 4]
    assert all(entry["loss"] > 0 and 0 <= entry["mean_token_accuracy"] <= 1 for entry in record["log"])
    assert all(entry["tokens"] > 0 and entry["seconds"] > 0 for entry in record["log"])
    assert record["summary"]["tokens_per_second"] > 0 and record["summary"]["peak_memory_mb"] > 100
    assert record["evaluations"] == [] and record["summary"]["best_eval_loss"] is None
    assert all(100 < entry["memory_mb"] <= record["summary"]["peak_memory_mb"] + 1 for entry in record["log"])
    with Image.open(finished / "curves.png") as plot:
        plot.verify()
    page = (finished / "train.md").read_text()
    assert "| Optimizer steps | 4 |" in page and "(curves.png)" in page
    assert f"| Loss, mean of the last five steps | {record['summary']['final_loss']:.4f} |" in page
    assert "Rows that were cut" not in page and "Validation rows" not in page
    config = json.loads((finished / "agent" / "t3_agent.json").read_text())
    assert config["generation"]["max_new_tokens"] == 8 and config["prompt"] == ROWS_PROMPT


def test_the_agent_holds_what_was_trained(finished, tiny_vlm):
    """Adapter and fully trained modules are merged: the folder is a model of its own."""
    base, tuned = weights(tiny_vlm), weights(finished / "agent")
    assert base.keys() == tuned.keys()
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert any("connector" in name for name in changed) and any("vision_model" in name for name in changed)
    text = {name for name in changed if "text_model" in name}
    assert text == {n for n in base if "text_model" in n and n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")}


def test_the_agent_is_read_by_both_libraries(finished, tmp_path):
    agent = T3Agent.from_pretrained(finished / "agent", device="cpu", max_steps=1)
    plain = AutoModelForImageTextToText.from_pretrained(finished / "agent")
    ids = torch.arange(3, 13)[None]
    with torch.no_grad():
        assert torch.equal(agent.model.model(input_ids=ids).logits, plain(input_ids=ids).logits)
    trajectory = agent.run_task(Task.create("What is shown?"))
    assert 0 < len(trajectory.steps[0].output_ids) <= 8


def test_nothing_of_this_machine_is_in_the_agent(finished, tiny_vlm, dataset):
    for path in (finished / "agent").rglob("*"):
        content = path.read_bytes()
        for place in (finished, tiny_vlm, dataset, Path.home()):
            assert str(place).encode() not in content, path.name


def test_a_finished_run_is_not_repeated(finished, recipe):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    assert train(TrajectoryConfig(**recipe, output_dir=str(finished))) == finished / "agent"
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    with pytest.raises(RunFolderError, match="learning_rate is 0.001 there, 0.5 now"):
        train(TrajectoryConfig(**{**recipe, "learning_rate": 0.5}, output_dir=str(finished)))


def test_last_checkpoint_is_the_newest_complete_one(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"torn")
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / COMPLETE).write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_last_checkpoint(recipe, tmp_path):
    """`kill -9` in the middle: the same command ends with the weights of a run that was never stopped."""
    recipe, folder = {**recipe, "num_train_epochs": 3}, tmp_path / "run"
    process = start_train(write_recipe(tmp_path / "recipe.yaml", **recipe, output_dir=str(folder)))
    kill_when(process, (folder / "checkpoint-2").exists)
    assert not (folder / "agent").exists()
    # What a kill in the middle of a later checkpoint leaves: its newest files have no mark yet.
    torn = folder / "checkpoint-99"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    resumed_from = last_checkpoint(folder)
    assert resumed_from is not None and not torn.exists()

    train(TrajectoryConfig(**recipe, output_dir=str(folder)))
    train(TrajectoryConfig(**recipe, output_dir=str(tmp_path / "whole")))
    assert weight_difference(tmp_path / "whole" / "agent", folder / "agent") < SAME
    assert [entry["step"] for entry in read_log(folder)] == list(range(1, 13))
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), rel=SAME)


def test_a_run_killed_before_its_agent_was_saved_only_saves_it(recipe, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    checkpoints = {path: path.stat().st_mtime_ns for path in folder.glob("checkpoint-*/*")}
    (folder / "agent").rename(folder / ".agent")
    (folder / ".agent" / "t3_agent.json").unlink()
    train(TrajectoryConfig(**recipe, output_dir=str(folder)))
    assert weight_difference(finished / "agent", folder / "agent") < SAME
    assert checkpoints == {path: path.stat().st_mtime_ns for path in folder.glob("checkpoint-*/*")}
    assert not (folder / ".agent").exists()


def test_padding_and_tokens_are_counted(recipe, encoder, tmp_path):
    """Two batches of two rows: what is read, and what is padding."""
    rows = [make_row(number, attached=0, brought=[0] * number) for number in range(4)]
    data = write_dataset(tmp_path / "dataset_padding", rows)
    settings = {**recipe, "dataset_name": str(data), "per_device_train_batch_size": 2, "num_train_epochs": 1}
    lengths = [len(TrajectoryCollator(encoder).encode(row).ids) for row in rows]
    reports = {}
    for packing in ("none", "length_grouped", "packed"):
        train(TrajectoryConfig(**{**settings, **PACKING[packing]}, output_dir=str(tmp_path / packing)))
        reports[packing] = json.loads((tmp_path / packing / "train.json").read_text())
        assert sum(entry["tokens"] for entry in reports[packing]["log"]) == sum(lengths)
        assert reports[packing]["summary"]["packing"] == packing
    assert reports["packed"]["summary"]["padding_share"] == 0
    lengths.sort()
    grouped = [1 - sum(pair) / (2 * max(pair)) for pair in (lengths[:2], lengths[2:])]
    assert reports["length_grouped"]["summary"]["padding_share"] == pytest.approx(sum(grouped) / 2, abs=1e-3)
    assert reports["none"]["summary"]["padding_share"] >= reports["length_grouped"]["summary"]["padding_share"]


def test_the_best_checkpoint_on_another_split_is_kept(recipe, dataset, tmp_path):
    """A learning rate that ruins the model: the first checkpoint is the best one, and the agent is made of it."""
    settings = {**recipe, "eval_strategy": "steps", "dataset_test_split": "train", "learning_rate": 0.3}
    train(TrajectoryConfig(**settings, output_dir=str(tmp_path / "run")))
    record = json.loads((tmp_path / "run" / "train.json").read_text())
    found = [entry["eval_loss"] for entry in record["evaluations"]]
    assert len(found) == 4 and record["summary"]["best_eval_loss"] == min(found)
    assert f"| 4 | {found[3]:.4f} | " in (tmp_path / "run" / "train.md").read_text()
    best = found.index(min(found)) + 1
    state = json.loads(max((tmp_path / "run").glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["best_model_checkpoint"].endswith(f"checkpoint-{best}")
    agent = T3Agent.from_pretrained(tmp_path / "run" / "agent", device="cpu")
    collator = TrajectoryCollator(agent.model.encoder)
    from trainers.trainer import supervised_logits

    total, batches = 0.0, [ROWS[i : i + 2] for i in range(0, len(ROWS), 2)]
    with torch.no_grad():
        for rows in batches:
            logits, wanted = supervised_logits(agent.model.model, agent.model.model, collator(rows))
            total += torch.nn.functional.cross_entropy(logits, wanted).item() * len(rows)
    assert total / len(ROWS) == pytest.approx(min(found), rel=SAME_SHARED)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root only")
def test_a_full_disk_is_said_and_nothing_is_lost(recipe, finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)], check=True)
    try:
        with pytest.raises(InputError, match="^The disk of .* is full: free some space and start again"):
            train(TrajectoryConfig(**recipe, output_dir=str(folder)))
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
        train(TrajectoryConfig(**recipe, output_dir=str(folder)))
        assert weight_difference(finished / "agent", folder / "agent") < SAME
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_rows_that_were_cut_are_counted(recipe, encoder, tmp_path):
    rows = [make_row(number, attached=0, brought=[0, 0, 0]) for number in (1, 5)]
    data = write_dataset(tmp_path / "dataset", rows)
    limit = max(TrajectoryCollator(encoder).encode(row).turns[2][1] for row in rows)
    settings = {**recipe, "dataset_name": str(data), "max_length": limit}
    train(TrajectoryConfig(**settings, output_dir=str(tmp_path / "run")))
    summary = json.loads((tmp_path / "run" / "train.json").read_text())["summary"]
    assert summary["cut_rows"] == {row["id"]: 1 for row in rows}
    page = (tmp_path / "run" / "train.md").read_text()
    assert "| Rows that lost steps at their end | 2 |" in page
    assert all(f"| {row['id']} | 1 |" in page for row in rows)
