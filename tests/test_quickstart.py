"""`t3 quickstart` as a user runs it, on the tiny model: the whole way, again, and after `kill -9`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import yaml
from PIL import Image


# A table, pictures that are told by their look, and a family that is kept out of training; none of them needs OCR.
FAMILIES = ["match_scores", "look_shapes", "energy_readings"]
RECIPE = {
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_modules_to_save": ["connector"],
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 1,
    "num_train_epochs": 1,
    "max_length": 4096,
    "packing": False,
    "max_new_tokens": 8,
    "save_steps": 1,
}
METRICS = {"ans_acc", "tool_acc", "code_exec"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Caches of its own, so that nothing that a user has is read or written."""
    home = tmp_path_factory.mktemp("home")
    caches = {"T3_CACHE": str(home / "t3"), "HF_HOME": str(home / "hf"), "MPLCONFIGDIR": str(home / "mpl")}
    return {**os.environ, **caches, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def command(tiny_vlm, tmp_path_factory) -> Callable[..., list[str]]:
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))

    def command(output: Path, **options: object) -> list[str]:
        values = {"output": output, "controller": tiny_vlm, "recipe": recipe, "families": FAMILIES, "seed": 3}
        values |= {"train": 2, "test": 1, "max-new-tokens": 8, "num-workers": 1, **options}
        flags = [[f"--{name}", *(value if isinstance(value, list) else [value])] for name, value in values.items()]
        return [sys.executable, "-m", "t3_agents.cli", "quickstart", *map(str, chain.from_iterable(flags))]

    return command


