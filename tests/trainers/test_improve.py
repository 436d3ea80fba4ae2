"""Rounds of rejection sampling, with a tiny model that answers right about half of the time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError, RunFolderError
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from tests.helpers import kill_when
from tests.helpers.tiny_vlm import turn
from trainers.improvement import ImproveConfig, improve, why_stop
from trainers.loading import load_rows


QUESTIONS = [f"How many? ({number})" for number in range(6)]


def write_tasks(folder: Path, answer: str = "7") -> Path:
    """A dataset with a `tasks` config: two tasks to attempt, four held out."""
    from datasets import Dataset

    from dataset_builder.mm_traj import make_features

    (folder / "tasks").mkdir(parents=True)
    splits = {"train": QUESTIONS[:2], "validation": QUESTIONS[2:]}
    for split, questions in splits.items():
        empty = {"files": [], "images": [], "paths": [], "tools": [], "domain": "maths", "origin": {}}
        rows = [{"id": Task.create(q, []).id, "query": q, "ground_truth": answer, **empty} for q in questions]
        # `load_dataset` keeps its copy of a folder by its name and the names in its README.
        path = folder / "tasks" / f"{split}-{folder.parent.name}.parquet"
        Dataset.from_list(rows, features=make_features("tasks")).to_parquet(path)
    paths = [{"split": split, "path": f"tasks/{split}-{folder.parent.name}.parquet"} for split in splits]
    configs = yaml.safe_dump({"configs": [{"config_name": "tasks", "data_files": paths}]})
    (folder / "README.md").write_text(f"---\n{configs}---\n")
    return folder


@pytest.fixture(scope="module")
def agent(tiny_vlm, tmp_path_factory) -> Path:
    """An agent that was taught two answers to the same questions, the wrong one a bit more often."""
    folder = tmp_path_factory.mktemp("agent") / "agent"
    model = VLMModel.from_pretrained(tiny_vlm, device="cpu", max_new_tokens=48)
    agent = T3Agent(tools=[], model=model, prompt="compact", executor_type="local")
    lessons = []
    for question in QUESTIONS[:3]:
        for answer in (7, 7, 8, 8, 8):
            messages = [
                {"role": "system", "content": agent.system_prompt},
                {"role": "user", "content": Task.create(question, []).text()},
                {"role": "assistant", "content": turn(f"final_answer({answer})")},
            ]
            conversation = model.encoder.encode(messages)
            ids = torch.tensor([conversation.ids])
            labels = torch.where(torch.tensor([conversation.produced]), ids, -100)
            lessons.append((ids, labels))
    ids, labels = (torch.cat(parts) for parts in zip(*lessons, strict=True))
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=5e-3)
    model.model.train()
    for _ in range(60):
        loss = model.model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.model.eval()
    agent.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    settings = {
        "lora_r": 8,
        "lora_alpha": 32,
        "lora_target_modules": r".*text_model.*_proj$",
        "learning_rate": 2e-2,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 15,
        "save_steps": 1000,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def options(agent, recipe, tmp_path_factory) -> dict:
    dataset = write_tasks(tmp_path_factory.mktemp("tasks") / "dataset")
    return {
        "agent": str(agent),
        "dataset": str(dataset),
        "recipe": str(recipe),
        "rounds": 2,
        "samples": 4,
        "temperature": 1.0,
        "executor": "local",
        "max_steps": 1,
    }


@pytest.fixture(scope="module")
def finished(options, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("improve") / "run"
    return folder, improve(ImproveConfig(**options, output=str(folder)))


@pytest.mark.slow
class TestRounds:
    def test_an_agent_learns_from_what_it_got_right(self, finished):
        """It knew the right answer, said the wrong one when greedy, and says the right one after a round."""
        _, record = finished
        accuracies = [row["ans_acc"]["value"] for row in record["rounds"]]
        assert accuracies[0] == 0.0 and accuracies[1] == 1.0
        assert record["best"]["round"] == 1 and record["best"]["agent"] == "round-1/train/agent"

    def test_it_stops_when_a_round_does_not_help(self, finished):
        _, record = finished
        assert len(record["rounds"]) == 3 and record["stopped"] == "Round 2 did not raise AnsAcc."

    def test_only_right_answers_are_kept_and_each_once(self, finished):
        folder, record = finished
        rows = load_rows(str(folder / "round-1" / "kept"), "train")
        assert {row["answer"] for row in rows} == {"7"}
        assert len(rows) == record["rounds"][1]["kept"] == len({row["query"] for row in rows})
        verdicts = [json.loads(line) for line in (folder / "round-1" / "kept" / "verdicts.jsonl").open()]
        assert len(verdicts) == record["rounds"][1]["samples"] == 8
        assert sum(verdict["passed"] for verdict in verdicts) == record["rounds"][1]["verified"]
        assert all(verdict["reasons"] for verdict in verdicts if not verdict["passed"])

    def test_pairs_prefer_a_turn_that_was_kept_to_one_that_was_not(self, finished):
        folder, record = finished
        kept = [row["messages"][-1]["content"] for row in load_rows(str(folder / "round-1" / "kept"), "train")]
        pairs = load_rows(str(folder / "round-1" / "pairs"), "train")
        assert len(pairs) == record["rounds"][1]["pairs"] > 0
        for pair in pairs:
            assert pair["chosen"][0]["content"] in kept and pair["rejected"][0]["content"] not in kept

    def test_the_report_shows_every_round_and_no_path_of_this_machine(self, finished):
        folder, record = finished
        page = (folder / "report.md").read_text()
        assert page.count("round-1/train/agent") >= 1 and "100.0" in page and str(folder.parent) not in page
        assert (folder / "rounds.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((folder / "improve.json").read_text())["rounds"] == record["rounds"]

    def test_a_finished_run_is_read_and_not_run_again(self, finished, options):
        folder, record = finished
        before = (folder / "rounds.jsonl").read_bytes()
        assert improve(ImproveConfig(**options, output=str(folder)))["rounds"] == record["rounds"]
        assert (folder / "rounds.jsonl").read_bytes() == before
        with pytest.raises(RunFolderError, match="temperature"):
            improve(ImproveConfig(**{**options, "temperature": 0.5}, output=str(folder)))

    def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(self, finished, options, tmp_path):
        folder = tmp_path / "run"
        argv = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "t3_agents.cli", "improve", *argv, "--output", str(folder)]
        for mark in ("round-0/eval/trajectories.jsonl", "round-1/samples/trajectories.jsonl", "round-1/train/agent"):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            kill_when(process, (folder / mark).exists)
        record = improve(ImproveConfig(**options, output=str(folder)))
        assert [row["ans_acc"]["value"] for row in record["rounds"][:2]] == [0.0, 1.0]
        numbers = [json.loads(line)["round"] for line in (folder / "rounds.jsonl").open()]
        assert numbers == list(range(len(numbers)))

    def test_without_a_verified_sample_it_stops_and_says_so(self, options, tmp_path):
        dataset = write_tasks(tmp_path / "dataset", answer="Amsterdam")
        record = improve(ImproveConfig(**{**options, "dataset": str(dataset)}, output=str(tmp_path / "run")))
        assert record["stopped"].startswith("No sample of round 1 was verified") and record["best"]["round"] == 0
        assert len(record["rounds"]) == 2 and not (tmp_path / "run" / "round-1" / "train").exists()


def row(number: int, value: float | None) -> dict:
    return {"round": number, "ans_acc": None if value is None else {"value": value}}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.2], None),
        ([0.2, 0.5], None),
        ([0.2, 0.5, 0.6], "All 2 rounds were done."),
        ([0.2, 0.2], "Round 1 did not raise AnsAcc."),
        ([0.2, 0.5, 0.4], "Round 2 did not raise AnsAcc."),
        ([0.2, None], "No sample of round 1 was verified, so there was nothing to tune on."),
    ],
)
def test_when_there_is_another_round(values, reason):
    assert why_stop([row(number, value) for number, value in enumerate(values)], limit=2) == reason


def test_rounds_do_not_share_seeds():
    configs = [ImproveConfig("a", "d", "o", "r", rounds=3, samples=4, seed=seed) for seed in (0, 1)]
    seeds = [seed for config in configs for number in (1, 2, 3) for seed in config.seeds(number)]
    assert len(seeds) == len(set(seeds)) == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "`samples` must be above 0"),
        ({"temperature": 0.0}, "`temperature` must be above 0"),
        ({"eval_split": "train"}, "`split` and `eval_split` must differ"),
    ],
)
def test_options_that_cannot_work_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        ImproveConfig(**{"agent": "a", "dataset": "d", "output": "o", "recipe": "r", **change})
