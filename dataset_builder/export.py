"""Write the shards of a run as a dataset repository: Parquet, a README with `configs:`, and statistics.

The folder reads with `datasets.load_dataset(folder)`, streaming too, and is what goes to the Hub.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from t3_agents.errors import InputError, RunFolderError
from t3_agents.storage import BlobStore, read_rows, write_atomic


STATISTICS_FILE = "statistics.json"
SHARD_BYTES = 500 * 10**6
"""Content of one Parquet file, bytes before compression."""
ROW_GROUP_BYTES = 32 * 10**6
ROW_GROUP_ROWS = 100
"""A row group is what a streaming reader holds in memory, and what the export itself holds."""
# Quoted words, lists and numbers in a reason: without them the same reason reads the same in every row.
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|\d[\d.,]*")
_FOLDERS = {"default": "data", "tasks": "tasks"}


def export_dataset(
    data_dir: str | Path,
    output: str | Path,
    shard_bytes: int = SHARD_BYTES,
    on_row: Callable[[], None] = lambda: None,
    finish: Callable[[Path, dict[str, Any]], None] = lambda folder, statistics: None,
) -> Path:
    """Export a run folder. The same rows give the same files, byte for byte.

    Args:
        data_dir (`str` or `Path`): run folder with `shards/`, `blobs/` and perhaps `rejected/`.
        output (`str` or `Path`): folder to make; it appears at once, when it is complete.
        shard_bytes (`int`, *optional*, defaults to `SHARD_BYTES`): size of a Parquet file, bytes before compression.
        on_row (`Callable`, *optional*): called after each row, for a progress bar.
        finish (`Callable`, *optional*): called with the folder and its statistics before the folder appears, to write
            a card.

    Returns:
        `Path`: `output`.

    Raises:
        RunFolderError: when `output` exists already.
        InputError: when there is no row, or a row is broken; the message names it.
    """
    # `datasets` takes a second to import.
    from .mm_traj import SPLITS, make_row, make_task_row, read_records, to_example

    data_dir, output = Path(data_dir), Path(output)
    blobs = BlobStore(data_dir / "blobs")
    statistics = Statistics()
    with new_folder(output) as folder:
        seen: dict[str, str] = {}
        for split in SPLITS:
            writers = {
                name: _SplitWriter(folder / place, split, name, shard_bytes) for name, place in _FOLDERS.items()
            }
            try:
                for record in read_records(data_dir, split):
                    name = record["task"]["id"]
                    if seen.setdefault(name, split) != split:
                        raise InputError(f"Row {name} is in the splits {seen[name]} and {split}: delete one of them.")
                    row = make_row(record, blobs)
                    statistics.add(split, row, record["task"])
                    writers["default"].add(to_example(row))
                    writers["tasks"].add(to_example(make_task_row(row, record)))
                    on_row()
            finally:
                for writer in writers.values():
                    writer.close()
            for config, writer in writers.items():
                statistics.add_files(config, split, writer.name_files(), writer.num_bytes)
        if not statistics.rows:
            raise InputError(f"{data_dir} has no row to export: make some with `t3 build`.")
        for path in sorted((data_dir / "rejected").glob("*.jsonl")):
            for rejected in read_rows(path):
                statistics.add_rejected(rejected)
        found = statistics.to_dict()
        write_atomic(folder / STATISTICS_FILE, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        write_atomic(folder / "README.md", front_matter(found["hub_configs"]))
        finish(folder, found)
    return output


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that gets its name only when the block has ended without an error.

    Raises:
        RunFolderError: when `output` exists already.
    """
    if output.exists():
        raise RunFolderError(f"{output} exists already: delete it, or export to another folder.")
    temporary = output.with_name(f".{output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def front_matter(hub_configs: list[dict[str, Any]]) -> str:
    """The YAML head of a README, which tells `load_dataset` which files belong to which config and split."""
    import yaml

    return f"---\n{yaml.safe_dump({'configs': hub_configs}, sort_keys=False)}---\n"


class _SplitWriter:
    """Parquet files of one split, written row group by row group; their names are final when their number is known."""

    def __init__(self, folder: Path, split: str, config: str, shard_bytes: int):
        from .mm_traj import make_features

        self.folder, self.split, self.shard_bytes = folder, split, shard_bytes
        self.features = make_features(config)
        self.num_bytes = 0
        self._paths: list[Path] = []
        self._writer = None
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._file_bytes = 0

    def add(self, example: dict[str, Any]) -> None:
        size = _size_of(example)
        if self._writer is not None and self._file_bytes + size > self.shard_bytes:
            self.close()
        if self._writer is None:
            self._open()
        if self._row_bytes + size > ROW_GROUP_BYTES or len(self._rows) == ROW_GROUP_ROWS:
            self._flush()
        self._rows.append(self.features.encode_example(example))
        self._row_bytes += size
        self._file_bytes += size
        self.num_bytes += size

    def _open(self) -> None:
        import pyarrow.parquet

        self.folder.mkdir(exist_ok=True)
        self._paths.append(self.folder / f"{self.split}-{len(self._paths):05d}.partial")
        # Page index: the Hub's viewer reads single pages. Chunking by content: a changed row does not move the others'
        # pages, so the next upload sends little.
        self._writer = pyarrow.parquet.ParquetWriter(
            self._paths[-1],
            self.features.arrow_schema,
            compression="zstd",
            write_page_index=True,
            use_content_defined_chunking=True,
        )

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=self.features.arrow_schema))
        self._rows, self._row_bytes = [], 0

    def close(self) -> None:
        """End the current file."""
        if self._writer is not None:
            self._flush()
            self._writer.close()
        self._writer, self._file_bytes = None, 0

    def name_files(self) -> list[Path]:
        """Give the files the names that the Hub expects, with a digest of their content.

        `load_dataset` keeps its copy of a local folder by the folder's name and the head of its README alone. Without
        the digests there, it would give the rows of another `dataset` folder that was loaded before.
        """
        total = len(self._paths)
        return [
            path.rename(self.folder / f"{self.split}-{number:05d}-of-{total:05d}-{_digest(path)}.parquet")
            for number, path in enumerate(self._paths)
        ]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _size_of(value: Any) -> int:
    """Bytes of the texts and binaries in a row; numbers count eight."""
    if isinstance(value, dict):
        return sum(map(_size_of, value.values()))
    if isinstance(value, list):
        return sum(map(_size_of, value))
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8