@pytest.fixture(scope="module")
def finished(command, environment, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    result = run(command(folder), environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return folder


def run(argv: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600)


def python(code: str, environment: dict[str, str], *argv: object) -> str:
    """What a program in a new process prints last."""
    result = run([sys.executable, "-c", code, *map(str, argv)], environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().split("\n")[-1]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# What it leaves


def test_the_report_has_the_promised_keys(finished):
    report = json.loads((finished / "report.json").read_text())
    assert set(report) == {"untuned", "tuned", "vision", "stage_seconds", "seed", "versions"}
    assert set(report["untuned"]) == set(report["tuned"]) == {"seen", "unseen"}
    assert set(report["vision"]) == {"images", "blanked"}
    for scores in (*report["untuned"].values(), *report["tuned"].values(), *report["vision"].values()):
        assert set(scores) == {*METRICS, "n", "ci95", "counts"}
        assert set(scores["ci95"]) == METRICS
    sizes = {name: report["tuned"][name]["n"] for name in ("seen", "unseen")}
    assert sizes == {"seen": 2, "unseen": 1} == {name: report["untuned"][name]["n"] for name in sizes}
    assert report["vision"]["images"]["n"] == report["vision"]["blanked"]["n"] == 1
    assert report["seed"] == 3
    assert set(report["stage_seconds"]) - {"report"} == {"data", "untuned", "train", "tuned", "vision"}
    assert {"python", "t3-agents", "torch", "transformers", "trl", "datasets"} <= set(report["versions"])


def test_the_page_shows_plots_that_are_there(finished):
    page = (finished / "report.md").read_text()
    assert "(results.png)" in page and "(families.png)" in page
    for name in ("results.png", "families.png", "train/curves.png"):
        with Image.open(finished / name) as plot:
            plot.verify()


def test_every_number_of_the_model_card_is_in_a_file_of_the_run(finished):
    from hub_cards.model_card import make_model_card, read_run

    run = read_run(finished)
    card = make_model_card(run, "user/t3-agent", license="mit")
    assert (card.data.library_name, card.data.license) == ("transformers", "mit")
    text, sources = card.text.split("## Where the numbers come from")
    for label in ("trajectories", "optimizer steps", "batch", "LoRA rank", "peak learning rate", "seed", "tuning"):
        assert re.search(rf"^\| {label} \| [\d.,]+ \|$", text, re.MULTILINE), label
    for start in ("| families of the training data | tuned | 2 |", "| families kept out of training | untuned | 1 |"):
        assert start in text
    assert "| every picture blanked | tuned | 1 |" in text and "| split train | 4 |" in text
    pictures = re.findall(r"\]\((run/[^)]+)\)", text)
    assert pictures == ["run/families.png", "run/curves.png"] == sorted(run.plots, reverse=True)
    assert all(path.is_file() for path in run.plots.values())
    rows = re.findall(r"^\| ([\d.,]+) \| `(run/[^`]+|t3_agent.json)` \| `([^`]+)` \|$", sources, re.MULTILINE)
    assert len(rows) > 40
    for shown, file, key in rows:
        value = run.facts.get(file, key)
        forms = [f"{value:,}", f"{value:g}", f"{value:.0f}", f"{value:,.0f}", f"{value:.4f}", f"{100 * value:.1f}"]
        assert shown in forms, (shown, file, key)
    # And the other way round: no number of a table is without a place.
    known = {shown for shown, _, _ in rows}
    for line in text.splitlines():
        if line.startswith("|"):
            found = re.findall(r"(?<![\w.])\d[\d.,]*(?![\w])", line.replace("95 %", ""))
            assert {number.rstrip(",") for number in found} <= known, line
    assert str(finished) not in str(card) and "{{" not in card.text and "{%" not in card.text


def test_the_dataset_loads_whole_and_streaming(finished, environment):
    program = """
import json, sys
from datasets import load_dataset
found = {}
for config in ("default", "tasks"):
    whole = load_dataset(sys.argv[1], config)
    streamed = load_dataset(sys.argv[1], config, streaming=True)
    assert set(whole) == set(streamed)
    for split in whole:
        ids = [row["id"] for row in whole[split]]
        assert ids == [row["id"] for row in streamed[split]] and len(set(ids)) == len(ids)
        found[config + " " + split] = len(ids)
print(json.dumps(found))
"""
    found = json.loads(python(program, environment, finished.resolve() / "dataset"))
    assert found == {"default train": 4, "default test": 3, "tasks train": 4, "tasks test": 3}


def test_the_agent_loads_in_a_new_process(finished, environment):
    program = """
import sys
from t3_agents.agent.agent import T3Agent
from t3_agents.task import Task
agent = T3Agent.from_pretrained(sys.argv[1], max_steps=1)
print(len(agent.run_task(Task.create("What is shown?")).steps[0].output_ids), agent.prompt)
"""
    tokens, prompt = python(program, environment, finished / "train" / "agent").split()
    assert 0 < int(tokens) <= 8 and prompt == "compact"


def test_nothing_names_a_place_of_this_machine(finished, tiny_vlm, environment):
    published = {f"agent/{name}": data for name, data in contents(finished / "train" / "agent").items()}
    published |= {f"dataset/{name}": data for name, data in contents(finished / "dataset").items()}
    published |= {name: (finished / name).read_bytes() for name in ("report.json", "report.md", "results.png")}
    # Parquet is compressed, so its rows are read.
    program = """
import sys
from datasets import load_dataset
for config in ("default", "tasks"):
    for split, rows in load_dataset(sys.argv[1], config).items():
        for row in rows.remove_columns("images"):
            sys.stdout.write(repr(row).replace("\\n", " "))
"""
    published["dataset rows"] = python(program, environment, finished / "dataset").encode()
    assert len(published["dataset rows"]) > 1000
    places = {str(p).encode() for p in (finished.parent, tiny_vlm.parent, Path.home(), Path.cwd())}
    named = [(name, place) for name, data in published.items() for place in places if place in data]
    assert not named
    assert tiny_vlm.parent.name not in published["report.md"].decode()


def test_training_saw_no_unseen_family_and_no_test_task(finished):
    shards = {path.name: rows(path) for path in (finished / "build" / "shards").glob("*.jsonl") if path.stat().st_size}
    assert {name for name in shards if "energy_readings" in name} == {"test-energy_readings.jsonl"}
    ids = [row["task"]["id"] for shard in shards.values() for row in shard]
    assert len(set(ids)) == len(ids) == 7


# Again


def test_the_same_command_again_changes_no_row(finished, command, environment):
    kept = ("build", "dataset", "untuned", "train", "tuned", "blanked")
    before = {name: contents(finished / name) for name in kept}
    report = json.loads((finished / "report.json").read_text())
    result = run(command(finished), environment)
    assert result.returncode == 0, result.stderr
    assert before == {name: contents(finished / name) for name in kept}
    again = json.loads((finished / "report.json").read_text())
    # Seconds add up; no model was loaded and nothing was trained.
    assert {**again, "stage_seconds": None} == {**report, "stage_seconds": None}
    assert "Loading weights" not in result.stderr


@pytest.mark.parametrize(("option", "value"), [("seed", 4), ("train", 3), ("families", ["match_scores"])])
def test_other_settings_on_the_same_folder_are_refused(finished, command, environment, option, value):
    before = contents(finished)
    result = run(command(finished, **{option: value}), environment)
    assert result.returncode == 2
    assert result.stderr.startswith("t3 quickstart: ") and result.stderr.count("\n") == 1
    assert f"({option} is " in result.stderr and "choose another output folder" in result.stderr
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("families", "no_family", "no_family"),
        ("train", "many", "many"),
        pytest.param("controller", "no/folder", "no/folder", marks=pytest.mark.slow),
    ],
)
def test_wrong_options_end_in_a_sentence(command, environment, tmp_path, option, value, words):
    result = run(command(tmp_path / "run", **{option: value}), environment)
    assert result.returncode == 2
    assert words in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_families_without_pictures_have_a_report_too(command, environment, tmp_path):
    result = run(command(tmp_path / "run", families="match_scores"), environment)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["vision"]["images"]["n"] == report["vision"]["blanked"]["n"] == report["tuned"]["unseen"]["n"] == 0
    assert report["tuned"]["seen"]["n"] == 1
    assert "vision" not in report["stage_seconds"]


# kill -9


def _has_lines(pattern: str) -> Callable[[Path], bool]:
    return lambda folder: any(path.stat().st_size for path in folder.glob(pattern))


@pytest.mark.slow
def test_kills_at_three_moments_change_nothing(finished, command, environment, tmp_path):
    folder = tmp_path / "run"
    moments = {
        "data": _has_lines("build/shards/*.jsonl"),
        "training": lambda folder: any((folder / "train").glob("checkpoint-*")),
        "evaluation": _has_lines("tuned/trajectories.jsonl"),
    }
    for moment, reached in moments.items():
        process = subprocess.Popen(command(folder), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while not reached(folder):
            assert process.poll() is None and time.monotonic() < deadline, (moment, process.communicate()[1].decode())
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (folder / "report.json").exists(), f"The run was over before it was killed during {moment}."
    result = run(command(folder), environment)
    assert result.returncode == 0, result.stderr

    assert contents(folder / "dataset") == contents(finished / "dataset")
    for name in ("build/shards", "build/rejected"):
        assert contents(folder / name) == contents(finished / name)
    for name in ("untuned", "tuned", "blanked"):
        ids = [row["task"]["id"] for row in rows(folder / name / "trajectories.jsonl")]
        expected = [row["task"]["id"] for row in rows(finished / name / "trajectories.jsonl")]
        assert sorted(ids) == sorted(expected) and len(set(ids)) == len(ids)
    compare = """
import sys
from safetensors.torch import load_file
first, second = (load_file(path + "/train/agent/model.safetensors") for path in sys.argv[1:])
assert first.keys() == second.keys()
print(max((first[name] - second[name]).abs().max().item() for name in first))
"""
    assert float(python(compare, environment, folder, finished)) < 1e-6
    report = json.loads((folder / "report.json").read_text())
    assert report["tuned"]["seen"]["n"] == 2
