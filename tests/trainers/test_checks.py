"""The chat templates that families are released with, and templates that must not be trained on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trl

from t3_agents.errors import InputError
from t3_agents.models.encoding import ChatEncoder
from tests.helpers.families import CHATML, make_family
from tests.helpers.training_rows import TINY, make_dataset, make_row
from trainers.checks import check_family
from trainers.collators import IGNORE, TrajectoryCollator
from trainers.config import TrajectoryConfig
from trainers.sft import build_trainer


TEMPLATES = Path(trl.__file__).parent / "chat_templates"
"""TRL keeps templates as they are on the Hub."""

TURNS = ["<start_of_turn>", "<end_of_turn>", "<end_of_utterance>", "<think>", "</think>"]


def make_encoder(family: str, template: str) -> ChatEncoder:
    _, processor = make_family(family)
    processor.tokenizer.add_special_tokens(
        {"additional_special_tokens": TURNS},
        replace_extra_special_tokens=False,
    )
    processor.chat_template = template
    return ChatEncoder(processor)


def labeled(encoder: ChatEncoder, row: dict) -> list[str]:
    """Text of each stretch of labels."""
    labels = TrajectoryCollator(encoder)([row])["labels"][0].tolist()
    text = encoder.tokenizer.decode([encoder.tokenizer.pad_token_id if i == IGNORE else i for i in labels])
    return [piece for piece in text.split(encoder.tokenizer.pad_token) if piece]


TEXT = "{{ message.content[0].text }}"
PLAIN = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
ROW = make_row(2, attached=1, brought=[1, 0])


@pytest.mark.parametrize(
    ("family", "template", "before", "end"),
    [
        ("smolvlm", "smolvlm", " ", "<end_of_utterance>"),
        ("idefics3", "idefics3", " ", "<end_of_utterance>"),
        ("qwen2_vl", "qwen2_5_vl", "", "<|im_end|>"),
        ("qwen2_5_vl", "qwen2_5_vl", "", "<|im_end|>"),
        ("qwen3_vl", "qwen3_vl", "", "<|im_end|>"),
        ("gemma3", "gemma3", "", "<end_of_turn>"),
    ],
)
def test_released_templates_can_be_trained_on(family, template, before, end, tmp_path):
    """What their recipes say: only appended, the turn and its end with a loss, and the blank that the prompt lacks."""
    encoder = make_encoder(family, (TEMPLATES / f"{template}.jinja").read_text())
    check_family(encoder, [ROW])
    texts = [m["content"][0]["text"] for m in ROW["messages"] if m["role"] == "assistant"]
    assert labeled(encoder, ROW) == [before + text + end for text in texts]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # Thoughts of earlier turns are left out, or an empty one is put before the turn.
        ((TEMPLATES / "qwen3_5_think.jinja").read_text(), "rewrites earlier turns, .* becomes "),
        ((TEMPLATES / "qwen3_5_nothink.jinja").read_text(), "rewrites earlier turns, .* becomes "),
        (
            PLAIN.replace("{% generation %}", "{% generation %}<think>\n\n</think>\n\n"),
            "^Row {id} has a loss on other words than its assistant turn 1 has: use a chat template that",
        ),
        (
            PLAIN.replace(TEXT, f"{TEXT[:-3]} | replace('Code', '') }}}}"),
            "^Row {id} has a loss on other words than its assistant turn 1 has",
        ),
        (PLAIN.replace(TEXT, f"{TEXT[:-3]} | upper }}}}"), "does not write what the assistant says"),
        (PLAIN.replace("<|im_end|>", ""), "^The chat template .* writes no special token behind an assistant turn"),
        (CHATML.replace("IMAGE", ""), r"^Row {id}: .* writes 0 of 2 pictures: use one that writes `<\|image_pad\|>`"),
    ],
    ids=["thinking", "not thinking", "empty thought", "some words", "no words", "no end", "no pictures"],
)
def test_templates_that_must_not_be_trained_on_are_refused(template, message, tmp_path):
    with pytest.raises(InputError) as caught:
        check_family(make_encoder("qwen3_vl", template), [ROW])
    assert re.search(message.replace("{id}", ROW["id"]), str(caught.value))


def test_the_row_is_shown_before_a_run_stops(tmp_path, capsys):
    model, processor = make_family("qwen2_vl")
    processor.chat_template = processor.chat_template.replace(TEXT, f"{TEXT[:-3]} | replace('Code', 'Note') }}}}")
    config = TrajectoryConfig(output_dir=str(tmp_path / "run"), **{**TINY, "lora_modules_to_save": None})
    with pytest.raises(InputError, match="has a loss on other words"):
        build_trainer(config, model, processor, make_dataset([ROW]))
    shown = capsys.readouterr().err
    assert f"Row {ROW['id']}: " in shown and "Note:" in shown and "[picture, " in shown
