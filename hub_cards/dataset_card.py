"""Dataset cards. Every number in a card comes from the statistics of the data; see `statistics.json` beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from t3_agents.evaluation.published import beside_paper
from t3_agents.reports.markdown import Markdown, code, escape, fenced, join, render, table
from t3_agents.reports.plots import Plot, draw_shares
from t3_agents.reports.tables import shares_table


MAX_TABLE_ROWS = 20
MAX_TEXT = 200
"""Characters of a text of the data in a card."""
PLOTTED = ("tools", "steps")
Entry = tuple[tuple[str, ...], list[int]]
"""Names and numbers of a row of a table."""


def write_card(
    folder: str | Path,
    statistics: dict[str, Any],
    repo_id: str | None = None,
    name: str = "MM-Traj",
    license: str = "apache-2.0",
    place: str | Path | None = None,
) -> Path:
    """Write `README.md` and its plots into a dataset folder.

    Args:
        folder (`str` or `Path`): the dataset repository.
        statistics (`dict`): what the export wrote to `statistics.json`.
        repo_id (`str`, *optional*): where it will be on the Hub, for the loading code.
        name (`str`, *optional*, defaults to `"MM-Traj"`): title.
        license (`str`, *optional*, defaults to `"apache-2.0"`): Hub id of the license.
        place (`str` or `Path`, *optional*): where it will be on this machine, by default `folder`.

    Returns:
        `Path`: the README.
    """
    folder = Path(folder)
    distributions = beside_paper(statistics)
    for axis in PLOTTED:
        _plot(axis, draw_shares(distributions[axis])).write(folder)
    path = folder / "README.md"
    make_dataset_card(statistics, repo_id, name, license, place or folder).save(path)
    return path


def _plot(axis: str, content: bytes = b"") -> Plot:
    return Plot(f"plots/{axis}.png", f"{axis.capitalize()} beside the paper's", content)


def make_dataset_card(
    statistics: dict[str, Any],
    repo_id: str | None = None,
    name: str = "MM-Traj",
    license: str = "apache-2.0",
    place: str | Path = "",
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
    splits = list(statistics["splits"])
    families = [
        ((name,), [counts.get(split, 0) for split in splits]) for name, counts in statistics["families"].items()
    ]
    sources = [((name, one), [n]) for name, licenses in statistics["sources"].items() for one, n in licenses.items()]
    content = render(
        "hub_cards",
        "dataset_card.md",
        card_data=Markdown(card_data.to_yaml()),
        name=name,
        location=Markdown(f'"{repo_id}"' if repo_id else _local(place)),
        is_local=not repo_id,
        license=license,
        found=statistics,
        number="{:,}".format,
        percent="{:.1%}".format,
        short=_short,
        code=code,
        num_images=sum(int(number) * count for number, count in statistics["images"].items()),
        shares=_shares(statistics),
        families=_table(["family", *splits], families, 2 * MAX_TABLE_ROWS),
        only_test=sum(set(counts) == {"test"} for counts in statistics["families"].values()),
        reasons=_table(["reason", "trajectories"], _counted(statistics["reasons"]), 10),
        licenses=_table(["license", "rows"], _counted(statistics["licenses"])),
        sources=_table(["pictures from", "license", "pictures"], sources, 2 * MAX_TABLE_ROWS),
        provenance=_provenance(statistics),
        examples=[_example(example) for example in statistics["examples"]],
        citation=fenced(statistics["citation"].strip(), "bibtex"),
    )
    return DatasetCard(content)


def _local(place: str | Path) -> str:
    """Python that names a folder of this machine; `load_dataset` takes a relative one for a Hub id."""
    place = Path(place)
    name = "/absolute/path/to/this/folder" if place.is_absolute() else place.as_posix()
    return f'"{name}"' if place.is_absolute() else f'os.path.abspath("{name}")'


def size_category(rows: int) -> str:
    """The Hub's size category of a number of rows."""
    limits = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"))
    lower = None
    for limit, label in limits:
        if rows < limit:
            return f"n<{label}" if lower is None else f"{lower}<n<{label}"
        lower = label
    return "n>10M"


def _short(text: object) -> Markdown:
    return escape(text, MAX_TEXT)


def _counted(counts: Mapping[str, int], *names: str) -> list[Entry]:
    return [((*names, name), [count]) for name, count in counts.items()]


def _rows(entries: Sequence[Entry], limit: int = MAX_TABLE_ROWS) -> list[list[str]]:
    """Names and their numbers as cells, the first `limit` one by one and the others in one row."""
    rows = [[*map(_short, names), *(f"{number:,}" for number in numbers)] for names, numbers in entries[:limit]]
    others = entries[limit:]
    if others:
        sums = [f"{sum(column):,}" for column in zip(*(numbers for _, numbers in others), strict=True)]
        rows.append([*[""] * (len(others[0][0]) - 1), f"{len(others)} others", *sums])
    return rows


def _table(header: Sequence[str], entries: Sequence[Entry], limit: int = MAX_TABLE_ROWS) -> Markdown | None:
    return table(header, _rows(entries, limit), right=len(entries[0][1])) if entries else None


def _shares(statistics: dict[str, Any]) -> Markdown:
    """The axes of the paper one by one, with a plot of those that have one."""
    blocks = []
    for axis, found in beside_paper(statistics).items():
        shown = shares_table(found, MAX_TABLE_ROWS)
        rows = [[_short(row[0]), *row[1:]] for row in shown.rows]
        blocks += [Markdown(f"### {shown.title}"), _plot(axis).markdown if axis in PLOTTED else ""]
        blocks.append(table(shown.header, rows, shown.right))
    return join(*blocks)


def _provenance(statistics: dict[str, Any]) -> Markdown:
    labels = {
        "teacher": "teachers",
        "controller": "controllers",
        "prompt": "prompts",
        "package version": "packages",
        "source": "origins",
    }
    rows = [row for label, name in labels.items() for row in _rows(_counted(statistics[name], label))]
    return table(["what", "value", "rows"], rows, right=1)


def _example(example: dict[str, Any]) -> dict[str, Any]:
    """An example for the template: texts shortened, code as it is in a block that it cannot close."""
    steps = [
        {
            "thought": escape(step["thought"], 400),
            "observation": escape(step["observation"], 400),
            "code": Markdown(textwrap.indent(fenced(step["code"][:2000], "py"), "   ")),
        }
        for step in example["steps"]
    ]
    texts = {key: escape(example[key] or "", 400) for key in ("query", "answer", "source")}
    return {**texts, "id": example["id"], "picture": example["picture"], "steps": steps}
