"""The whole way by the command line alone, every command on what the one before left: synthesize, train, measure,
publish, fetch, run."""

from __future__ import annotations

import json

import pytest
import yaml
from datasets import load_dataset

from tests.helpers.hub_client import Client
from tests.helpers.hub_server import HubServer
from tests.helpers.teacher_server import MODEL, teacher_server
from tests.helpers.training_rows import TINY


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with HubServer() as server:
        yield Client(server, tmp_path_factory.mktemp("whole_way"))


def t3(client: Client, *arguments: object, status: int = 0) -> str:
    """What a command prints; all of them share one home."""
    done = client.t3(*arguments, home=str(client.folder / "home"))
    assert done.returncode == status, f"t3 {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_command_takes_what_the_one_before_left(client, tiny_vlm):
    folder = client.folder
    with teacher_server("--plain") as url:
        options = "--flavor gta --embedding words --concurrency 4 --num-tasks 6".split()
        printed = t3(client, "synth", "--teacher", url, "--model", MODEL, "--output", "synth", *options)
    assert printed.split("\n")[-2] == "synth/dataset"
    rows = load_dataset(str(folder / "synth" / "dataset"), split="train", cache_dir=str(folder / "cache"))
    assert len(rows) > 1 and any(row["images"] for row in rows)
    assert all(verdict["passed"] for row in rows for verdict in row["verification"].values())

    recipe = TINY | {"model_name_or_path": str(tiny_vlm), "long_rows": "skip", "max_length": 4096, "max_new_tokens": 8}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    t3(client, "train", "--config", "tiny.yaml", "--dataset_name", "synth/dataset", "--output_dir", "train")
    options = "--dataset synth/dataset --split train --limit 2 --max-steps 2 --output eval".split()
    t3(client, "eval", "scenarios", "--agent", "train/agent", *options)

    t3(client, "push", "dataset", "synth", "user/data")
    t3(client, "push", "agent", "train", "user/agent", "--dataset", "user/data", "--results", "eval")
    pushed = client.server.files("user/agent")
    card = pushed["README.md"].decode()
    for text in (
        "[user/data](https://huggingface.co/datasets/user/data)",
        f"| trajectories | {len(rows)} |",
        f"| split train | {len(rows)} |",
        "| this agent |",
        "| tuning |",
        "](run/curves.png)",
    ):
        assert text in card, text
    assert "run/curves.png" in pushed
    for name in ("agent", "data"):
        t3(client, "pull", f"user/{name}", name)
    pulled = load_dataset(str(folder / "data"), split="train", cache_dir=str(folder / "cache"))
    assert pulled["id"] == rows["id"] and pulled["messages"] == rows["messages"]
    # Random weights write no code that answers; what they wrote is in the record.
    t3(client, "run", "What is shown?", "--agent", "agent", "--max-steps", 1, "--output", "asked", status=1)
    record = json.loads((folder / "asked" / "trajectory.json").read_text())
    assert len(record["steps"]) == 1 and record["steps"][0]["output_ids"]
