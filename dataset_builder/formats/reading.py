"""The command `t3 import`: a file of rows into a run folder. Every row is kept, or dropped with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from t3_agents.errors import InputError
from t3_agents.options import Positional
from t3_agents.progress import WorkProgress
from t3_agents.storage import BlobStore, RunFolder, Shard, sha256_of, sha256_of_file, write_atomic
from t3_agents.trajectory import Trajectory
from t3_agents.verifiers import validate

from .. import SPLITS
from ..statistics import without_values
from . import Format, FormatName, load_format
from .files import FileSource, open_source
from .json_rows import InputRow, read_json_rows


REPORT_FILE = "import.json"
MISSING = ("drop", "keep")


@dataclass
class ImportConfig:
    """Read trajectories of other formats into a run.

    Args:
        format (`str`): `mm-traj` (the released training data), `atif` (Agent Trajectory Interchange Format) or
            `sharegpt` (LLaMA-Factory, ms-swift).
        input (`str`): file with the rows (JSON or JSON Lines), or a folder of documents.
        output (`str`): folder of the run; the finished dataset is `<output>/dataset`. The same command on it resumes a
            stopped run.
        images (`str`, *optional*): folder or zip archive of the pictures; the folder of the rows by default.
        missing (`str`, *optional*, defaults to `"drop"`): what becomes of a row with a file that is not there or
            cannot be read: `drop`, or `keep` without the file.
        split (`str`, *optional*, defaults to `"train"`): split of rows that do not name one.
    """

    format: Positional[FormatName]
    input: Positional[str]
    output: str
    images: str | None = None
    missing: Literal["drop", "keep"] = "drop"
    split: str = "train"


@dataclass
class ImportCounts:
    """What became of the rows.

    Args:
        read (`int`), kept (`int`), dropped (`int`): rows.
        incomplete (`int`): kept rows without some of their files.
        missing_files (`int`): files that were not found or could not be read, of kept and dropped rows.
        reasons (`Counter[str]`): why rows were dropped, without what differs from row to row.
    """

    read: int = 0
    kept: int = 0
    dropped: int = 0
    incomplete: int = 0
    missing_files: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def import_rows(
    format: str,
    input: str | Path,
    output: str | Path,
    images: str | Path | None = None,
    missing: str = "drop",
    split: str = "train",
    on_row: Callable[[], None] = lambda: None,
) -> ImportCounts:
    """Import a file. After a crash the same call goes on behind the last finished row.

    Args:
        format (`str`): one of `FORMATS`.
        input (`str` or `Path`): the rows, see [`read_json_rows`].
        output (`str` or `Path`): run folder with `shards/`, `blobs/`, `rejected/` and `import.json`, the counts.
        images (`str` or `Path`, *optional*): folder or zip archive of the pictures; the folder of the rows by default.
        missing (`str`, *optional*, defaults to `"drop"`): what becomes of a row with a file that is not there or
            cannot be read: `drop`, or `keep` without the file.
        split (`str`, *optional*, defaults to `"train"`): split of rows that do not name one.
        on_row (`Callable`, *optional*): called after each row.

    Raises:
        InputError: when an option or a file cannot be used; the message names file and row.
        RunFolderError: when `output` holds something else, or another process works in it.
    """
    form = load_format(format)
    input, output = Path(input), Path(output)
    if missing not in MISSING:
        raise InputError(f"`missing` is `{missing}`: choose one of {', '.join(MISSING)}.")
    if split not in SPLITS:
        raise InputError(f"`split` is `{split}`: choose one of {', '.join(SPLITS)}.")
    if not input.exists():
        raise InputError(f"There is no file {input}.")
    settings = {"command": "import", "format": format, "missing": missing, "split": split, "input": _digest(input)}
    source = open_source(images or (input if input.is_dir() else input.parent))
    with source, RunFolder(output, settings), _Shards(output, format) as shards:
        for row in read_json_rows(input):
            shards.counts.read += 1
            if shards.counts.read <= shards.finished:
                on_row()
                continue
            _import_row(row, form, source, shards, missing, split)
            on_row()
        counts = shards.counts
        report = {**vars(counts), "reasons": dict(counts.reasons.most_common())}
        write_atomic(output / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return counts


def _import_row(row: InputRow, form: Format, source: FileSource, shards: _Shards, missing: str, split: str) -> None:
    """Keep a row, or drop it with the reason."""
    try:
        if row.problem:
            raise InputError(row.problem)
        imported = form.read(row.record, source)
        trajectory = imported.trajectory
        split = imported.split or split
        if imported.missing and missing == "drop":
            shards.drop(row, split, [f"missing file: {reason}" for reason in imported.missing.values()])
            return
        if trajectory.task.id in shards.ids:
            raise InputError(f"An earlier row has the id `{trajectory.task.id}` too.")
        if problems := validate(trajectory):
            raise InputError(" ".join(problems))
    except InputError as error:
        shards.drop(row, split, [f"not usable: {error}"])
        return
    if not imported.own:
        trajectory.provenance["import"] = {"file": row.file, "row": row.number}
        trajectory.provenance["package_version"] = version("t3-agents")
    if imported.missing:
        trajectory.task.origin["missing"] = list(imported.missing)
    shards.keep(trajectory, split)


class _Shards:
    """The shards of the run: kept rows by split, dropped rows, and what they count to.

    Every row of the input is in one of them, in the order of the input; so their number says where to go on.
    """

    def __init__(self, folder: Path, format: str):
        self.blobs = BlobStore(folder / "blobs")
        self.counts = ImportCounts()
        self.ids: set[str] = set()
        self._shards: dict[tuple[str, str], Shard] = {}
        for kind in ("shards", "rejected"):
            for split in SPLITS:
                # Rows are counted when they are read and when they are written, and not held.
                path = folder / kind / f"{split}-{format}.jsonl"
                self._shards[kind, split] = Shard(path, keep=partial(self._count, kind))
        self.finished = self.counts.kept + self.counts.dropped

    def keep(self, trajectory: Trajectory, split: str) -> None:
        self._shards["shards", split].append(trajectory.stored_in(self.blobs).to_dict())

    def drop(self, row: InputRow, split: str, reasons: list[str]) -> None:
        """Keep the row as it was read beside the reasons."""
        record = {"file": row.file, "row": row.number, "reasons": reasons, "record": row.record}
        try:
            json.dumps(record, allow_nan=False)
        except (ValueError, RecursionError):
            record["record"] = None
        self._shards["rejected", split].append(record)

    def _count(self, kind: str, record: dict[str, Any]) -> None:
        counts = self.counts
        if kind == "rejected":
            counts.dropped += 1
            counts.reasons.update({without_values(reason) for reason in record["reasons"]})
            counts.missing_files += sum(reason.startswith("missing file") for reason in record["reasons"])
            return
        counts.kept += 1
        self.ids.add(record["task"]["id"])
        missing = record["task"]["origin"].get("missing", [])
        counts.incomplete += bool(missing)
        counts.missing_files += len(missing)

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _digest(path: Path) -> str:
    """Digest of the rows: another file is another import."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return sha256_of("".join(map(sha256_of_file, files)).encode())


def main(config: ImportConfig) -> int:
    """The command `t3 import FORMAT INPUT`."""
    from t3_agents.reports.tables import Table, print_tables

    from ..export import export_run

    folder = Path(config.output)
    with WorkProgress() as progress:
        bar = progress.add_task("Rows", total=None)
        counts = import_rows(
            config.format,
            config.input,
            folder,
            images=config.images,
            missing=config.missing,
            split=config.split,
            on_row=lambda: progress.advance(bar),
        )
    rows = [
        ["kept", str(counts.kept)],
        ["kept without some files", str(counts.incomplete)],
        ["dropped", str(counts.dropped)],
        ["files not there or not readable", str(counts.missing_files)],
        *([f"dropped because {reason}", str(number)] for reason, number in counts.reasons.most_common(12)),
    ]
    print_tables(Table("", [f"of {counts.read} rows read", "number"], rows, right=1))
    print(export_run(folder))
    return 0
