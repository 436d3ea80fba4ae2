"""Hand-made trajectories and shards."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from dataset_builder.mm_traj import make_row, make_task_row, read_records
from t3_agents.storage import BlobStore, Shard
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from tests.helpers.tiny_vlm import make_step


def picture(color: tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def make_trajectory(folder: Path, number: int, pictures: int = 1, family: str = "receipts", **fields) -> Trajectory:
    """A two-step trajectory with a document, `pictures` attached pictures, and one more that a step brings.

    With `pictures=0` there is no picture at all, and most of what may be null is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(pictures):
        source = folder / f"{number}-{index}.png"
        source.write_bytes(picture((number % 256, index, 7)))
        files.append(File.from_path(source, f"files/bild {index} é.png"))
    source = folder / f"{number}.csv"
    source.write_bytes(f"a,b\n{number},\u00fc\u4e2d\n".encode())
    files.insert(min(1, len(files)), File.from_path(source, "files/table.csv"))
    origin = {"family": family, "seed": 0, "index": number}
    truth = str(number) if pictures else None
    task = Task.create(
        f"What is №{number} 🧾\nin “{family}”?",
        files,
        ground_truth=truth,
        tools=("visualizer",) if pictures else (),
        domain="food" if pictures else None,
        origin=origin,
    )
    images = list(task.images)
    if pictures:
        source = folder / f"{number}-out.png"
        source.write_bytes(picture((1, 2, number % 256), (8, 8)))
        images.append(File.from_path(source, "outputs/image_1.png"))
    code = "print(visualizer('files/bild 0 é.png', 'what?'))"
    steps = [
        make_step(
            code,
            observation="a receipt ☕\n\ttotal 7" if pictures else "",
            error=None if pictures else "ValueError: \x00 nothing",
            thought="look",
            images=[pictures] if pictures else [],
            output_ids=[1, 2, 49151] if pictures else None,
        ),
        make_step("final_answer(7)", observation="", thought="say"),
    ]
    values = {
        "task": task,
        "system_prompt": "You solve tasks with code." if pictures else "",
        "steps": steps,
        "images": images,
        "answer": "7" if pictures else None,
        "end_reason": "answer" if pictures else "max_steps",
        "verification": {
            "trajectory": {"passed": True, "reasons": []},
            "query_file": {"passed": True, "reasons": ["ü"]},
        },
        "provenance": {
            "controller": "offline",
            "revision": None,
            "toolbox": [{"name": "visualizer", "version": "1"}, {"name": "other", "version": None}],
            "prompt": "compact",
            "package_version": "0.1.0",
            "score": 0.1,
        },
    }
    return Trajectory(**{**values, **fields})


def write_shard(run: Path, name: str, trajectories: list[Trajectory]) -> None:
    """Append trajectories to `<run>/shards/<name>.jsonl`."""
    blobs = BlobStore(run / "blobs")
    with Shard(run / "shards" / f"{name}.jsonl") as shard:
        for trajectory in trajectories:
            shard.append(trajectory.stored_in(blobs).to_dict())


def read_run(run: Path, split: str = "train") -> dict[str, Trajectory]:
    """The trajectories of a split, by the id of their task."""
    blobs = BlobStore(run / "blobs")
    return {record["task"]["id"]: Trajectory.from_dict(record, blobs) for record in read_records(run, split)}


def plain(row):
    """A row with its pictures as bytes of pixels, to compare what was loaded with what was written."""
    pictures = [
        image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image["bytes"])) for image in row["images"]
    ]
    images = [(image.size, image.convert("RGB").tobytes()) for image in pictures]
    messages = [
        {"role": m["role"], "content": [{"type": p["type"], "text": p.get("text")} for p in m["content"]]}
        for m in row.get("messages", [])
    ]
    return {**row, "images": images, "messages": messages}


def expected(run, split, config="default"):
    blobs = BlobStore(run / "blobs")
    for record in read_records(run, split):
        row = make_row(record, blobs)
        yield plain(make_task_row(row, record) if config == "tasks" else row)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
