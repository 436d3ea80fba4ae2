"""Every supported family trains on packed rows exactly, or says that it cannot and is grouped by length."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder
from t3_agents.models.families import reason_against_continuous_batching
from tests.helpers.families import FAMILIES, GROUPED, make_family
from tests.helpers.training_rows import (
    PACKING,
    SAME,
    SAME_SHARED,
    TINY,
    assert_same,
    fill_adapter,
    make_dataset,
    make_row,
    trained_parameters,
)
from trainers.attention import use_segment_attention
from trainers.collators import IGNORE, TrajectoryCollator
from trainers.config import TrajectoryConfig
from trainers.sft import build_trainer
from trainers.trainer import supervised_logits


def rows_of(kind: str) -> list[dict]:
    """Pictures in task and observations of rows of different lengths; or also one that all rows begin with."""
    if kind == "own pictures":
        return [make_row(1, attached=1, brought=[0]), make_row(2, attached=0, brought=[1, 0]), make_row(3, attached=0)]
    first, second = make_row(3, attached=2, brought=[0, 1]), make_row(3, attached=2, brought=[1, 0])
    second["images"][1] = make_row(6, attached=2)["images"][1]  # of the same size
    return [first, second]


def make_trainer(family: str, folder, rows, packing: str, **recipe):
    model, processor = make_family(family)
    settings = {**TINY, "lora_modules_to_save": None, **PACKING[packing], **recipe}
    config = TrajectoryConfig(output_dir=str(folder / "run"), **settings)
    trainer = build_trainer(config, model, processor, make_dataset(rows))
    trainer.args.save_strategy = "no"  # a processor without its part for videos cannot be saved
    fill_adapter(trainer.model)
    return trainer


def gradients(trainer, loss) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in trained_parameters(trainer.model).items()}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_rows_by_themselves(family, checkpointing, tmp_path):
    kinds = {kind: rows_of(kind) for kind in ("own pictures", "shared picture")}
    trainer = make_trainer(
        family, tmp_path, sum(kinds.values(), []), packing="shared_prefix", gradient_checkpointing=checkpointing
    )
    trainer.model.train()
    for kind, rows in kinds.items():
        check_loss_and_gradients(trainer, family, kind, list(make_dataset(rows)))


def check_loss_and_gradients(trainer, family, kind, dataset):
    encoder = trainer.data_collator.encoder
    alone = TrajectoryCollator(encoder)
    total, count = 0.0, 0
    for row in dataset:
        batch = alone([row])
        labels = batch.pop("labels")
        logits = trainer.model(**batch).logits[:, :-1]
        total = total + cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        count += int((labels != IGNORE).sum())
    expected, wanted = gradients(trainer, total / count), (total / count).item()
    # An adapter of two matrices on q, k and v of two layers; MiniCPM-V's tiny model has one layer with them.
    assert len(expected) == (6 if "minicpm" in family else 12)
    for packing in ("none",) if family in GROUPED else ("none", "packed", "shared_prefix"):
        batch = TrajectoryCollator(encoder, packing=packing)(dataset)
        if packing == "shared_prefix":
            assert batch["segment_images"][0] == (kind == "shared picture")
        loss = trainer.compute_loss(trainer.model, batch)
        assert loss.item() == pytest.approx(wanted, rel=SAME), packing
        assert_same(expected, gradients(trainer, loss), SAME_SHARED if packing == "shared_prefix" else SAME)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_give_the_same_weights(family, tmp_path):
    """Padded batches of four, against batches of two that are accumulated twice, with checkpointing: padded where the
    family is not packed, else packs without and with a shared prefix."""
    rows = [make_row(number, attached=number % 2, brought=[number % 2] * (number % 3)) for number in range(80)]
    start, expected = weights_after(family, tmp_path / "whole", rows, packing="none", per_device_train_batch_size=4)
    assert all((value - start[name]).abs().max() > 1e-3 for name, value in expected.items())
    halves = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    for packing in ("none",) if family in GROUPED else ("packed", "shared_prefix"):
        _, found = weights_after(family, tmp_path / packing, rows, packing=packing, **halves)
        for name, value in expected.items():
            # Of the matrix: Adam blows the rounding of entries without gradient up to steps.
            error = (value - found[name]).norm() / value.norm()
            assert error < SAME_SHARED, f"{packing} {name}: {error}"


def weights_after(family, folder, rows, **recipe) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Trained weights before and after 20 optimizer steps."""
    trainer = make_trainer(family, folder, rows, learning_rate=5e-4, **recipe)
    start = {name: p.detach().clone() for name, p in trained_parameters(trainer.model).items()}
    trainer.train()
    assert trainer.state.global_step == 20
    return start, {name: p.detach() for name, p in trained_parameters(trainer.model).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_labels_pixels_and_loss_are_those_of_the_stock_collator(family, tmp_path):
    """Stock TRL on the same row: by the `generation` marks of the template, with the loss of transformers itself."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    # LLaVA-OneVision cuts a picture into patches only where it is the row's only one; ours always does.
    brought = [0] if family == "llava_onevision" else [1, 2]
    rows = [make_row(2, attached=1, brought=brought), make_row(3, attached=0)]
    trainer = make_trainer(family, tmp_path, rows, packing="none")
    stock = DataCollatorForVisionLanguageModeling(trainer.processing_class, assistant_only_loss=True)
    trainer.model.eval()
    for row in make_dataset(rows):
        ours, theirs = trainer.data_collator([row]), stock([row])
        assert ours["row_ids"] == [row["id"]]
        assert set(ours) - {"row_ids"} == set(theirs)
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name
        loss = trainer.compute_loss(trainer.model, ours).item()
        assert loss == pytest.approx(trainer.model(**theirs).loss.item(), rel=1e-4)  # theirs is in single precision
        if row["images"]:  # other pixels are another loss
            other = trainer.compute_loss(trainer.model, {**ours, "pixel_values": -ours["pixel_values"]}).item()
            assert abs(other - loss) > 1e-6 * loss


@pytest.mark.parametrize("packing", ["none", "shared_prefix"])
@pytest.mark.parametrize("family", ["idefics3", "internvl"])
def test_a_processor_of_another_model_stops_the_run_at_its_start(family, packing, tmp_path):
    """A picture takes one token more than the model has features for it."""
    model, processor = make_family(family)
    processor.image_seq_len = processor.image_seq_length = 5
    row, other = make_row(1), make_row(2)
    config = TrajectoryConfig(
        output_dir=str(tmp_path / "run"), **{**TINY, "lora_modules_to_save": None, **PACKING[packing]}
    )
    message = (
        rf"^The rows ({row['id']}|{other['id']}).* do not fit .*: .*Use the processor that the model was released"
    )
    with pytest.raises(InputError, match=message):
        build_trainer(config, model, processor, make_dataset([row, other])).train()


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("gemma3", "Gemma3ForConditionalGeneration reads pictures in both directions"),
        ("minicpmv4_6", "MiniCPMV4_6ForConditionalGeneration has layers without full attention"),
        ("minicpmv4_7", "MiniCPMV4_7ForConditionalGeneration has layers without full attention"),
    ],
)
def test_a_family_that_cannot_be_packed_is_grouped_by_length(family, reason, tmp_path, caplog):
    rows = [make_row(number, attached=0, brought=[0] * (number % 3)) for number in range(6)]
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(family, tmp_path, rows, packing="shared_prefix", per_device_train_batch_size=2)
    assert f"Rows are grouped by length instead of packed: {reason}." in caplog.text
    assert reason_against_continuous_batching(trainer.model.get_base_model()) == reason
    assert trainer.data_collator.packing == "none"
    lengths = [len(trainer.data_collator.encode(row).ids) for row in make_dataset(rows)]
    assert [sorted(lengths[i] for i in batch) for batch in trainer.batches] == [
        sorted(part) for part in zip(*[iter(sorted(lengths, reverse=True))] * 2, strict=True)
    ]
    trainer.train()
    assert trainer.state.global_step == 3


def test_linear_attention_reads_from_one_packed_row_into_the_next(tmp_path):
    """What the refusal of MiniCPM-V is for: only the first row of a pack would be trained as it is."""
    model, processor = make_family("minicpmv4_6")
    use_segment_attention(model)
    encoder, rows = ChatEncoder(processor), list(make_dataset(rows_of("own pictures")))
    logits = {}
    for packing, batches in {"none": [[row] for row in rows], "packed": [rows]}.items():
        collator = TrajectoryCollator(encoder, packing=packing)
        with torch.no_grad():
            logits[packing] = torch.cat([supervised_logits(model, model, collator(batch))[0] for batch in batches])
    first = sum(TrajectoryCollator(encoder).encode(rows[0]).produced)
    error = (logits["none"] - logits["packed"]).abs()
    assert error[:first].max() < SAME and error[first:].max() > 0.1


def test_rows_with_pictures_are_part_of_the_check(tmp_path, caplog):
    """The check compares logits, so wrong positions of pictures show; without pictures they are right."""
    model, processor = make_family("qwen2_vl")
    model.config.get_text_config().rope_parameters.pop("mrope_section")
    rows = [make_row(number, attached=0, brought=[0]) for number in range(4)]
    config = TrajectoryConfig(output_dir=str(tmp_path / "run"), **{**TINY, "lora_modules_to_save": None})
    assert build_trainer(config, model, processor, make_dataset(rows)).data_collator.packing == "shared_prefix"
    with caplog.at_level(logging.WARNING):
        build_trainer(config, model, processor, make_dataset([*rows, *rows_of("own pictures")]))
    message = "Rows are grouped by length instead of packed: logits of packed rows of Qwen2VL.* are off by "
    assert re.search(message, caplog.text)
