"""What happens to the rows before a run trains: they are checked against the model, measured and put into batches."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.progress import track
from transformers import PreTrainedModel

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder, Conversation
from t3_agents.models.families import reason_against_continuous_batching
from t3_agents.storage import write_atomic

from .attention import use_segment_attention
from .collators import (
    LongRowError,
    TrajectoryCollator,
    common_length,
    known_output_ids,
    row_name,
    shareable_length,
)
from .config import TrajectoryConfig
from .show_mask import print_mask
from .trainer import at_least_single, supervised_logits


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

LENGTHS_FILE = ".lengths.json"
SEARCHED_ROWS = 200
"""Rows among which one with pictures is looked for, to check the model with."""


def plan_batches(
    config: TrajectoryConfig, model: PreTrainedModel, collator: TrajectoryCollator, dataset: Dataset
) -> tuple[Dataset, list[list[int]] | None]:
    """Choose how rows are put together, set model and collator up for it, and leave out rows that are too long.

    Returns:
        `tuple`: the rows to train on, and the row numbers of each batch; `None` for batches of random rows.
    """
    skip, grouped = config.long_rows == "skip", config.train_sampling_strategy == "group_by_length"
    rows = _first_rows(dataset, collator, skip)
    check_family(collator.encoder, rows)
    if config.packing:
        problem = packing_problem(model, collator, rows) if PartialState().is_main_process else None
        (problem,) = broadcast_object_list([problem])
        if problem:
            logger.warning(f"Rows are grouped by length instead of packed: {problem}.")
            grouped = True
        else:
            collator.packing = config.packing_strategy
            use_segment_attention(model)
    packs = collator.packing != "none" and config.pack_length
    if not (skip or packs or grouped):
        return dataset, None
    with PartialState().main_process_first():  # the others read what it has measured
        index = measure_rows(dataset, collator, skip, Path(config.output_dir) / LENGTHS_FILE)
    dataset = dataset.select([row for row, length in enumerate(index.lengths) if length])
    index = index.without_skipped()
    if grouped:
        return dataset, group_by_length(index, config.per_device_train_batch_size)
    return dataset, pack_rows(index, packs, collator.packing == "shared_prefix") if packs else None


def _first_rows(dataset: Dataset, collator: TrajectoryCollator, skip_long_rows: bool) -> list[dict[str, Any]]:
    """The first two rows that fit, so that a dataset that does not suit the model stops the run at its start; and the
    first one with pictures, where it is soon found."""
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(dataset):
        if len(rows) >= 2:
            if number >= SEARCHED_ROWS or any(row.get("images") for row in rows):
                break
            if not row.get("images"):
                continue
        try:
            collator.encode(row)
        except LongRowError:
            if not skip_long_rows:
                raise
            continue
        rows.append(row)
    if not rows:
        raise InputError("No row of the dataset fits max_length: raise it.")
    return rows


def check_family(encoder: ChatEncoder, rows: Sequence[dict[str, Any]]) -> None:
    """Prove on rows that training reads what a run reads, and that the loss covers what the assistant wrote.

    Encoding a row proves that its template only appends and writes each picture once. The tokens of every assistant
    turn, which have a loss up to the token that ends it, must then spell the turn and nothing else.

    Args:
        encoder ([`ChatEncoder`]): of the model's processor.
        rows (`Sequence[dict]`): some rows of the dataset.

    Raises:
        InputError: when a row cannot be encoded or one of this does not hold; the row is printed with its loss mask.
    """
    if encoder.end_of_turn is None:
        raise InputError(
            f"The chat template of {type(encoder.processor).__name__} writes no special token behind an assistant "
            "turn, so a model tuned with it would not learn to stop: use a template that does."
        )
    collator = TrajectoryCollator(encoder)
    for row in rows:
        conversation = collator.encode(row)
        problem = _problem_of(encoder, row, conversation)
        if problem:
            print_mask(Console(stderr=True), encoder, row_name(row), conversation)
            raise InputError(f"Row {row_name(row)} {problem}")


def _problem_of(encoder: ChatEncoder, row: dict[str, Any], conversation: Conversation) -> str | None:
    turns = [message for message in row["messages"] if message["role"] == "assistant"]
    known = known_output_ids(row)
    for number, (message, (start, end)) in enumerate(zip(turns, conversation.turns, strict=True)):
        if known and known[number]:
            continue  # the ids are what a model produced; their text was made of them
        written = encoder.decode(conversation.ids[start:end])
        if _words(written) != _words(_text_of(message)):
            return (
                f"has a loss on other words than its assistant turn {number + 1} has: use a chat template that "
                "writes the turn as it is."
            )
    return None


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _words(text: str) -> list[str]:
    # The encoder breaks control tokens in a text with this character; templates strip white space, and some tokenizers
    # write characters in another of their forms.
    return unicodedata.normalize("NFKC", text.replace("\u200b", "")).split()


def packing_problem(
    model: PreTrainedModel, collator: TrajectoryCollator, rows: Sequence[dict[str, Any]]
) -> str | None:
    """Why a model cannot train on packed rows exactly, or `None` when it can.

    Logits of packed rows are compared with those of the rows by themselves.

    Args:
        model ([`~transformers.PreTrainedModel`]): without adapter.
        collator ([`TrajectoryCollator`]): of the run.
        rows (`Sequence[dict]`): rows of the dataset that fit.
    """
    if reason := reason_against_continuous_batching(model):
        return reason
    before = model.config.get_text_config()._attn_implementation
    packed = TrajectoryCollator(collator.encoder, collator.max_length, "shared_prefix")
    alone = TrajectoryCollator(collator.encoder, collator.max_length)
    training = model.training
    model.eval()
    try:
        expected = torch.cat([_produced_logits(model, alone([row])) for row in rows])
        use_segment_attention(model)
        found = _produced_logits(model, packed(rows))
    finally:
        model.set_attn_implementation({"text_config": before})
        model.train(training)
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    # Rounding of a few layers; a wrong mask or position changes logits by their own size.
    if error > (0.1 if model.dtype.itemsize == 2 else 1e-3):
        return f"logits of packed rows of {type(model).__name__} are off by {error:.1e}"
    return None


@torch.no_grad()
def _produced_logits(model: PreTrainedModel, batch: dict[str, Any]) -> torch.Tensor:
    inputs = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    inputs.pop("loss_weights", None)
    logits, _ = supervised_logits(model, model, inputs)
    return at_least_single(logits)


def measure_rows(
    dataset: Dataset, collator: TrajectoryCollator, skip_long_rows: bool = False, cache: Path | None = None
) -> LengthIndex:
    """Tokenize every row once, without its pixels, and note its length.

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


