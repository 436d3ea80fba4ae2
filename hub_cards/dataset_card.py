"""Dataset cards. Every number in a card comes from the statistics of the data; see `statistics.json` beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from .plots import plot_shares


TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md"
MAX_TABLE_ROWS = 20

# Shares in per cent, from Gao et al., "Multi-Modal Agent Tuning", ICLR 2025, arXiv 2412.15606.
PAPER_URL = "https://arxiv.org/abs/2412.15606"
PAPER_FILE_TYPES = {
    "jpg": 25.9,
    "pdf": 23.4,
    "xlsx": 18.6,
    "png": 15.5,
    "docx": 6.4,
    "mp3": 2.2,
    "mp4": 2.2,
    "csv": 1.7,
    "pptx": 1.1,
    "other": 3.0,
}
PAPER_TOOLS = {
    "ask_search_agent": 35.8,
    "visualizer": 24.5,
    "objectlocation": 14.5,
    "segmentation": 8.3,
    "inspect_file_as_text": 6.0,
    "image_generator": 3.7,
    "image_edit": 3.6,
    "facedetection": 3.6,
}
PAPER_DOMAINS = {
    "finance": 16.4,
    "culture": 14.5,
    "history": 11.4,
    "food": 10.1,
    "environment": 7.3,
    "health": 5.8,
    "others": 5.5,
    "travel": 4.8,
    "entertainment": 4.4,
    "social": 4.2,
    "science": 4.2,
    "transportation": 2.6,
    "geography": 2.5,
    "technology": 2.4,
    "sports": 2.1,
    "nature": 1.9,
}
_PAPER_STEPS = {"2": 11_734, "3": 6_277, "4": 1_400, "5": 620, "6": 253, "7": 87, "8": 43}
PAPER_STEPS = {steps: 100 * count / sum(_PAPER_STEPS.values()) for steps, count in _PAPER_STEPS.items()}

_MEANINGS = {
    "id": "stable hash of the query and its files",
    "query": "the user's words",
    "files": "attachments that are no pictures, with their path in the workspace",
    "images": "every picture in order of appearance: attachments first, then those that steps brought",
    "messages": "the conversation with image placeholders; a picture has no text",
    "steps": "the structured view: thought, code, observation, error, indexes of pictures, tools called, and the "
    "token ids that the model produced (null unless it was a local model)",
    "answer": "what the agent said",
    "ground_truth": "what is known to be right (may be null)",
    "domain": "subject",
    "num_steps": "number of steps",
    "verification": "verdicts by verifier, each with `passed` and `reasons`",
    "provenance": "controller, toolbox, prompt, package version, origin of the task, why the run ended",
    "origin": "where the task comes from",
    "paths": "workspace paths of all attachments, in the order in which they are named to the agent",
}
_MEANINGS_OF = {
    "default": {"tools": "tools that were called"},
    "tasks": {"tools": "tools that a solution is expected to call", "images": "pictures that are attached"},
}


def write_card(
    folder: str | Path,
    statistics: dict[str, Any],
    repo_id: str | None = None,
    name: str = "MM-Traj",
    license: str = "apache-2.0",
) -> Path:
    """Write `README.md` and its plots into a dataset folder.

    Args:
        folder (`str` or `Path`): the dataset repository.
        statistics (`dict`): what the export wrote to `statistics.json`.
        repo_id (`str`, *optional*): where it will be on the Hub, for the loading code.
        name (`str`, *optional*, defaults to `"MM-Traj"`): title.
        license (`str`, *optional*, defaults to `"apache-2.0"`): Hub id of the licence.

    Returns:
        `Path`: the README.
    """
    folder = Path(folder)
    tools, steps = _shares(_without_answer(statistics["tools"])), _shares(statistics["steps"])
    steps = {number: steps.get(number, 0.0) for number in sorted({*steps, *PAPER_STEPS}, key=int)}
    plot_shares(folder / "plots" / "tools.png", "Tool calls", tools, PAPER_TOOLS, "MM-Traj (paper)")
    plot_shares(folder / "plots" / "steps.png", "Steps per trajectory", steps, PAPER_STEPS, "MM-Traj (paper)")
    path = folder / "README.md"
    make_card(statistics, repo_id, name, license).save(path)
    return path


def make_card(
    statistics: dict[str, Any], repo_id: str | None = None, name: str = "MM-Traj", license: str = "apache-2.0"
) -> DatasetCard:
    """The card of a dataset; see [`write_card`] for the arguments."""
    card_data = DatasetCardData(
        license=license,
        pretty_name=name,
        task_categories=["image-text-to-text", "visual-question-answering"],
        tags=["agent", "tool-use", "code-agent", "trajectories", "multimodal", "trl", "arxiv:2412.15606"],
        size_categories=size_category(statistics["rows"]),
        configs=statistics["hub_configs"],
        dataset_info=statistics["dataset_info"],
        source_datasets=["original"],
    )
    configs = statistics["configs"]
    images = {int(number): count for number, count in statistics["images"].items()}
    return DatasetCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=escape(name),
        paper_url=PAPER_URL,
        location=repo_id or "/absolute/path/to/this/folder",
        rows=f"{statistics['rows']:,}",
        rejected=f"{statistics['rejected']:,}",
        num_splits=len(statistics["splits"]),
        num_files=f"{sum(statistics['file_types'].values()):,}",
        num_images=f"{sum(number * count for number, count in images.items()):,}",
        splits_table=_splits_table(configs),
        families=_families(statistics["families"], list(statistics["splits"])),
        column_tables=[(config, _columns_table(config, types)) for config, types in statistics["columns"].items()],
        tools_table=_comparison("tool", _without_answer(statistics["tools"]), PAPER_TOOLS),
        steps_table=_comparison("steps", statistics["steps"], PAPER_STEPS),
        file_types_table=_comparison("type", statistics["file_types"], PAPER_FILE_TYPES),
        domains_table=_comparison("domain", statistics["domains"], PAPER_DOMAINS),
        lengths=_lengths(statistics),
        verification=_verification(statistics),
        verdicts_table=_verdicts_table(statistics["verdicts"]),
        reasons_table=_reasons_table(statistics["reasons"], statistics["rejected"]),
        provenance_table=_provenance_table(statistics),
        licence=_licence(license, statistics["licenses"]),
        sources_table=_sources_table(statistics["sources"]),
        overlaps_table=_overlaps_table(statistics["overlaps"]),
        examples=[_example(example) for example in statistics["examples"]],
        citation=statistics["citation"].strip().replace("```", ""),
    )


def escape(value: Any, limit: int = 200) -> str:
    """Text of the data as plain words in Markdown: one line, no markup, no HTML, no table borders.

    Args:
        value (`Any`): a value of the data.
        limit (`int`, *optional*, defaults to 200): characters that are kept.
    """
    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = " ".join(text.split())
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    text = html.escape(text, quote=False)
    # A colon in a bare address would make it a link.
    return (
        re.sub(r"([\\`*_{}\[\]()#!|~$^])", r"\\\1", text)
        .replace("://", "&#58;//")
        .replace("@", "&#64;")
        .replace("www.", "www&#46;")
    )


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    limits = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"))
    lower = None
    for limit, label in limits:
        if rows < limit:
            return f"n<{label}" if lower is None else f"{lower}<n<{label}"
        lower = label
    return "n>10M"


def table(header: Iterable[str], rows: Iterable[Iterable[str]], right: int = 0) -> str:
    """A Markdown table whose last `right` columns are numbers. Cells are taken as they are."""
    header = list(header)
    ruler = ["---"] * (len(header) - right) + ["---:"] * right
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ruler, *rows])


def _shares(counts: dict[str, int]) -> dict[str, float]:
    total = sum(counts.values()) or 1
    return {name: 100 * count / total for name, count in counts.items()}


def _without_answer(tools: dict[str, int]) -> dict[str, int]:
    # Every trajectory ends with it, and the paper does not count it.
    return {name: count for name, count in tools.items() if name != "final_answer"}


def _comparison(label: str, counts: dict[str, int], paper: dict[str, float]) -> str:
    shares = _shares(counts)
    names = [*list(shares)[:MAX_TABLE_ROWS], *(name for name in paper if name not in shares)]
    if label == "steps":
        names.sort(key=int)
    rows = [
        [
            escape(name),
            f"{shares[name]:.1f} ({counts[name]:,})" if name in shares else "0.0 (0)",
            f"{paper[name]:.1f}" if name in paper else "",
        ]
        for name in names
    ]
    if len(shares) > MAX_TABLE_ROWS:
        rows.append([f"{len(shares) - MAX_TABLE_ROWS} more", "", ""])
    return table([label, "here", "paper"], rows, right=2)


def _splits_table(configs: dict[str, Any]) -> str:
    rows = [
        [f"`{config}`", f"`{split}`", f"{entry['rows']:,}", _bytes(entry["bytes"]), str(len(entry["files"]))]
        for config, splits in configs.items()
        for split, entry in splits.items()
    ]
    return table(["config", "split", "rows", "size", "files"], rows, right=3)


def _families(families: dict[str, dict[str, int]], splits: list[str]) -> str:
    """A sentence and a table about which task families are in which splits; nothing when rows name no family."""
    if not families:
        return ""
    only_test = [name for name, counts in families.items() if set(counts) == {"test"}]
    rows = [
        [escape(name), *(f"{counts.get(split, 0):,}" for split in splits)]
        for name, counts in list(families.items())[: 2 * MAX_TABLE_ROWS]
    ]
    if len(families) > len(rows):
        rows.append([f"{len(families) - len(rows)} more", *("" for _ in splits)])
    text = f"{len(families)} task families, {len(only_test)} of them in `test` only."
    return f"{text}\n\n{table(['family', *(f'`{split}`' for split in splits)], rows, right=len(splits))}\n"


def _bytes(number: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def _columns_table(config: str, types: dict[str, str]) -> str:
    meanings = {**_MEANINGS, **_MEANINGS_OF.get(config, {})}
    return table(
        ["column", "type", "what"],
        [[f"`{name}`", f"`{kind}`", meanings.get(name, "")] for name, kind in types.items()],
    )


def _lengths(statistics: dict[str, Any]) -> str:
    system, rest = statistics["characters"]["system"], statistics["characters"]["rest"]
    share = f", {system / (system + rest):.0%} of the text" if system + rest else ""
    return (
        f"The system prompt has {system:,.0f} characters on average{share}; everything after it {rest:,.0f} "
        "(paper's release, 94 trajectories measured: about 13,300 and 3,500)."
    )


def _verification(statistics: dict[str, Any]) -> str:
    rows, rejected = statistics["rows"], statistics["rejected"]
    made, actions = rows + rejected, statistics["actions"]
    text = f"{rows:,} of {made:,} trajectories ({rows / max(made, 1):.1%}) were kept."
    blocks = actions["ran"] + actions["failed"]
    if blocks:
        text += f" Of their {blocks:,} steps, {actions['ran']:,} ({actions['ran'] / blocks:.1%}) ran without an error."
    return text


def _verdicts_table(verdicts: dict[str, dict[str, int]]) -> str:
    rows = [
        [
            escape(name),
            f"{v['passed']:,}",
            f"{v['failed']:,}",
            f"{v['passed'] / max(v['passed'] + v['failed'], 1):.1%}",
        ]
        for name, v in verdicts.items()
    ]
    return table(["verifier", "passed", "failed", "rate"], rows, right=3) if rows else ""


def _reasons_table(reasons: dict[str, int], rejected: int) -> str:
    if not rejected:
        return ""
    rows = [[escape(reason), f"{count:,}"] for reason, count in list(reasons.items())[:10]]
    if len(reasons) > 10:
        rows.append([f"{len(reasons) - 10} other reasons", f"{sum(list(reasons.values())[10:]):,}"])
    return table(["reason", "trajectories"], rows, right=1)


def _sources_table(sources: dict[str, dict[str, int]]) -> str:
    entries = [(name, licence, number) for name, counts in sources.items() for licence, number in counts.items()]
    rows = [[escape(name), escape(licence), f"{number:,}"] for name, licence, number in entries[: 2 * MAX_TABLE_ROWS]]
    if len(entries) > len(rows):
        others = entries[len(rows) :]
        rows.append([f"{len(others)} more", "", f"{sum(number for *_, number in others):,}"])
    return table(["pictures from", "licence", "pictures"], rows, right=1) if rows else ""


def _overlaps_table(overlaps: dict[str, dict[str, dict[str, int]]]) -> str:
    rows = [
        [f"`{split}`", name, f"{counts['all']:,}", f"{counts['in_train']:,}"]
        for name, splits in overlaps.items()
        for split, counts in splits.items()
    ]
    return table(["split", "what", "different ones", "also in `train`"], rows, right=2) if rows else ""


def _example(example: dict[str, Any]) -> dict[str, Any]:
    """An example for the template: words escaped, code as it is but for what would end its block."""
    steps = []
    for step in example["steps"]:
        code = step["code"].replace("`" * 3, "'" * 3)[:2000]
        steps.append({**{key: escape(step[key], 400) for key in ("thought", "observation")}, "code": code})
    texts = {key: escape(example[key] or "", 400) for key in ("query", "answer", "source")}
    return {**texts, "id": escape(example["id"]), "picture": example["picture"], "steps": steps}


def _provenance_table(statistics: dict[str, Any]) -> str:
    rows = []
    for label, name in (
        ("teacher", "teachers"),
        ("controller", "controllers"),
        ("prompt", "prompts"),
        ("package version", "packages"),
        ("source", "origins"),
    ):
        entries = list(statistics[name].items())
        rows += [[label, escape(value), f"{count:,}"] for value, count in entries[:MAX_TABLE_ROWS]]
        if len(entries) > MAX_TABLE_ROWS:
            others = sum(count for _, count in entries[MAX_TABLE_ROWS:])
            rows.append([label, f"{len(entries) - MAX_TABLE_ROWS} others", f"{others:,}"])
    return table(["what", "value", "rows"], rows, right=1)


def _licence(license: str, licenses: dict[str, int]) -> str:
    text = f"The dataset as a whole: `{license}`."
    if not licenses:
        return text
    rows = [[escape(name), f"{count:,}"] for name, count in licenses.items()]
    return f"{text} Licences that rows name for their own material:\n\n{table(['licence', 'rows'], rows, right=1)}"
