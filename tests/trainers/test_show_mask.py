"""What is shown of a loss mask is what the collator labels."""

from __future__ import annotations

import re

import pytest

from t3_agents.cli import main
from tests.helpers.training_rows import make_row, write_dataset
from trainers.collators import IGNORE, TrajectoryCollator
from trainers.show_mask import mask_as_text, pieces, title


def test_marked_text_is_what_is_labeled(encoder):
    collator = TrajectoryCollator(encoder)
    row = make_row(4, attached=2, brought=[1, 0], system_prompt="word " * 200)
    conversation = collator.encode(row)
    labels = collator([row])["labels"][0]
    shown = list(pieces(encoder, conversation))
    trained = "".join(piece.text for piece in shown if piece.kind == "trained")
    assert trained == encoder.tokenizer.decode([label for label in labels.tolist() if label != IGNORE])
    assert [piece.kind for piece in shown].count("picture") == 3
    [cut] = [piece.text for piece in shown if piece.kind == "cut"]
    hidden = int(re.search(r"\d+", cut)[0])
    visible = sum(len(encoder.tokenizer(p.text)["input_ids"]) for p in shown if p.kind in ("read", "trained"))
    pictures = sum(end - start for start, end in conversation.image_spans)
    assert hidden > 100 and visible + pictures + hidden == pytest.approx(len(conversation.ids), abs=4)
    text = mask_as_text(encoder, conversation)
    assert [text.plain[s.start : s.end] for s in text.spans if "green" in str(s.style)] == [
        piece.text for piece in shown if piece.kind == "trained"
    ]
    assert f"{int((labels != IGNORE).sum())} trained on, 3 turns, 3 pictures" in title("r", conversation)


def test_the_command_prints_rows_and_writes_a_page(tiny_vlm, tmp_path, capsys):
    rows = [make_row(1), make_row(2), make_row(3)]
    hostile = "[link=javascript:alert(1)]x[/link][/b]</pre><script>alert(1)</script>\x1b]8;;http://evil.example\x07"
    rows[0]["messages"][1]["content"][-1]["text"] += hostile
    rows[1]["id"] = "[link=javascript:1]<script>[/b]"
    data = write_dataset(tmp_path / "data_mask", rows)
    arguments = ["--dataset_name", str(data), "--output_dir", str(tmp_path / "run")]
    arguments += ["--model_name_or_path", str(tiny_vlm)]
    assert main(["train", *arguments, "--show-mask", "2"]) == 0
    output = capsys.readouterr().out
    assert output.count("trained on") == 2 and "[picture, " in output and "final_answer('red 2')" in output
    page = (tmp_path / "run" / "mask.html").read_text()
    assert page.count("trained on") == 2 and "final_answer(&#x27;red 2&#x27;)" in page
    assert "<script" not in page and page.count("&lt;script&gt;") == 2 and "<a " not in page
    assert "default-src 'none'" in page and "\x1b]8" not in output + page and "\\u001b]8" in page
    assert not list((tmp_path / "run").glob("checkpoint-*"))
