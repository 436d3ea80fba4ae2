"""A finished evaluation of four tasks, with the files that `t3 eval` leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t3_agents.storage import BlobStore, Shard
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from tests.helpers.tiny_vlm import make_step


def write_finished_run(folder: Path, text: str = "It is 12.50.", **changes: Any) -> Path:
    """Write `trajectories.jsonl`, `scores.jsonl` and `results.json`; `text` is what the steps of the agent say."""
    folder.mkdir(parents=True)
    attached = folder / "notes.txt"
    attached.write_text(text)
    blobs = BlobStore(folder / "blobs")
    with Shard(folder / "trajectories.jsonl") as trajectories, Shard(folder / "scores.jsonl") as scores:
        for number in range(4):
            task = Task.create(f"Question {number}?", [File.from_path(attached, "files/notes.txt")], ground_truth="12")
            step = make_step("final_answer(12)", text, thought=text, output_ids=[1, 2, 3])
            trajectory = Trajectory(task=task, system_prompt="Solve it.", steps=[step], images=[], answer="12")
            trajectories.append(trajectory.stored_in(blobs).to_dict())
            scores.append({"task_id": task.id, "seed": 0, "correct": number < 2, "scores": {"ans_acc": number < 2}})
    attached.unlink()
    results = {
        "format": "t3-results/1",
        "benchmark": "gta",
        "mode": "end_to_end",
        "scoring": "official",
        "scoring_details": {},
        "dataset": {"name": "open-compass/GTA", "revision": "a" * 40, "split": "test", "digest": "0" * 16},
        "agent": {
            "name": "t3-agent",
            "controller": "tiny",
            "revision": None,
            "toolbox": ["embedded"],
            "prompt": "paper",
        },
        "num_tasks": 4,
        "seeds": [0],
        "metrics": {
            "ans_acc": {"value": 0.5, "ci95": [0.15, 0.85], "n": 4},
            "tool_acc": {"value": None, "ci95": None, "n": 0},
        },
        "breakdown": {},
        "usage": {},
        "versions": {},
        "created": "2026-01-02T03:04:05Z",
    }
    (folder / "results.json").write_text(json.dumps({**results, **changes}))
    return folder
