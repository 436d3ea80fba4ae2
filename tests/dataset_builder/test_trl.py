"""Stock TRL trains on the exported dataset as it stands."""

from __future__ import annotations

import pytest
from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor

from dataset_builder.export import export_dataset
from tests.helpers.run_samples import make_trajectory, write_shard


@pytest.mark.slow
@pytest.mark.parametrize("remove_unused_columns", [True, False])
def test_stock_trainer_trains_on_it(tiny_vlm, tmp_path, remove_unused_columns):
    from trl import SFTConfig, SFTTrainer

    run = tmp_path / "run"
    # Rows without, with one and with several pictures, so that batches mix them.
    write_shard(run, "train-a", [make_trajectory(tmp_path / "files", n, pictures=n % 3) for n in range(6)])
    dataset = load_dataset(str(export_dataset(run, tmp_path / "out")), cache_dir=str(tmp_path / "cache"))["train"]
    model, processor = AutoModelForImageTextToText.from_pretrained(tiny_vlm), AutoProcessor.from_pretrained(tiny_vlm)
    arguments = SFTConfig(
        output_dir=str(tmp_path / "trained"),
        max_length=None,
        num_train_epochs=1,
        per_device_train_batch_size=3,
        remove_unused_columns=remove_unused_columns,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to=[],
    )
    trainer = SFTTrainer(model, arguments, train_dataset=dataset, processing_class=processor)
    seen = 0
    for batch in trainer.get_train_dataloader():
        tokens = (batch["input_ids"] == model.config.image_token_id).sum().item()
        pictures = batch["pixel_attention_mask"].flatten(2).any(-1).sum().item()
        assert tokens == processor.image_seq_len * pictures
        seen += pictures
    assert seen == sum(len(row["images"]) for row in dataset)
    assert trainer.train().training_loss > 0
