"""A model card says what the files of the run say, and every number in it can be found there."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from hub_cards.eval_results import make_entries, percent, read_results, to_yaml
from hub_cards.model_card import Facts, make_model_card, read_run, without_machine
from t3_agents.errors import InputError
from tests.helpers.finished_run import write_finished_run


def make_agent(folder):
    """Folder of an adapter, with settings and without weights."""
    folder.mkdir()
    controller = {"base": "org/base", "revision": "b" * 40, "adapter": True}
    settings = {"max_steps": 6, "prompt": "paper", "controller": controller, "tools": [{"name": "visualizer"}]}
    (folder / "t3_agent.json").write_text(json.dumps(settings))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    return folder


def test_an_adapter_names_its_base(tmp_path):
    card = make_model_card(read_run(make_agent(tmp_path / "agent")), "user/adapter", license="mit")
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["library_name"]) == ("org/base", "adapter", "peft")
    assert (
        f"at revision `{'b' * 40}`" in card.text and "## Training" not in card.text and "## Results" not in card.text
    )
    assert ModelCard(str(card)).data.to_dict() == data


def test_evaluations_stand_beside_the_paper(tmp_path):
    tuned = write_finished_run(tmp_path / "tuned")
    untuned = write_finished_run(tmp_path / "untuned", metrics={"ans_acc": {"value": 0.25, "ci95": None, "n": 4}})
    run = read_run(make_agent(tmp_path / "agent"), [tuned], [untuned])
    card = make_model_card(run, "user/t3-agent", "user/mm-traj")
    assert card.data.eval_results[0].metric_value == 50.0 and card.data.datasets == ["user/mm-traj"]
    for line in (
        "| this agent | official | 4 | 50.0 [15.0, 85.0] |",
        "| untuned | official | 4 | 25.0 |",
        "| T3-Agent, Qwen2-VL-7B tuned (paper) | paper | 229 | 53.9 | 64.6 |",
        "Tools, by name from the installed package: `visualizer`.",
        "| 50.0 | `run/results/tuned-0.json` | `metrics.ans_acc.value` |",
    ):
        assert line in card.text, line
    assert str(tmp_path) not in str(card) and "{{" not in card.text and "{%" not in card.text


def test_a_folder_without_an_agent(tmp_path):
    with pytest.raises(InputError, match="holds no agent"):
        read_run(tmp_path)


def test_paths_of_the_machine_are_cut(tmp_path):
    record = {"a": str(tmp_path / "runs" / "x"), "b": ["../y/z"], "c": "user/mm-traj", "d": 3}
    assert without_machine(record) == {"a": "x", "b": ["z"], "c": "user/mm-traj", "d": 3}


def test_facts_note_what_they_show():
    facts = Facts({"x.json": {"a": [{"b": 0.5}], "text": "t"}})
    assert facts.show("x.json", "a.0.b", "{:.1f}", 100) == "50.0"
    assert facts.show("x.json", "a.1.b") == facts.show("x.json", "text") == ""
    assert list(facts.shown) == [("50.0", "x.json", "a.0.b")]


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
        with pytest.raises(InputError, match="holds no scored run"):
            read_results(tmp_path)

    def test_a_dataset_on_this_machine_has_no_entry(self, tmp_path):
        results = read_results(write_finished_run(tmp_path / "run", dataset={"name": "/data/gta"}))
        with pytest.raises(InputError, match="not the id of a Hub repo"):
            make_entries(results, None, "")
        assert make_entries(results, "user/gta", "https://x")[0].dataset_id == "user/gta"

    def test_percent(self):
        assert [percent(value) for value in (0.5, 1 / 3, 1)] == [50.0, 33.33, 100.0]
