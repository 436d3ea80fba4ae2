"""A run folder in another format: files of rows, with their pictures beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from t3_agents.errors import InputError
from t3_agents.storage import BlobStore, sha256_of, write_atomic
from t3_agents.trajectory import Trajectory

from ..export import new_folder
from ..mm_traj import SPLITS, read_records
from ..statistics import without_values
from .export_atif import atif_document
from .export_mm_traj import mm_traj_row
from .export_sharegpt import dataset_info, sharegpt_row
from .file_copies import FileCopies


FORMATS = ("mm-traj", "atif", "sharegpt")
REPORT_FILE = "export.json"
_FILE_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)


@dataclass
class ExportCounts:
    """What became of the rows.

    Args:
        exported (`int`): rows in the files.
        left_out (`int`): rows that the format cannot carry.
        reasons (`Counter[str]`): why, without what differs from row to row.
        rows (`dict[str, str]`): why, by id.
    """

    exported: int = 0
    left_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rows: dict[str, str] = field(default_factory=dict)


def export_rows(
    run: str | Path, output: str | Path, format: str, on_row: Callable[[], None] = lambda: None
) -> ExportCounts:
    """Write the rows of a run folder in another format.

    `mm-traj` is one JSON array a split, `sharegpt` one JSON Lines file a split with a `dataset_info.json`, `atif` one
    document a row. Paths in the rows are relative to the folder.

    Args:
        run (`str` or `Path`): run folder with `shards/` and `blobs/`.
        output (`str` or `Path`): folder to make; it appears at once, when it is complete.
        format (`str`): one of `FORMATS`.
        on_row (`Callable`, *optional*): called after each row.

    Raises:
        RunFolderError: when `output` exists already.
        InputError: when there is no row, or the run folder is broken.
    """
    if format not in FORMATS:
        raise InputError(f"There is no format `{format}`; choose one of: {', '.join(FORMATS)}.")
    run, output = Path(run), Path(output)
    counts = ExportCounts()
    blobs = BlobStore(run / "blobs")
    with new_folder(output) as folder:
        copies = FileCopies(folder)
        splits = []
        for split in SPLITS:
            rows = _rows(run, split, blobs, format, copies, counts, on_row)
            if format == "atif":
                for row in rows:
                    write_atomic(folder / _document_name(split, row["trajectory_id"]), _json(row, indent=2) + "\n")
                continue
            first = next(rows, None)
            if first is None:
                continue
            splits.append(split)
            suffix = "json" if format == "mm-traj" else "jsonl"
            with (folder / f"{split}.{suffix}").open("w", encoding="utf-8") as stream:
                _write(stream, first, rows, array=format == "mm-traj")
        if not counts.exported + counts.left_out:
            raise InputError(f"{run} has no row to export: name the folder of `t3 build` or `t3 import`.")
        if format == "sharegpt":
            write_atomic(folder / "dataset_info.json", json.dumps(dataset_info(splits), indent=2) + "\n")
        report = {**vars(counts), "reasons": dict(counts.reasons.most_common())}
        # Not `.json` beside documents, which are all read as rows.
        write_atomic(folder / "report" / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return counts


def _rows(
    run: Path,
    split: str,
    blobs: BlobStore,
    format: str,
    copies: FileCopies,
    counts: ExportCounts,
    on_row: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    for record in read_records(run, split):
        name = record["task"]["id"]
        try:
            trajectory = Trajectory.from_dict(record, blobs)
            if format == "atif":
                row = atif_document(trajectory, split, copies)
            elif format == "mm-traj":
                row = mm_traj_row(trajectory, copies)
            else:
                row = sharegpt_row(trajectory, copies)
        except InputError as error:
            counts.left_out += 1
            counts.reasons[without_values(str(error))] += 1
            counts.rows[name] = str(error)
        else:
            counts.exported += 1
            yield row
        on_row()


def _write(stream: TextIO, first: dict[str, Any], rows: Iterator[dict[str, Any]], array: bool) -> None:
    """An array with a row a line, or a row a line alone."""
    stream.write(f"[\n{_json(first)}" if array else _json(first))
    for row in rows:
        stream.write(f"{',' if array else ''}\n{_json(row)}")
    stream.write("\n]\n" if array else "\n")


def _json(value: Any, indent: int | None = None) -> str:
    """Readable text; a lone surrogate in a model's words, which UTF-8 does not have, stays escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _document_name(split: str, name: str) -> str:
    return f"{split}-{name if _FILE_NAME.fullmatch(name) else sha256_of(name.encode(errors='surrogatepass'))}.json"
