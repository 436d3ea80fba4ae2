"""Stock TRL trains on the exported dataset as it stands."""

from __future__ import annotations

import pytest
from datasets import load_dataset

from dataset_builder.export import export_dataset
from tests.helpers.run_samples import make_trajectory, write_shard


# The turns of Idefics3's own template.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
)


def tiny_idefics3():
    """An Idefics3 model and processor with random weights, over the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.idefics3 import Idefics3ImageProcessorPil

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end_of_utterance>",
        additional_special_tokens=special,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    processor = Idefics3Processor(images, wrapped, image_seq_len=4, chat_template=TEMPLATE)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = Idefics3Config(
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **sizes, "num_key_value_heads": 1, "vocab_size": len(wrapped)},
        scale_factor=2,
        image_token_id=wrapped.convert_tokens_to_ids("<image>"),
        pad_token_id=wrapped.pad_token_id,
    )
    return Idefics3ForConditionalGeneration(config), processor


@pytest.mark.slow
@pytest.mark.parametrize("remove_unused_columns", [True, False])
def test_stock_trainer_trains_on_it(tmp_path, remove_unused_columns):
    from trl import SFTConfig, SFTTrainer

    run = tmp_path / "run"
    # Rows without, with one and with several pictures, so that batches mix them.
    write_shard(run, "train-a", [make_trajectory(tmp_path / "files", n, pictures=n % 3) for n in range(6)])
    dataset = load_dataset(str(export_dataset(run, tmp_path / "out")), cache_dir=str(tmp_path / "cache"))["train"]
    model, processor = tiny_idefics3()
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
        assert tokens == 4 * pictures
        seen += pictures
    assert seen == sum(len(row["images"]) for row in dataset)
    assert trainer.train().training_loss > 0
