"""Labels, ids and errors of the collator, against TRL's own."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from t3_agents.errors import InputError
from tests.helpers.tiny_vlm import turn
from tests.helpers.training_rows import SYSTEM_PROMPT, make_dataset, make_row
from trainers.collators import IGNORE, TrajectoryCollator


@pytest.fixture(scope="module")
def rows():
    """Without pictures, with pictures in the task, in observations, and in both."""
    return make_dataset(
        [
            make_row(1, attached=0, brought=[0]),
            make_row(2, attached=2, brought=[0, 0]),
            make_row(3, attached=0, brought=[1, 0, 2]),
            make_row(4, attached=1, brought=[1]),
        ]
    )


def assistant_texts(row) -> list[str]:
    return [m["content"][0]["text"] for m in row["messages"] if m["role"] == "assistant"]


def labeled_pieces(batch, row: int) -> list[list[int]]:
    """Runs of labeled ids of a row."""
    pieces, previous = [], IGNORE
    for label in batch["labels"][row].tolist():
        if label != IGNORE:
            pieces = [*pieces, [label]] if previous == IGNORE else [*pieces[:-1], [*pieces[-1], label]]
        previous = label
    return pieces


def test_labels_are_the_produced_turns_with_their_end(encoder, rows):
    batch = TrajectoryCollator(encoder)(list(rows))
    for number, row in enumerate(rows):
        pieces = labeled_pieces(batch, number)
        texts = [encoder.tokenizer.decode(piece) for piece in pieces]
        assert texts == [text + "<|im_end|>" for text in assistant_texts(row)]
    labeled = batch["labels"] != IGNORE
    assert torch.equal(batch["labels"][labeled], batch["input_ids"][labeled])
    assert not (batch["labels"] == encoder.tokenizer.convert_tokens_to_ids("<image>")).any()
    assert not labeled[batch["attention_mask"] == 0].any()


@pytest.mark.parametrize("chosen", [[0], [1], [2], [3], [0, 1, 2, 3], [0, 0]])
def test_ids_and_pixels_are_those_of_the_stock_collator(encoder, rows, chosen):
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    chosen_rows = [rows[number] for number in chosen]
    # transformers 5.23 cannot find assistant tokens in a batch of which some rows have no pictures.
    with_labels = len(chosen) == 1
    ours = TrajectoryCollator(encoder)(chosen_rows)
    stock = DataCollatorForVisionLanguageModeling(encoder.processor, assistant_only_loss=with_labels)(chosen_rows)
    assert ours.pop("row_ids") == [row["id"] for row in chosen_rows]
    assert set(ours) == set(stock)
    # The mask of assistant tokens ends at the same end-of-turn token, by the `generation` marks of the template.
    for name in stock if with_labels else set(stock) - {"labels"}:
        assert torch.equal(ours[name], stock[name]), name


def test_plain_text_with_pictures_is_read_as_trl_reads_it(encoder):
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    texts = [("system", "Be brief."), ("user", "What are they?"), ("assistant", "red and blue")]
    row = {
        "messages": [{"role": role, "content": text} for role, text in texts],
        "images": [Image.new("RGB", (40, 30), color) for color in ("red", "blue")],
    }
    ours = TrajectoryCollator(encoder)([row])
    stock = DataCollatorForVisionLanguageModeling(encoder.processor, assistant_only_loss=True)([row])
    for name in stock:
        assert torch.equal(ours[name], stock[name]), name
    with pytest.raises(InputError, match="0 image placeholders, but there are 2 pictures"):
        TrajectoryCollator(encoder)([{**row, "messages": row["messages"][::2]}])


def test_a_batch_mixes_rows_with_and_without_pictures(encoder, rows):
    image_token = encoder.tokenizer.convert_tokens_to_ids("<image>")
    batch = TrajectoryCollator(encoder)([rows[0], rows[2]])
    used = batch["pixel_attention_mask"].flatten(2).any(-1).sum(-1).tolist()
    assert used == [0, 3]
    per_picture = encoder.processor.image_seq_len
    assert (batch["input_ids"] == image_token).sum(-1).tolist() == [0, 3 * per_picture]
    assert "pixel_values" not in TrajectoryCollator(encoder)([rows[0], rows[0]])


def test_a_row_is_cut_at_whole_steps(encoder):
    row = make_row(5, attached=1, brought=[1, 1, 0])
    whole = TrajectoryCollator(encoder).encode(row)
    ends = [end for _, end in whole.turns]
    assert len(ends) == 4
    for limit, steps, pictures in [
        (len(whole.ids), 4, 3),
        (ends[3], 4, 3),
        (ends[3] - 1, 3, 3),
        (ends[1] + 1, 2, 2),
        (ends[0], 1, 1),
    ]:
        collator = TrajectoryCollator(encoder, max_length=limit)
        batch = collator([row])
        length = batch["input_ids"].shape[1]
        assert length == (len(whole.ids) if limit == len(whole.ids) else ends[steps - 1]) <= limit
        assert batch["input_ids"][0].tolist() == whole.ids[:length]
        assert len(labeled_pieces(batch, 0)) == steps
        assert batch["pixel_values"].shape[1] == pictures
        assert collator.cut_rows == ({row["id"]: 4 - steps} if steps < 4 else {})


def test_a_first_step_that_does_not_fit_names_the_row(encoder):
    row = make_row(6)
    first = TrajectoryCollator(encoder).encode(row).turns[0][1]
    with pytest.raises(InputError, match=f"Row {row['id']}: its first step ends at token {first}, beyond max_length="):
        TrajectoryCollator(encoder, max_length=first - 1)([make_row(1, attached=0), row])


@pytest.mark.parametrize("change", [-1, 1])
def test_placeholders_and_pictures_that_differ_name_the_row(encoder, change):
    row = make_row(7, attached=1, brought=[1])
    row["images"] = row["images"][:change] if change < 0 else [*row["images"], Image.new("RGB", (8, 8))]
    with pytest.raises(InputError, match=f"Row {row['id']}: .*2 image placeholders, but there are {2 + change}"):
        TrajectoryCollator(encoder)([row])


def test_a_row_without_assistant_turn_names_the_row(encoder):
    row = make_row(8)
    row["messages"] = row["messages"][:2]
    row["steps"] = []
    with pytest.raises(InputError, match=f"Row {row['id']} has no assistant turn to train on"):
        TrajectoryCollator(encoder)([row])
    with pytest.raises(InputError, match="Row without id has no assistant turn"):
        TrajectoryCollator(encoder)([{"messages": row["messages"], "images": row["images"]}])
    row = make_row(5, brought=[])
    row["steps"][0]["error"] = "NameError: x"
    with pytest.raises(InputError, match=f"Row {row['id']} has no assistant turn to train on"):
        TrajectoryCollator(encoder, train_on="clean")([row])


def test_produced_ids_win_over_their_text(encoder):
    """A model may write a text in other ids than the tokenizer would: one id a character here."""
    text = turn("print(visualizer(9, 00000))", "look")
    letters = [encoder.tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in text]
    spelled = [token for ids in letters for token in ids] + [encoder.end_of_turn]
    plain = make_row(9)
    row = make_row(9, output_ids=[spelled, None])
    assert assistant_texts(row)[0] == text
    assert spelled[:-1] != encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    [first, second] = labeled_pieces(TrajectoryCollator(encoder)(make_dataset([row])), 0)
    assert first == spelled
    assert second == labeled_pieces(TrajectoryCollator(encoder)([plain]), 0)[1]


def test_ids_are_not_used_where_turns_and_steps_differ(encoder):
    """A plan stands in the messages but not in `steps`."""
    row = make_row(9, output_ids=[[1, 2, 3], [4, 5, 6]])
    plan = [
        {"role": "assistant", "content": [{"type": "text", "text": "First look."}]},
        {"role": "user", "content": [{"type": "text", "text": "Now proceed and carry out this plan."}]},
    ]
    row["messages"] = [*row["messages"][:2], *plan, *row["messages"][2:]]
    pieces = labeled_pieces(TrajectoryCollator(encoder)([row]), 0)
    assert [encoder.tokenizer.decode(p) for p in pieces] == [t + "<|im_end|>" for t in assistant_texts(row)]


def segments(batch: dict) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of each body of a packed row."""
    bounds = batch["segment_bounds"]
    return [
        (batch["input_ids"][0, start:end].tolist(), batch["labels"][0, start:end].tolist())
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]


