"""Curves in trackio: on this machine, and nowhere else."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.training_rows import TINY, make_row, write_dataset
from tests.helpers.training_runs import losses, write_recipe


pytest.importorskip("trackio")

PROGRAM = """
import socket, sys

def refuse(event, arguments):
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        print("CONNECT", arguments[1], file=sys.stderr)
        raise OSError(f"the network was asked for {arguments[1]}")
    if event == "socket.getaddrinfo":
        print("RESOLVE", arguments[0], file=sys.stderr)
        raise OSError(f"the network was asked for {arguments[0]}")

sys.addaudithook(refuse)
from t3_agents import cli
sys.exit(cli.main(["train", "--config", sys.argv[1]]))
"""


@pytest.mark.slow
def test_curves_go_to_trackio_on_this_machine_without_the_network(tiny_vlm, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", [make_row(number) for number in range(1, 5)])
    run = tmp_path / "run"
    recipe = {**TINY, "report_to": "trackio", "model_name_or_path": str(tiny_vlm)}
    file = write_recipe(tmp_path / "recipe.yaml", **recipe, dataset_name=str(dataset), output_dir=str(run))
    # Offline mode would hide what is tried; the usage statistics of huggingface_hub are another matter.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRACKIO"))}
    environment |= {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HOME": str(tmp_path / "home")}
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "CONNECT" not in done.stderr and "RESOLVE" not in done.stderr
    assert logged_losses(tmp_path / "trackio") == pytest.approx(losses(run))


def logged_losses(folder: Path) -> list[float]:
    (file,) = folder.glob("*.db")
    with sqlite3.connect(file) as database:
        rows = [json.loads(row[0]) for row in database.execute("SELECT metrics FROM metrics ORDER BY step")]
    return [row["train/loss"] for row in rows if "train/loss" in row]
