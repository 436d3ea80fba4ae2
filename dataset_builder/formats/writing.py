"""The command `t3 export`: a run folder in another format, files of rows with their pictures beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from t3_agents.errors import InputError
from t3_agents.options import Positional
from t3_agents.progress import WorkProgress
from t3_agents.storage import BlobStore, sha256_of, write_atomic
from t3_agents.trajectory import Trajectory

from .. import SPLITS
from ..export import new_folder
from ..statistics import without_values
from . import Format, FormatName, load_format
from .files import FileCopies


REPORT_FILE = "export.json"
_FILE_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)


@dataclass
class ExportConfig:
    """Write the rows of a run in other formats.

    Args:
        run (`str`): folder of `t3 build`, `t3 synth` or `t3 import`.
        format (`str`): `mm-traj` (the form of the released training data), `atif` (Agent Trajectory Interchange
            Format) or `sharegpt` (LLaMA-Factory, ms-swift).
        output (`str`): folder to make.
    """

    run: Positional[str]
    format: FormatName
    output: str


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

    Paths in the rows are relative to the folder.

    Args:
        run (`str` or `Path`): run folder with `shards/` and `blobs/`.
        output (`str` or `Path`): folder to make; it appears at once, when it is complete.
        format (`str`): one of `FORMATS`.
        on_row (`Callable`, *optional*): called after each row.

    Raises:
        RunFolderError: when `output` exists already.
        InputError: when there is no row, or the run folder is broken.
    """
    form = load_format(format)
    run, output = Path(run), Path(output)
    counts = ExportCounts()
    with new_folder(output) as folder:
        copies = FileCopies(folder)
        splits = []
        for split in SPLITS:
            rows = _rows(run, split, form, copies, counts, on_row)
            if form.layout == "documents":
                for name, row in rows:
                    write_atomic(folder / _document_name(split, name), _json(row, indent=2) + "\n")
                continue
            first = next(rows, None)
            if first is None:
                continue
            splits.append(split)
            with (folder / f"{split}.{form.layout}").open("w", encoding="utf-8") as stream:
                _write(stream, (row for _, row in chain([first], rows)), array=form.layout == "json")
        if not counts.exported + counts.left_out:
            raise InputError(f"{run} has no row to export: name the folder of `t3 build`, `t3 synth` or `t3 import`.")
        if form.dataset_info is not None:
            write_atomic(folder / "dataset_info.json", json.dumps(form.dataset_info(splits), indent=2) + "\n")
        report = {**vars(counts), "reasons": dict(counts.reasons.most_common())}
        # Not `.json` beside documents, which are all read as rows.
        write_atomic(folder / "report" / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return counts


def _rows(
    run: Path, split: str, form: Format, copies: FileCopies, counts: ExportCounts, on_row: Callable[[], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and record of each row that the format can carry."""
    from ..mm_traj import read_records

    blobs = BlobStore(run / "blobs")
    for record in read_records(run, split):
        name = record["task"]["id"]
        try:
            row = form.write(Trajectory.from_dict(record, blobs), split, copies)
        except InputError as error:
            counts.left_out += 1
            counts.reasons[without_values(str(error))] += 1
            counts.rows[name] = str(error)
        else:
            counts.exported += 1
            yield name, row
        on_row()


def _write(stream: TextIO, rows: Iterator[dict[str, Any]], array: bool) -> None:
    """An array with a row a line, or a row a line alone."""
    stream.write("[\n" if array else "")
    for number, row in enumerate(rows):
        between = (",\n" if array else "\n") if number else ""
        stream.write(between + _json(row))
    stream.write("\n]\n" if array else "\n")


def _json(value: Any, indent: int | None = None) -> str:
    """Readable text; a lone surrogate in a model's words, which UTF-8 does not have, stays escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _document_name(split: str, name: str) -> str:
    return f"{split}-{name if _FILE_NAME.fullmatch(name) else sha256_of(name.encode(errors='surrogatepass'))}.json"


def main(config: ExportConfig) -> int:
    """The command `t3 export RUN`."""
    with WorkProgress() as progress:
        bar = progress.add_task("Rows", total=None)
        counts = export_rows(config.run, config.output, config.format, on_row=lambda: progress.advance(bar))
    print(f"{counts.exported} rows exported, {counts.left_out} left out")
    for reason, number in counts.reasons.most_common(12):
        print(f"left out: {number} x {reason}")
    print(config.output)
    return 0