# Which rows go together


@dataclass
class LengthIndex:
    """Lengths of a dataset's rows, measured once.

    Args:
        lengths (`list[int]`): tokens of each row; 0 for a row that is left out.
        groups (`list[int]`): per row, the number of the prefix group that it belongs to.
        prefixes (`list[int]`): tokens that all rows of a group begin with, by group.
    """

    lengths: list[int]
    groups: list[int]
    prefixes: list[int]

    def without_skipped(self) -> LengthIndex:
        """The index of the rows that are left when those that were left out are gone."""
        kept = [row for row, length in enumerate(self.lengths) if length]
        return LengthIndex([self.lengths[row] for row in kept], [self.groups[row] for row in kept], self.prefixes)


class PrefixGroups:
    """Finds the rows that begin alike, one row at a time.

    A row joins the group with which it has most tokens in common, if the group keeps at least half of its prefix by
    it; else it opens a group of its own.
    """

    def __init__(self) -> None:
        self.prefixes: list[list[Any]] = []

    def add(self, prefix: list[Any]) -> int:
        """Number of the group of a row.

        Args:
            prefix (`list`): what the row may share: keys of its tokens before the first produced one.
        """
        common = [common_length(kept, prefix) for kept in self.prefixes]
        best = max(range(len(common)), key=common.__getitem__, default=None)
        if best is None or 2 * common[best] < len(self.prefixes[best]):
            self.prefixes.append(prefix)
            return len(self.prefixes) - 1
        self.prefixes[best] = self.prefixes[best][: common[best]]
        return best


def pack_rows(index: LengthIndex, pack_length: int, share_prefix: bool) -> list[list[int]]:
    """Rows of each pack: first-fit decreasing within each prefix group.

    Args:
        index ([`LengthIndex`]): lengths of the rows.
        pack_length (`int`): tokens that a pack may have.
        share_prefix (`bool`): count the prefix of a group once per pack.

    Returns:
        `list[list[int]]`: row numbers by pack. A row longer than `pack_length` has a pack of its own.
    """
    packs = []
    for group, prefix in enumerate(index.prefixes if share_prefix else [0]):
        rows = [row for row in range(len(index.lengths)) if not share_prefix or index.groups[row] == group]
        bodies = {row: index.lengths[row] - prefix for row in rows}
        room = np.zeros(0, dtype=np.int64)
        bins: list[list[int]] = []
        for row in sorted(rows, key=lambda row: -bodies[row]):
            fitting = np.flatnonzero(room >= bodies[row])
            if fitting.size:
                chosen = int(fitting[0])
            else:
                chosen = len(bins)
                bins.append([])
                room = np.append(room, pack_length - prefix)
            bins[chosen].append(row)
            room[chosen] -= bodies[row]
        packs += bins
    return packs


def group_by_length(index: LengthIndex, batch_size: int) -> list[list[int]]:
    """Batches of rows of similar length, so that little is padding."""
    rows = sorted(range(len(index.lengths)), key=lambda row: -index.lengths[row])
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
