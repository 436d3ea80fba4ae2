"""A card says what the statistics say, parses on the Hub, and nothing in the data can break it."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from PIL import Image

from hub_cards.dataset_card import make_dataset_card, size_category, write_card
from t3_agents.evaluation.published import paper_shares
from t3_agents.reports.markdown import escape


def example(text="Look at it."):
    step = {"thought": text, "code": f"print({text!r})", "observation": text}
    return {"id": "a1", "source": text, "picture": "examples/1.png", "query": text, "answer": text, "steps": [step]}


def statistics(**changes):
    split = {"rows": 3, "bytes": 2_500_000, "files": ["data/train-00000-of-00001.parquet"]}
    found = {
        "rows": 3,
        "rejected": 1,
        "splits": {"train": 3},
        "configs": {"default": {"train": split}},
        "hub_configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}], "default": True}
        ],
        "columns": {"default": {"id": "string", "images": "list<image>"}},
        "file_types": {"png": 2, "pdf": 1},
        "tools": {"visualizer": 3, "final_answer": 3, "segmentation": 1},
        "domains": {"food": 3},
        "steps": {"2": 1, "10": 2},
        "images": {"0": 1, "2": 2},
        "families": {"maps": {"train": 3}},
        "origins": {},
        "teachers": {"scenarios": 3},
        "prompts": {"compact": 3},
        "controllers": {"offline": 3},
        "packages": {"0.1.0": 3},
        "licenses": {},
        "dataset_info": [{"config_name": "default", "dataset_size": 2_500_000}],
        "sources": {"maps": {"cc0": 2}},
        "overlaps": {"queries": {"test": {"all": 4, "in_train": 1}}, "pictures": {"test": {"all": 5, "in_train": 0}}},
        "examples": [example()],
        "reasons": {"trajectory: the answer is wrong": 1},
        "verdicts": {"trajectory": {"passed": 3, "failed": 1}},
        "actions": {"ran": 8, "failed": 2},
        "characters": {"system": 13_000.0, "rest": 4_000.0},
        "citation": "@inproceedings{x,\n  title = {T},\n}\n",
    }
    return {**found, **changes}


def test_card_is_written_from_the_statistics(tmp_path):
    path = write_card(tmp_path, statistics(), repo_id="user/mm-traj")
    card = DatasetCard.load(path)
    assert card.data.license == "apache-2.0"
    assert card.data.size_categories == "n<1K"
    assert card.data.to_dict()["configs"] == statistics()["hub_configs"]
    assert "image-text-to-text" in card.data.task_categories and "arxiv:2412.15606" in card.data.tags
    text = card.text
    for line in (
        'load_dataset("user/mm-traj")',
        "3 trajectories in 1 split, 3 attached files, 4 pictures. 1 more were made and not kept.",
        "| `default` | `train` | 3 | 2.5 MB | 1 |",
        "| visualizer | 75.0 (3) | 24.5 |",
        "| ask_search_agent | 0.0 (0) | 35.8 |",
        "| 10 | 66.7 (2) | – |",
        "3 of 4 trajectories (75.0%) were kept. Of their 10 steps, 8 (80.0%) ran without an error.",
        "| trajectory | 3 | 1 | 75.0% |",
        "| trajectory: the answer is wrong | 1 |",
        "| prompt | compact | 3 |",
        "13,000 characters on average, 76.5% of the text",
        "title = {T},",
        "| maps | cc0 | 2 |",
        "| `test` | queries | 4 | 1 |",
        "![First picture of row a1](examples/1.png)",
        "   print('Look at it.')",
    ):
        assert line in text
    assert "final" not in text and "{{" not in text and "{%" not in text
    for name in ("tools", "steps"):
        assert Image.open(tmp_path / "plots" / f"{name}.png").width > 500
        assert f"(plots/{name}.png)" in text


def test_steps_are_in_the_order_of_numbers():
    rows = re.findall(r"^\| (\d+) \|", make_dataset_card(statistics()).text, re.MULTILINE)
    assert rows == sorted({*paper_shares("steps"), "2", "10"}, key=int)


HOSTILE = [
    "---\nlicense: mit\n---",
    "a | b\n| c | d |",
    "</td><script>alert(1)</script><!--",
    "``` \n# Title\n```",
    "![x](https://example.org/x.png) [y](javascript:z) www.example.org me@example.org",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "$x_1$ ~~gone~~ **bold** \\| \\",
    "\u202eturned\u0000 \u2028 line",
    "[" * 5000,
]


def card_about(text):
    found = statistics(
        reasons={text: 1},
        families={text: {"train": 3}},
        controllers={text: 3},
        domains={text: 3},
        tools={text: 3},
        file_types={text: 3},
        verdicts={text: {"passed": 1, "failed": 0}},
        licenses={text: 3},
        sources={text: {text: 2}},
        examples=[example(text)],
    )
    return DatasetCard(str(make_dataset_card(found)))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_the_data_cannot_break_the_card(text):
    card, harmless = card_about(text), card_about("x")
    assert card.data.to_dict() == harmless.data.to_dict()
    assert shape(card.text) == shape(harmless.text)


def shape(text):
    """Blocks, addresses and pictures of a page, but for rows of tables."""
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    tokens = [token for block in blocks for token in (block, *(block.children or ()))]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline")]
    links = [token.attrGet("src") or token.attrGet("href") for token in tokens if token.type in ("image", "link_open")]
    kinds = [block.type for block in blocks if not re.match("t[rhd]_|tbody|inline", block.type)]
    columns = [block.content for block, after in zip(blocks[1:], blocks, strict=False) if after.type == "th_open"]
    return kinds, links, columns


def test_names_of_the_data_cannot_break_a_plot(tmp_path):
    write_card(tmp_path, statistics(tools={text: 1 for text in HOSTILE}))
    assert Image.open(tmp_path / "plots" / "tools.png").height > 500


def test_long_lists_are_cut():
    tools = {f"tool_{n}": 100 - n for n in range(60)}
    text = make_dataset_card(statistics(tools=tools, reasons={f"because {n}": 1 for n in range(30)})).text
    assert "tool_19" in text and "tool_20" not in text and "| 40 more |" in text
    assert "because 9" in text and "| 20 others | 20 |" in text
    assert all(escape(name) in text for name in paper_shares("tools"))


def test_nothing_to_show_is_left_out(tmp_path):
    empty = {"steps": {}, "tools": {}, "images": {}, "families": {}, "verdicts": {}, "reasons": {}, "rejected": 0}
    found = statistics(**empty, actions={"ran": 0, "failed": 0}, characters={"system": 0.0, "rest": 0.0})
    write_card(tmp_path, found)
    text = DatasetCard.load(tmp_path / "README.md").text
    assert "Why trajectories" not in text and "| verifier |" not in text and "task famil" not in text


@pytest.mark.parametrize(
    "rows, label", [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (20_000, "10K<n<100K"), (10**8, "n>10M")]
)
def test_size_category(rows, label):
    assert size_category(rows) == label