class Statistics:
    """Counts for a dataset card, gathered row by row. All of them are plain data."""

    def __init__(self):
        self.rows = 0
        self._configs: dict[str, dict[str, Any]] = {}
        self._splits: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("file_types", "tools", "domains", "steps", "images", "origins", "teachers")
        }
        self._counts |= {name: Counter() for name in ("controllers", "prompts", "packages", "licenses", "reasons")}
        self._families: dict[str, Counter[str]] = {}
        self._verdicts: dict[str, Counter[str]] = {}
        self._characters: Counter[str] = Counter()
        self._actions: Counter[str] = Counter()
        self._rejected = 0

    def add(self, split: str, row: dict[str, Any], task: dict[str, Any]) -> None:
        """Count a kept row.

        Args:
            split (`str`): its split.
            row (`dict`): a row of the config `default`.
            task (`dict`): the record of its task.
        """
        self.rows += 1
        self._splits[split] += 1
        counts, provenance, origin = self._counts, row["provenance"], task["origin"]
        counts["file_types"].update(map(_file_type, task["files"]))
        counts["tools"].update(tool for step in row["steps"] for tool in step["tools"])
        counts["domains"][row["domain"] or "others"] += 1
        counts["steps"][str(row["num_steps"])] += 1
        counts["images"][str(len(row["images"]))] += 1
        if "family" in origin:
            self._families.setdefault(str(origin["family"]), Counter())[split] += 1
        for column, key, where in (
            ("origins", "source", origin),
            ("licenses", "license", origin),
            ("teachers", "teacher", provenance),
            ("controllers", "controller", provenance),
            ("prompts", "prompt", provenance),
            ("packages", "package_version", provenance),
        ):
            if where.get(key):
                counts[column][_label(where[key])] += 1
        self._add_verdicts(row["verification"])
        for step in row["steps"]:
            self._actions["failed" if step["error"] else "ran"] += 1
        for message in row["messages"]:
            kind = "system" if message["role"] == "system" else "rest"
            self._characters[kind] += sum(len(part.get("text") or "") for part in message["content"])

    def add_rejected(self, rejected: dict[str, Any]) -> None:
        """Count a row that was not kept: `{"reasons": list[str], "trajectory": record}`."""
        self._rejected += 1
        self._counts["reasons"].update({_VALUE.sub("…", reason) for reason in rejected["reasons"]})
        self._add_verdicts((rejected.get("trajectory") or {}).get("verification") or {})

    def add_files(self, config: str, split: str, paths: list[Path], num_bytes: int) -> None:
        """Note the Parquet files of a split; a split without rows has none."""
        if paths:
            files = [f"{path.parent.name}/{path.name}" for path in paths]
            self._configs.setdefault(config, {})[split] = {
                "rows": self._splits[split],
                "bytes": num_bytes,
                "files": files,
            }

    def _add_verdicts(self, verification: dict[str, Any]) -> None:
        for name, verdict in verification.items():
            passed = isinstance(verdict, dict) and verdict.get("passed")
            self._verdicts.setdefault(name, Counter())["passed" if passed else "failed"] += 1

    def to_dict(self) -> dict[str, Any]:
        """The statistics as they are written to `statistics.json`."""
        from .mm_traj import CITATION, make_features

        return {
            "format": "t3-dataset-statistics/1",
            "rows": self.rows,
            "rejected": self._rejected,
            "splits": dict(self._splits),
            "configs": self._configs,
            "hub_configs": [
                {
                    "config_name": name,
                    "data_files": [{"split": split, "path": part["files"]} for split, part in splits.items()],
                    **({"default": True} if name == "default" else {}),
                }
                for name, splits in self._configs.items()
            ],
            "columns": {name: {c: _type_name(f) for c, f in make_features(name).items()} for name in self._configs},
            # Most frequent first, so that a card can show the head of a long list.
            **{
                name: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
                for name, counts in self._counts.items()
            },
            "families": {name: dict(counts) for name, counts in sorted(self._families.items())},
            "verdicts": {
                name: {"passed": verdict["passed"], "failed": verdict["failed"]}
                for name, verdict in sorted(self._verdicts.items())
            },
            "actions": {"ran": self._actions["ran"], "failed": self._actions["failed"]},
            "characters": {name: self._characters[name] / max(self.rows, 1) for name in ("system", "rest")},
            "citation": CITATION,
        }


def _file_type(file: dict[str, Any]) -> str:
    suffix = PurePosixPath(file["path"]).suffix.lower()[1:]
    return {"jpeg": "jpg", "": "none"}.get(suffix, suffix)


def _label(value: Any) -> str:
    """A provenance value in one line: a controller may be a name or an object."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_label(entry)}" for key, entry in sorted(value.items()) if entry is not None)
    return str(value)


def _type_name(feature: Any) -> str:
    """A feature as one writes it in prose, such as `list<{path: string, bytes: binary}>`."""
    if isinstance(feature, dict):
        return "{" + ", ".join(f"{name}: {_type_name(inner)}" for name, inner in feature.items()) + "}"
    if type(feature).__name__ == "Value":
        return feature.dtype
    if type(feature).__name__ in ("List", "Sequence"):
        return f"list<{_type_name(feature.feature)}>"
    return type(feature).__name__.lower()
