"""Write the shards of a run as a dataset repository: Parquet, a README with `configs:`, and statistics.

The folder reads with `datasets.load_dataset(folder)`, streaming too, and is what goes to the Hub. Every producer of
rows ends with [`export_run`].
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError, RunFolderError
from t3_agents.hub.safe_loading import strict_json
from t3_agents.progress import WorkProgress
from t3_agents.storage import BlobStore, read_rows, require, sha256_of_file, write_atomic

from . import SPLITS
from .statistics import STATISTICS_FILE, Statistics


INDEX_FILE = "shards.json"
"""Which rows are in which Parquet file: a grown run adds files and leaves the others."""
SHARD_BYTES = 500 * 10**6
"""Content of one Parquet file, bytes before compression."""
ROW_GROUP_BYTES = 32 * 10**6
ROW_GROUP_ROWS = 100
"""A row group is what a streaming reader holds in memory, and what the export itself holds."""
_INDEX_FORMAT = "t3-shards/1"
_SHARD_PATH = re.compile(r"(data|tasks)/(train|validation|test)-\d{5}-[0-9a-f]{16}\.parquet")
_FOLDERS = {"default": "data", "tasks": "tasks"}


@dataclass
class IndexedShard:
    """One Parquet file.

    Args:
        config (`str`), split (`str`): what it belongs to.
        path (`str`): in the repository.
        sha256 (`str`): of its content.
        size (`int`): bytes of the file.
        num_bytes (`int`): bytes of its rows before compression.
        rows (`list[tuple[str, str]]`): id of each row and the digest of its record, see [`digest_of`].
    """

    config: str
    split: str
    path: str = ""
    sha256: str = ""
    size: int = 0
    num_bytes: int = 0
    rows: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class ShardIndex:
    """What `shards.json` says.

    Args:
        shards (`list[IndexedShard]`): in the order in which they are read.
    """

    shards: list[IndexedShard] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"format": _INDEX_FORMAT, "shards": [asdict(shard) for shard in self.shards]}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ShardIndex:
        """Read the content of `shards.json`.

        Raises:
            InputError: when it is not such an index.
        """
        record = strict_json(text, INDEX_FILE)
        if require(record, "format", str, INDEX_FILE) != _INDEX_FORMAT:
            raise InputError(f"{INDEX_FILE} has format `{record['format']}`; this version reads `{_INDEX_FORMAT}`.")
        kinds = {"config": str, "split": str, "path": str, "sha256": str, "size": int, "num_bytes": int, "rows": list}
        shards = []
        for entry in require(record, "shards", list, INDEX_FILE):
            values = {name: require(entry, name, kind, INDEX_FILE) for name, kind in kinds.items()}
            values["rows"] = [(str(name), str(digest)) for name, digest in values["rows"]]
            if not _SHARD_PATH.fullmatch(values["path"]):
                raise InputError(f"{INDEX_FILE} names `{values['path'][:80]}`, which is no file of such a dataset.")
            shards.append(IndexedShard(**values))
        return cls(shards)

    def only(self, digests: Container[tuple[str, str]]) -> ShardIndex:
        """The index without files that are not (any more) in the repository.

        Args:
            digests (`Container[tuple[str, str]]`): path and SHA-256 of the files that are there.
        """
        return ShardIndex([shard for shard in self.shards if (shard.path, shard.sha256) in digests])

    def kept(self, config: str, split: str, there: Mapping[str, str]) -> list[IndexedShard]:
        """Files of a split whose rows are all still there, unchanged.

        Args:
            config (`str`), split (`str`): which files.
            there (`Mapping[str, str]`): digest of the record by id.
        """
        return [
            shard
            for shard in self.shards
            if (shard.config, shard.split) == (config, split)
            and all(there.get(name) == digest for name, digest in shard.rows)
        ]

    def next_number(self, config: str, split: str) -> int:
        """A running number that no file of a split has had in this index."""
        names = [shard.path for shard in self.shards if (shard.config, shard.split) == (config, split)]
        return 1 + max((int(name.rsplit("-", 2)[1]) for name in names), default=-1)


def export_dataset(
    data_dir: str | Path,
    output: str | Path,
    shard_bytes: int = SHARD_BYTES,
    on_row: Callable[[], None] = lambda: None,
    finish: Callable[[Path, dict[str, Any]], None] = lambda folder, statistics: None,
    previous: ShardIndex | None = None,
    replace: bool = False,
) -> Path:
    """Export a run folder. The same rows give the same files, byte for byte.

    With the index of an earlier export, files whose rows are all still there and unchanged are kept as they are and
    not written again; the other rows go to new files. The folder then has the new files only, and its README names
    the kept ones too: it is what a push adds to the repository of the earlier export.

    Args:
        data_dir (`str` or `Path`): run folder with `shards/`, `blobs/` and perhaps `rejected/`.
        output (`str` or `Path`): folder to make; it appears at once, when it is complete.
        shard_bytes (`int`, *optional*, defaults to `SHARD_BYTES`): size of a Parquet file, bytes before compression.
        on_row (`Callable`, *optional*): called after each row, for a progress bar.
        finish (`Callable`, *optional*): called with the folder and its statistics before the folder appears, to write
            a card.
        previous ([`ShardIndex`], *optional*): of the earlier export.
        replace (`bool`, *optional*, defaults to `False`): take the place of `output` when it exists.

    Returns:
        `Path`: `output`.

    Raises:
        RunFolderError: when `output` exists already and is not to be replaced.
        InputError: when there is no row, or a row is broken; the message names it.
    """
    # `datasets` takes a second to import.
    from .mm_traj import make_row, make_task_row, read_records, to_example

    data_dir, output = Path(data_dir), Path(output)
    blobs = BlobStore(data_dir / "blobs")
    statistics = Statistics()
    index = ShardIndex()
    with new_folder(output, replace) as folder:
        seen: dict[str, str] = {}
        for split in SPLITS:
            there = {record["task"]["id"]: digest_of(record) for record in read_records(data_dir, split)}
            kept = {name: (previous or ShardIndex()).kept(name, split, there) for name in _FOLDERS}
            done = {name: {row for shard in kept[name] for row, _ in shard.rows} for name in _FOLDERS}
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
                    if name not in done["default"]:
                        writers["default"].add(to_example(row), (name, there[name]))
                    if name not in done["tasks"]:
                        writers["tasks"].add(to_example(make_task_row(row, record)), (name, there[name]))
                    on_row()
            finally:
                for writer in writers.values():
                    writer.close()
            for config, writer in writers.items():
                first = (previous or ShardIndex()).next_number(config, split)
                shards = [*kept[config], *writer.name_files(first)]
                index.shards += shards
                statistics.add_files(config, split, shards)
        if not statistics.rows:
            raise InputError(f"{data_dir} has no row to export: make some with `t3 build`.")
        for path in sorted((data_dir / "rejected").glob("*.jsonl")):
            for rejected in read_rows(path):
                statistics.add_rejected(rejected)
        found = statistics.to_dict()
        statistics.write_examples(folder)
        write_atomic(folder / STATISTICS_FILE, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        write_atomic(folder / INDEX_FILE, index.to_json())
        write_atomic(folder / "README.md", front_matter(found))
        finish(folder, found)
    return output


def export_run(folder: Path) -> Path:
    """Export a run as `<folder>/dataset`, with a card, under a progress bar.

    Shards are only ever appended to, so a dataset that has as many rows as they have is kept as it is; that of a run
    that has grown since is replaced.

    Args:
        folder (`Path`): run folder with `shards/` and `blobs/`.

    Returns:
        `Path`: the dataset.

    Raises:
        InputError: when the run has kept no row.
    """
    dataset = folder / "dataset"
    kept, rejected = (sum(map(_count_lines, (folder / name).glob("*.jsonl"))) for name in ("shards", "rejected"))
    if not kept:
        raise InputError(f"No row was kept; the reasons are in {folder / 'rejected'}.")
    if dataset.exists():
        found = json.loads((dataset / STATISTICS_FILE).read_text(encoding="utf-8"))
        if (found["rows"], found["rejected"]) == (kept, rejected):
            return dataset
    from hub_cards.dataset_card import write_card

    finish = partial(write_card, place=dataset)
    with WorkProgress() as progress:
        bar = progress.add_task("Export", total=kept)
        return export_dataset(folder, dataset, on_row=lambda: progress.advance(bar), finish=finish, replace=True)


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(line.endswith(b"\n") for line in stream)


@contextmanager
def new_folder(output: Path, replace: bool = False) -> Iterator[Path]:
    """A folder that gets its name only when the block has ended without an error.

    Args:
        output (`Path`): its name.
        replace (`bool`, *optional*, defaults to `False`): take the place of what has this name.

    Raises:
        RunFolderError: when `output` exists already and is not to be replaced.
    """
    if output.exists() and not replace:
        raise RunFolderError(f"{output} exists already: delete it, or export to another folder.")
    temporary = output.with_name(f".{output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def front_matter(statistics: dict[str, Any]) -> str:
    """The YAML head of a README, which tells `load_dataset` which files belong to which config and split."""
    import yaml

    head = {"configs": statistics["hub_configs"], "dataset_info": statistics["dataset_info"]}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


class _SplitWriter:
    """Parquet files of one split, written row group by row group; their names are final when they are complete."""

    def __init__(self, folder: Path, split: str, config: str, shard_bytes: int):
        from .mm_traj import make_features

        self.folder, self.split, self.config, self.shard_bytes = folder, split, config, shard_bytes
        self.features = make_features(config)
        self._paths: list[Path] = []
        self._shards: list[IndexedShard] = []
        self._writer = None
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = self._file_bytes = 0

    def add(self, example: dict[str, Any], row: tuple[str, str]) -> None:
        """Write an example; `row` is its id and the digest of its record."""
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
        self._shards[-1].rows.append(row)
        self._shards[-1].num_bytes += size

    def _open(self) -> None:
        import pyarrow.parquet

        self.folder.mkdir(exist_ok=True)
        self._paths.append(self.folder / f"{self.split}-{len(self._paths):05d}.partial")
        self._shards.append(IndexedShard(self.config, self.split))
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

    def name_files(self, first: int) -> list[IndexedShard]:
        """Give the files their names: split, running number, digest of the content. The names of files that are there
        do not change when others are added.

        `load_dataset` keeps its copy of a local folder by the folder's name and the head of its README alone. Without
        the digests there, it would give the rows of another `dataset` folder that was loaded before.

        Args:
            first (`int`): number of the first file.
        """
        for number, (path, shard) in enumerate(zip(self._paths, self._shards, strict=True), start=first):
            shard.sha256 = sha256_of_file(path)
            shard.size = path.stat().st_size
            path = path.rename(self.folder / f"{self.split}-{number:05d}-{shard.sha256[:16]}.parquet")
            shard.path = f"{self.folder.name}/{path.name}"
        return self._shards


def _size_of(value: Any) -> int:
    """Bytes of the texts and binaries in a row; numbers count eight."""
    if isinstance(value, dict):
        return sum(map(_size_of, value.values()))
    if isinstance(value, list):
        return sum(map(_size_of, value))
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 8


def digest_of(record: dict[str, Any]) -> str:
    """A short digest of a trajectory record, which names its files by their digests."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
