"""Lengths and prefix groups of a dataset's rows, measured once and kept beside the run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import track

from t3_agents.storage import write_atomic

from .collator import LongRowError, TrajectoryCollator
from .packing import LengthIndex, PrefixGroups, shareable_length


if TYPE_CHECKING:
    from datasets import Dataset


def measure_rows(
    dataset: Dataset, collator: TrajectoryCollator, skip_long_rows: bool = False, cache: Path | None = None
) -> LengthIndex:
    """Tokenise every row once, without its pixels, and note its length.

    Args:
        dataset ([`~datasets.Dataset`]): rows with `messages` and `images`.
        collator ([`TrajectoryCollator`]): encodes and cuts them.
        skip_long_rows (`bool`, *optional*, defaults to `False`): give a row whose first step does not fit the length
            0, and note it in `collator.skipped_rows`, instead of raising.
        cache (`Path`, *optional*): file to keep the result in; read again for the same dataset and length.

    Raises:
        LongRowError: when a row does not fit and `skip_long_rows` is not set.
        InputError: when a row cannot be encoded.
    """
    key = {"dataset": dataset._fingerprint, "max_length": collator.max_length, "skip": skip_long_rows}
    if cache is not None and cache.is_file():
        record = json.loads(cache.read_text())
        if record.pop("key") == key:
            collator.cut_rows.update(record.pop("cut"))
            collator.skipped_rows += record.pop("skipped")
            return LengthIndex(**record)
    groups = PrefixGroups()
    index = LengthIndex([], [], [])
    for row in track(dataset, description="Lengths", total=len(dataset), transient=True):
        try:
            conversation = collator.encode(row)
        except LongRowError:
            if not skip_long_rows:
                raise
            collator.skipped_rows.append(str(row.get("id")))
            index.lengths.append(0)
            index.groups.append(0)
            continue
        index.lengths.append(len(conversation.ids))
        index.groups.append(groups.add(conversation.keys()[: shareable_length(conversation)]))
    index.prefixes = [len(prefix) for prefix in groups.prefixes]
    if cache is not None:
        record = {"key": key, "cut": collator.cut_rows, "skipped": collator.skipped_rows, **asdict(index)}
        write_atomic(cache, json.dumps(record) + "\n")
    return index
