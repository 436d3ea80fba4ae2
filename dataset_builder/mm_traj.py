"""The MM-Traj dataset: its features, its configs, and the builder that reads the shards of a run.

With any release of `datasets`: `MMTraj(data_dir=run).download_and_prepare()`, or `.as_streaming_dataset()`.
With `datasets < 4` this file alone is a loading script: `load_dataset("mm_traj.py", "default", data_dir=run)`. It
needs `t3_agents` installed (the record's reader and renderer are there) and nothing else of this package. Releases
without `datasets.Json` hold the columns `verification`, `provenance` and `origin` as JSON text.

A run folder has `shards/<split>-<name>.jsonl` with one trajectory record a line, and `blobs/` with the bytes of their
files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, Image, Value

from t3_agents.errors import InputError
from t3_agents.evaluation.published import citation
from t3_agents.storage import BlobStore, read_rows, sha256_of
from t3_agents.trajectory import Trajectory
from t3_agents.verifiers import placeholder_problem


try:
    from datasets import Json
except ImportError:  # older releases: the text of the JSON value

    def Json() -> Value:
        return Value("string")


SPLITS = ("train", "validation", "test")
CONFIGS = {
    "default": "Trajectories: task, conversation, structured steps, verdicts and provenance.",
    "tasks": "The tasks alone: query, files, images and the known answer, without a trajectory.",
}
JSON_COLUMNS = ("verification", "provenance", "origin")
MAX_ROW_BYTES = 2**31 - 2**20
"""Arrow's `binary` column counts bytes with 32 bits: files and images of one row have to stay below this."""

CITATION = citation("gao2025multimodal")


def make_features(config: str = "default") -> Features:
    """Columns of a config.

    Args:
        config (`str`, *optional*, defaults to `"default"`): one of `CONFIGS`.
    """
    # A list of one feature is the spelling that every release of `datasets` reads as a plain list.
    text, texts = Value("string"), [Value("string")]
    task = {
        "id": text,
        "query": text,
        "files": [{"path": text, "bytes": Value("binary"), "media_type": text, "sha256": text}],
        "images": [Image()],
    }
    if config == "tasks":
        return Features(
            {**task, "paths": texts, "ground_truth": text, "tools": texts, "domain": text, "origin": Json()}
        )
    return Features(
        {
            **task,
            "messages": [{"role": text, "content": [{"type": text, "text": text}]}],
            "steps": [
                {
                    "thought": text,
                    "code": text,
                    "observation": text,
                    "error": text,
                    "images": [Value("int32")],
                    "tools": texts,
                    "output_ids": [Value("int32")],
                }
            ],
            "answer": text,
            "ground_truth": text,
            "tools": texts,
            "domain": text,
            "num_steps": Value("int32"),
            "verification": Json(),
            "provenance": Json(),
        }
    )


def shard_paths(data_dir: str | Path, split: str) -> list[Path]:
    """The shards of a split, sorted by name."""
    return sorted((Path(data_dir) / "shards").glob(f"{split}-*.jsonl"))


