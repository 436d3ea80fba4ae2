"""Rows with one value replaced by another kind of value: kept, or dropped with a reason, never a crash."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from dataset_builder.formats import FORMATS
from dataset_builder.formats.reading import import_rows
from dataset_builder.formats.writing import export_rows
from dataset_builder.mm_traj import make_row, read_records
from t3_agents.storage import BlobStore
from tests.helpers.run_samples import make_trajectory, write_shard


VALUES = (None, True, 0, -1, 1.5, 2**70, "", "x", "../x", "\ud800", [], {}, [[]], [{}], {"text": None}, ["x", 1])


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths to every value within a value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in entries for place in places(inner, (*path, key)))]


def changed(row: dict[str, Any], rng: random.Random) -> Any:
    """The row with one or two values replaced or taken out."""
    row = copy.deepcopy(row)
    for _ in range(rng.choice((1, 1, 2))):
        *path, last = rng.choice(places(row)[1:])
        owner = row
        for key in path:
            owner = owner[key]
        if rng.random() < 0.2:
            del owner[last]
        else:
            owner[last] = rng.choice(VALUES)
    return row


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_row_is_kept_or_dropped(tmp_path, format):
    write_shard(tmp_path / "run", "train-a", [make_trajectory(tmp_path / "f", n, pictures=n) for n in range(3)])
    export_rows(tmp_path / "run", tmp_path / "out", format)
    files = sorted((tmp_path / "out").glob("train*.json*"))
    rows = [row for f in files for row in json.loads("[" + f.read_text().strip("[]\n").replace("}\n{", "},{") + "]")]
    rng = random.Random(0)
    many = [changed(rng.choice(rows), rng) for _ in range(600)]
    for number, row in enumerate(many):
        for name in ("id", "trajectory_id"):
            if isinstance(row.get(name), str) and row[name]:
                row[name] += f"-{number}"
    (tmp_path / "changed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    counts = import_rows(format, tmp_path / "changed.jsonl", tmp_path / "in", images=tmp_path / "out")
    assert counts.kept + counts.dropped == len(many)
    assert counts.kept and counts.dropped
    blobs = BlobStore(tmp_path / "in" / "blobs")
    for split in ("train", "validation", "test"):
        for record in read_records(tmp_path / "in", split):
            make_row(record, blobs)
    for target in ("mm-traj", "sharegpt", "atif"):
        exported = export_rows(tmp_path / "in", tmp_path / f"again-{target}", target)
        assert exported.exported + exported.left_out == counts.kept