@pytest.mark.parametrize("packing", ["packed", "shared_prefix"])
def test_a_packed_row_holds_the_prefix_and_every_body(encoder, rows, packing):
    batch = TrajectoryCollator(encoder, packing=packing)(list(rows))
    prefix = batch["segment_bounds"][0]
    shared = batch["input_ids"][0, :prefix].tolist()
    if packing == "packed":
        assert prefix == 0
    else:
        assert prefix >= len(encoder.tokenizer(SYSTEM_PROMPT)["input_ids"])
        assert (batch["labels"][0, :prefix] == IGNORE).all()
    for row, (ids, labels) in zip(rows, segments(batch), strict=True):
        alone = TrajectoryCollator(encoder)([row])
        assert shared + ids == alone["input_ids"][0].tolist()
        assert labels == alone["labels"][0, prefix:].tolist()
        assert labels[0] == IGNORE
    assert "attention_mask" not in batch
    assert batch["pixel_values"].shape[:2] == (1, sum(batch["segment_images"]))


def test_nothing_is_shared_by_one_row_or_by_different_prompts(encoder):
    collator = TrajectoryCollator(encoder, packing="shared_prefix")
    assert collator([make_row(1)])["segment_bounds"][0] == 0
    assert collator([make_row(1), make_row(2, system_prompt="")])["segment_bounds"][0] <= 1


