"""Which rows share a batch: lengths, prefix groups and packs."""

from __future__ import annotations

import json
import random

import pytest

from t3_agents.errors import InputError
from tests.helpers.training_rows import make_dataset, make_row, make_trainer
from trainers.checks import LengthIndex, PrefixGroups, group_by_length, measure_rows, pack_rows
from trainers.collators import LongRowError, TrajectoryCollator, common_length
from trainers.config import TrajectoryConfig
from trainers.distributed import BatchOrder


def test_common_length():
    draw = random.Random(0)
    for _ in range(200):
        first = [draw.randrange(2) for _ in range(draw.randrange(20))]
        second = first[: draw.randrange(20)] + [draw.randrange(2) for _ in range(draw.randrange(5))]
        expected = next(
            (i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
            min(len(first), len(second)),
        )
        assert common_length(first, second) == expected


def test_rows_with_other_prompts_are_groups_of_their_own():
    groups = PrefixGroups()
    prompts = {"a": list(range(100)), "b": [*range(20), *range(500, 600)]}
    numbers = [
        groups.add([*prompts[name], *task]) for name, task in [("a", [1]), ("b", [1]), ("a", [2]), ("b", [7, 8])]
    ]
    assert numbers == [0, 1, 0, 1]
    assert [len(prefix) for prefix in groups.prefixes] == [100, 120]


def test_packs_hold_every_row_once_and_fit():
    draw = random.Random(1)
    lengths = [draw.randrange(120, 900) for _ in range(500)]
    index = LengthIndex(lengths, [draw.randrange(3) for _ in lengths], [100, 50, 0])
    for share in (False, True):
        packs = pack_rows(index, 1000, share)
        assert sorted(row for pack in packs for row in pack) == list(range(500))
        for pack in packs:
            groups = {index.groups[row] for row in pack}
            prefix = index.prefixes[index.groups[pack[0]]] if share else 0
            assert not share or len(groups) == 1
            assert prefix + sum(lengths[row] - prefix for row in pack) <= 1000
    packs = pack_rows(index, 1000, False)
    # First-fit decreasing needs at most 11/9 of the fewest packs plus 6/9 (Dósa 2007).
    assert len(packs) <= 11 / 9 * -(-sum(lengths) // 1000) + 1
    assert len(pack_rows(index, 1000, True)) < len(packs)


def test_a_row_longer_than_a_pack_stands_alone():
    assert pack_rows(LengthIndex([500, 2000, 400], [0, 0, 0], [100]), 1000, True) == [[1], [0, 2]]


def test_rows_of_similar_length_share_a_batch():
    assert group_by_length(LengthIndex([5, 1, 9, 4, 8], [0] * 5, [0]), 2) == [[2, 4], [0, 3], [1]]


def test_every_epoch_has_all_batches_in_an_order_of_its_own():
    order = BatchOrder([[i] for i in range(7)], seed=3, multiple_of=2)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        epochs.append([batch[0] for batch in order])
    assert len(order) == 8 and all(set(epoch) == set(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    again = BatchOrder([[i] for i in range(7)], seed=3, multiple_of=2)
    assert [batch[0] for batch in again] == epochs[0]


def test_lengths_are_those_of_the_collator_and_are_kept(encoder, tmp_path):
    rows = [make_row(number, attached=number % 2, brought=[number % 2]) for number in range(5)]
    dataset = make_dataset(rows)
    collator = TrajectoryCollator(encoder)
    index = measure_rows(dataset, collator, cache=tmp_path / "lengths.json")
    assert index.lengths == [collator([row])["input_ids"].shape[1] for row in dataset]
    assert index.groups == [0] * 5
    assert collator.packing == "none" and index.prefixes[0] >= 20
    record = json.loads((tmp_path / "lengths.json").read_text())
    record["lengths"][0] = 12345
    (tmp_path / "lengths.json").write_text(json.dumps(record))
    assert measure_rows(dataset, collator, cache=tmp_path / "lengths.json").lengths[0] == 12345
    # Another dataset is measured anew.
    other = measure_rows(make_dataset(rows[:2]), collator, cache=tmp_path / "lengths.json")
    assert other.lengths == index.lengths[:2]


def test_long_rows_stop_the_run_or_are_counted(encoder):
    rows = [make_row(1), make_row(2, system_prompt="word " * 400), make_row(3)]
    for row, name in zip(rows, "abc", strict=True):
        row["id"] = name
    dataset = make_dataset(rows)
    collator = TrajectoryCollator(encoder, max_length=700)
    with pytest.raises(LongRowError, match="Row b: its first step ends at token .* set long_rows to skip"):
        measure_rows(dataset, collator)
    index = measure_rows(dataset, collator, skip_long_rows=True)
    assert index.lengths[1] == 0 and collator.skipped_rows == ["b"]
    assert index.without_skipped().lengths == [index.lengths[0], index.lengths[2]]


@pytest.mark.parametrize("packing", ["none", "length_grouped", "packed", "shared_prefix"])
def test_long_rows_are_left_out_of_training(tiny_vlm, tmp_path, packing):
    rows = [make_row(number, system_prompt="word " * (400 if number == 2 else 1)) for number in range(4)]
    trainer = make_trainer(
        tiny_vlm, tmp_path, rows, packing=packing, long_rows="skip", max_length=700, per_device_train_batch_size=3
    )
    trainer.train()
    assert trainer.state.global_step == 1 and len(trainer.train_dataset) == 3
    assert len(trainer.data_collator.skipped_rows) == 1


def test_packs_of_a_token_budget_are_trained(tiny_vlm, tmp_path):
    rows = [make_row(number, attached=0, brought=[0]) for number in range(8)]
    recipe = {"max_length": 600, "pack_length": 600}
    trainer = make_trainer(tiny_vlm, tmp_path, rows, **recipe)
    index = measure_rows(trainer.train_dataset, trainer.data_collator)
    assert trainer.batches == pack_rows(index, 600, True) and 1 < len(trainer.batches) < 8
    trainer.train()
    assert trainer.state.global_step == len(trainer.batches)


def test_a_pack_must_hold_a_row():
    with pytest.raises(InputError, match="`pack_length` needs packing, and at least the `max_length` of a row."):
        TrajectoryConfig(output_dir="o", packing_strategy="packed", max_length=100, pack_length=99)
    with pytest.raises(InputError, match="`pack_length` needs packing"):
        TrajectoryConfig(output_dir="o", packing=False, max_length=100, pack_length=200)
