"""Runs of `t3 train` in processes of their own, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml


def write_recipe(file: Path, **recipe: Any) -> Path:
    file.write_text(yaml.safe_dump(recipe))
    return file


def start_train(recipe: Path, *options: str) -> subprocess.Popen:
    """`t3 train` as a process, with the threads of this one, since sums differ with their number."""
    command = [sys.executable, "-m", "t3_agents.cli", "train", "--config", str(recipe), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def read_log(run: Path) -> list[dict[str, Any]]:
    """What a finished run logged, by optimizer step."""
    return json.loads((run / "train.json").read_text())["log"]


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(run)]


def weights(agent: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(agent / "model.safetensors")


def weight_difference(first: Path, second: Path) -> float:
    """The largest difference of any weight of two agents."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)