def test_the_shared_prefix_holds_equal_pictures_and_no_produced_token(encoder):
    """Rows that are equal to the end have one copy of their first pictures, and all labels in the body, with the token
    before each label."""
    image_token = encoder.tokenizer.convert_tokens_to_ids("<image>")
    for attached in (1, 0):
        row = make_row(3, attached=attached)
        alone = TrajectoryCollator(encoder)([row])
        batch = TrajectoryCollator(encoder, packing="shared_prefix")([row, row])
        prefix = batch["segment_bounds"][0]
        assert (batch["input_ids"][0, :prefix] == image_token).any() == bool(attached)
        assert batch["segment_images"] == [attached, 0, 0]
        labels = [[label for label in part if label != IGNORE] for _, part in segments(batch)]
        assert labels == [[label for label in alone["labels"][0].tolist() if label != IGNORE]] * 2
        assert all(part[0] == IGNORE for _, part in segments(batch))


def test_a_picture_of_its_own_ends_the_prefix(encoder):
    """Two pictures of one size have the same ids: they are told apart by their pixels."""
    first, second = make_row(3, attached=1, brought=[]), make_row(3, attached=1, brought=[])
    second["images"] = make_row(6, attached=1, brought=[])["images"]
    batch = TrajectoryCollator(encoder, packing="shared_prefix")([first, second])
    assert batch["segment_images"] == [0, 1, 1]
    ids = TrajectoryCollator(encoder).encode(first)
    assert batch["segment_bounds"][0] == ids.image_spans[0][0]


def labeled_turns(encoder, row, **settings) -> list[str]:
    """Text of each stretch of labels."""
    batch = TrajectoryCollator(encoder, **settings)([row])
    return [encoder.tokenizer.decode(piece) for piece in labeled_pieces(batch, 0)]


