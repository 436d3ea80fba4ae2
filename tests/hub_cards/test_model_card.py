"""A model card says what the files of the run say, and every number in it can be found there."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from hub_cards.eval_results import make_entries, percent, read_results, to_yaml
from hub_cards.facts import Facts, without_machine
from hub_cards.model_card import make_card, read_run
from t3_agents.errors import InputError
from tests.helpers.finished_run import write_finished_run


def scores(n, right):
    value = right / n
    intervals = {name: [value / 2, (1 + value) / 2] for name in ("ans_acc", "tool_acc", "code_exec")}
    return {"ans_acc": value, "tool_acc": 1.0, "code_exec": 0.9, "n": n, "counts": {}, "ci95": intervals}


@pytest.fixture
def quickstart(tmp_path):
    """Folder of a quickstart run: what `t3 quickstart` leaves, without weights."""
    run = tmp_path / "quickstart"
    agent = run / "train" / "agent"
    agent.mkdir(parents=True)
    controller = {"base": None, "revision": None, "adapter": False}
    settings = {"format": "t3-agent/1", "max_steps": 6, "prompt": "compact", "controller": controller}
    (agent / "t3_agent.json").write_text(json.dumps({**settings, "tools": [{"name": "visualizer"}]}))
    (agent / "config.json").write_text(json.dumps({"model_type": "idefics3"}))
    recipe = {"controller": "embedded", "dataset": str(run / "dataset"), "lora_rank": 16, "learning_rate": 0.002}
    (run / "train" / "settings.json").write_text(json.dumps({**recipe, "batch_size": 4, "seed": 0}))
    summary = {"rows": 1690, "steps": 43, "final_loss": 0.01132, "train_runtime": 354.88, "train_loss": 0.1854}
    (run / "train" / "train.json").write_text(json.dumps({"summary": summary, "log": []}))
    (run / "train" / "loss.png").write_bytes(b"png")
    report = {
        "untuned": {"seen": scores(52, 0), "unseen": scores(12, 1)},
        "tuned": {"seen": scores(52, 45), "unseen": scores(12, 6)},
        "vision": {"images": scores(12, 12), "blanked": scores(12, 0)},
        "stage_seconds": {"train": 359.1},
        "versions": {"torch": "2.13.0"},
    }
    (run / "report.json").write_text(json.dumps(report))
    (run / "dataset").mkdir()
    statistics = {"splits": {"train": 169, "test": 64}, "rejected": 3, "columns": {}}
    (run / "dataset" / "statistics.json").write_text(json.dumps(statistics))
    return run


def test_a_card_is_written_from_the_run(quickstart, tmp_path):
    tuned = write_finished_run(tmp_path / "tuned")
    untuned = write_finished_run(tmp_path / "untuned", metrics={"ans_acc": {"value": 0.25, "ci95": None, "n": 4}})
    card = make_card(read_run(quickstart, [tuned], [untuned]), "user/t3-agent", "user/mm-traj")
    data = card.data.to_dict()
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct" and data["base_model_relation"] == "finetune"
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "image-text-to-text")
    assert data["license"] == "apache-2.0" and data["datasets"] == ["user/mm-traj"]
    assert card.data.eval_results[0].metric_value == 50.0
    for line in (
        "| families of the training data | tuned | 52 | 86.5 [43.3, 93.3] |",
        "| families kept out of training | untuned | 12 | 8.3",
        "| every picture blanked | tuned | 12 | 0.0",
        "| trajectories | 1,690 |",
        "| peak learning rate | 0.002 |",
        "| this agent | official | 4 | 50.0 [15.0, 85.0] |",
        "| untuned | official | 4 | 25.0 |",
        "| T3-Agent, Qwen2-VL-7B tuned (paper) | paper | 229 | 53.9 | 64.6 |",
        "On families that training did not see it answers 50.0 % of 12 tasks right",
        'T3Agent.from_pretrained("user/t3-agent")',
        "![Loss and token accuracy by step](run/loss.png)",
    ):
        assert line in card.text, line
    assert str(tmp_path) not in str(card) and "{{" not in card.text and "{%" not in card.text


def test_every_number_is_in_a_file_of_the_run(quickstart, tmp_path):
    run = read_run(quickstart, [write_finished_run(tmp_path / "tuned")])
    text = make_card(run, "user/t3-agent").text
    rows = re.findall(r"^\| ([\d.,]+) \| `(run/[^`]+|t3_agent.json)` \| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(rows) > 40
    for shown, file, key in rows:
        value = run.facts.get(file, key)
        forms = [f"{value:,}", f"{value:g}", f"{value:.0f}", f"{value:.4f}", f"{100 * value:.1f}"]
        assert shown in forms, (shown, file, key)
    # And the other way round: no number of a table is without a place, but for those of the paper.
    sources = {shown for shown, _, _ in rows}
    tables = text.split("## Where the numbers come from")[0].splitlines()
    for line in tables:
        if line.startswith("|") and "(paper)" not in line and "release of" not in line:
            found = re.findall(r"(?<![\w.])\d[\d.,]*(?![\w])", line.replace("95 %", ""))
            assert {number.rstrip(",") for number in found} <= sources, line


def test_an_adapter_names_its_base(tmp_path):
    agent = tmp_path / "agent"
    agent.mkdir()
    controller = {"base": "org/base", "revision": "b" * 40, "adapter": True}
    (agent / "t3_agent.json").write_text(json.dumps({"max_steps": 6, "prompt": "paper", "controller": controller}))
    (agent / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    card = make_card(read_run(agent), "user/adapter", license="mit")
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["library_name"]) == ("org/base", "adapter", "peft")
    assert (
        f"at revision `{'b' * 40}`" in card.text and "## Training" not in card.text and "## Results" not in card.text
    )
    assert ModelCard(str(card)).data.to_dict() == data


def test_a_folder_without_an_agent(tmp_path):
    with pytest.raises(InputError, match="holds no agent"):
        read_run(tmp_path)


def test_paths_of_the_machine_are_cut(tmp_path):
    record = {"a": str(tmp_path / "runs" / "x"), "b": ["../y/z"], "c": "user/mm-traj", "d": 3}
    assert without_machine(record) == {"a": "x", "b": ["z"], "c": "user/mm-traj", "d": 3}


def test_facts_note_what_they_show():
    facts = Facts({"x.json": {"a": [{"b": 0.5}], "text": "t"}})
    assert facts.show("x.json", "a.0.b", "{:.1f}", 100) == "50.0"
    assert facts.shown == [("50.0", "x.json", "a.0.b")] and facts.maybe("x.json", "a.1.b") == ""
    with pytest.raises(InputError, match="has no number `text`"):
        facts.show("x.json", "text")


class TestResults:
    def test_entries_are_those_of_the_hub(self, tmp_path):
        results = read_results(write_finished_run(tmp_path / "run"))
        (entry,) = yaml.safe_load(to_yaml(make_entries(results, None, "https://huggingface.co/user/x/blob/main/r")))
        assert entry["dataset"] == {"id": "open-compass/GTA", "task_id": "gta_ans_acc", "revision": "a" * 40}
        assert entry["value"] == 50.0 and entry["date"] == "2026-01-02T03:04:05Z"
        assert entry["source"] == {"url": "https://huggingface.co/user/x/blob/main/r", "name": "T3-Agents report"}
        assert entry["notes"].startswith("end to end; official scoring; 4 tasks; seeds 0; 95 % interval 15.0 to 85.0")

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"format": "t3-results/2"}, "this version reads `t3-results/1`"),
            ({"num_tasks": 5}, "4 of 5 tasks have a score"),
            ({"seeds": [0, 1]}, "4 of 8 tasks have a score"),
            ({"metrics": []}, "`metrics`"),
        ],
    )
    def test_what_is_not_finished_is_refused(self, tmp_path, changes, sentence):
        with pytest.raises(InputError) as caught:
            read_results(write_finished_run(tmp_path / "run", **changes))
        assert sentence in str(caught.value)

    def test_a_run_without_scores(self, tmp_path):
        with pytest.raises(InputError, match="no finished evaluation"):
            read_results(tmp_path)

    def test_a_dataset_on_this_machine_has_no_entry(self, tmp_path):
        results = read_results(write_finished_run(tmp_path / "run", dataset={"name": "/data/gta"}))
        with pytest.raises(InputError, match="not the id of a Hub repo"):
            make_entries(results, None, "")
        assert make_entries(results, "user/gta", "https://x")[0].dataset_id == "user/gta"

    def test_percent(self):
        assert [percent(value) for value in (0.5, 1 / 3, 1)] == [50.0, 33.33, 100.0]