def read_records(data_dir: str | Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a split in the order of their ids.

    An id is a hash, so this order mixes the families well and depends neither on the number of workers nor on when
    they finished. Only ids and offsets are held in memory.

    Raises:
        InputError: when two rows have the same id, or a line is not JSON.
    """
    index: list[tuple[str, int, int]] = []
    paths = shard_paths(data_dir, split)
    for number, path in enumerate(paths):
        with path.open("rb") as stream:
            offset = 0
            for row in read_rows(path):
                line = stream.readline()
                index.append((_id_of(row, path), number, offset))
                offset += len(line)
    index.sort()
    for (first, *_), (second, *_) in zip(index, index[1:], strict=False):
        if first == second:
            raise InputError(f"Row {first} is twice in the {split} shards: delete one of them.")
    streams = [path.open("rb") for path in paths]
    try:
        for _, number, offset in index:
            streams[number].seek(offset)
            yield json.loads(streams[number].readline())
    finally:
        for stream in streams:
            stream.close()


def _id_of(row: dict[str, Any], path: Path) -> str:
    task = row.get("task")
    if not isinstance(task, dict) or not isinstance(task.get("id"), str):
        raise InputError(f"A row of {path.name} is not a trajectory record: it has no task with an id.")
    return task["id"]


def make_row(record: dict[str, Any], blobs: BlobStore) -> dict[str, Any]:
    """Turn a trajectory record into a row of the config `default`, after checking that a trainer can use it.

    Args:
        record (`dict`): what [`~t3_agents.trajectory.Trajectory.to_dict`] gave.
        blobs ([`~t3_agents.storage.BlobStore`]): the bytes of files and pictures.

    Raises:
        InputError: naming the row, when the record is broken, a blob is missing or damaged, or the conversation has
            not one placeholder for every picture.
    """
    try:
        trajectory = Trajectory.from_dict(record, blobs)
        size = 0
        for file in {file.sha256: file for file in (*trajectory.task.files, *trajectory.images)}.values():
            data = blobs.get(file.sha256)
            if sha256_of(data) != file.sha256:
                raise InputError(f"Blob {file.sha256[:12]}… of {file.path} is damaged: restore it or delete the row.")
            size += len(data)
        if size > MAX_ROW_BYTES:
            raise InputError(f"Its files have {size} bytes; {MAX_ROW_BYTES} fit into one row.")
        row = trajectory.to_row()
        problem = placeholder_problem(row["messages"], len(row["images"]))
        if problem:
            raise InputError(problem)
    except InputError as error:
        raise InputError(f"Row {record['task']['id']}: {error}") from None
    return row


def make_task_row(row: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The row of the config `tasks` that belongs to a row of `default` and its record."""
    task = record["task"]
    columns = ("id", "query", "files", "ground_truth", "domain")
    return {
        **{column: row[column] for column in columns},
        # Attachments come first; what is not in `files` is a picture.
        "images": row["images"][: len(task["files"]) - len(row["files"])],
        # The order in which they are named to the controller, pictures among them.
        "paths": [file["path"] for file in task["files"]],
        "tools": task["tools"],
        "origin": task["origin"],
    }


def to_example(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `datasets` encodes it: the JSON columns as text with sorted keys, the same text for the same value."""
    texts = {name: json.dumps(row[name], ensure_ascii=False, sort_keys=True) for name in JSON_COLUMNS if name in row}
    return {**row, **texts}


class MMTrajConfig(datasets.BuilderConfig):
    """A config whose cached copy is used only as long as the shards of the run are the same."""

    def create_config_id(self, config_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        paths = [path for split in SPLITS for path in shard_paths(self.data_dir or ".", split)]
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        shards = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
        return super().create_config_id({**config_kwargs, "shards": shards}, *args, **kwargs)


class MMTraj(datasets.GeneratorBasedBuilder):
    """Reads the shards of a run folder, which is given as `data_dir`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [
        MMTrajConfig(name=name, version=datasets.Version("1.0.0"), description=description)
        for name, description in CONFIGS.items()
    ]
    DEFAULT_CONFIG_NAME = "default"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.config.description, features=make_features(self.config.name), citation=CITATION
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        folder = self.config.data_dir
        if not folder:
            raise InputError("MMTraj reads a run folder: pass it as data_dir.")
        found = [split for split in SPLITS if any(path.stat().st_size for path in shard_paths(folder, split))]
        if not found:
            raise InputError(f"{folder} holds no shards (shards/<split>-*.jsonl): make some with `t3 build`.")
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"folder": str(folder), "split": split}) for split in found
        ]

    def _generate_examples(self, folder: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        blobs = BlobStore(Path(folder) / "blobs")
        for record in read_records(folder, split):
            row = make_row(record, blobs)
            yield row["id"], to_example(make_task_row(row, record) if self.config.name == "tasks" else row)