def test_only_clean_or_last_steps_have_labels(encoder):
    row = make_row(5, brought=[0, 0])
    row["steps"][1]["error"] = "NameError: x"
    texts = [text + "<|im_end|>" for text in assistant_texts(row)]
    assert labeled_turns(encoder, row) == texts
    assert labeled_turns(encoder, row, train_on="clean") == [texts[0], texts[2]]
    assert labeled_turns(encoder, row, train_on="last") == [texts[2]]
    # What is not trained on is still read.
    whole, last = (TrajectoryCollator(encoder, train_on=kind)([row])["input_ids"] for kind in ("all", "last"))
    assert torch.equal(whole, last)


def test_the_last_step_is_the_last_one_that_is_left(encoder):
    row = make_row(5, brought=[0, 0])
    end = TrajectoryCollator(encoder).encode(row).turns[1][1]
    texts = assistant_texts(row)
    assert labeled_turns(encoder, row, train_on="last", max_length=end) == [texts[1] + "<|im_end|>"]


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
def test_weights_of_steps_follow_their_tokens(encoder, packing):
    plain, weighted = make_row(1, attached=0, brought=[0]), make_row(2, attached=0, brought=[0])
    weighted["step_weights"] = [0.5, 2.0]
    batch = TrajectoryCollator(encoder, packing=packing)([plain, weighted])
    sizes = [
        len(encoder.tokenizer(text + "<|im_end|>")["input_ids"])
        for row in (plain, weighted)
        for text in assistant_texts(row)
    ]
    expected = [weight for weight, size in zip([1.0, 1.0, 0.5, 2.0], sizes, strict=True) for _ in range(size)]
    assert batch["loss_weights"].tolist() == expected
    assert len(expected) == int((batch["labels"] != IGNORE).sum())
    weighted["step_weights"] = [0, 1]
    assert "loss_weights" not in TrajectoryCollator(encoder)([weighted])
    assert labeled_turns(encoder, weighted) == [assistant_texts(weighted)[1] + "<|im_end|>"]
    weighted["step_weights"] = [1]
    with pytest.raises(InputError, match="has 2 assistant turns, but 1 step_weights"):
        TrajectoryCollator(encoder)([weighted])


def test_processed_pictures_are_kept_within_a_bound(encoder):
    row, other = make_row(1, attached=2), make_row(2, attached=1)
    collator = TrajectoryCollator(encoder)
    first = collator([row])["pixel_values"]
    assert collator([row])["pixel_values"] is first
    assert not torch.equal(collator([other])["pixel_values"][0, 0], first[0, 0])
    assert collator._pixels.bytes == sum(
        value.nbytes for entry in collator._pixels.entries.values() for value in entry.values()
    )
    none = TrajectoryCollator(encoder, pixel_cache_mb=0)
    assert torch.equal(none([row])["pixel_values"], first) and none._pixels.bytes == 0


def test_the_oldest_pictures_leave_a_full_cache(encoder):
    collator = TrajectoryCollator(encoder, pixel_cache_mb=1)
    rows = [make_row(number, attached=1, brought=()) for number in range(8)]
    one = sum(value.nbytes for value in TrajectoryCollator(encoder)._pixels.get(encoder, _pictures(rows[0])).values())
    collator._pixels.max_bytes = 3 * one
    sizes = []
    for row in [*rows, rows[0]]:
        collator([row])
        sizes.append(collator._pixels.bytes)
    assert max(sizes) <= 3 * one and sizes[-1] == 3 * one
    assert sizes[-1] == sum(v.nbytes for entry in collator._pixels.entries.values() for v in entry.values())
    # The last rows are there; the first one had to be processed again.
    kept = collator([rows[-1]])["pixel_values"]
    assert collator([rows[-1]])["pixel_values"] is kept
    assert len(collator._pixels.entries) == 3


def _pictures(row) -> list[list[Image.Image]]:
    return [[Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in row["images"]]]
