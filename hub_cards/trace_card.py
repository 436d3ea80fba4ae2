"""Runs as shareable traces: trajectories, scores and report, redacted, with a card that says what was done."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from t3_agents.errors import InputError
from t3_agents.media import without_metadata
from t3_agents.redaction import Redactor, charset_of
from t3_agents.reports.markdown import Markdown, render, table
from t3_agents.storage import BlobStore, read_rows, write_atomic


TRAJECTORIES, REDACTION = "trajectories.jsonl", "redaction.json"
# What a run has besides its trajectories; settings and logs stay where they are.
_TEXTS = ("results.json", "scores.json", "scores.jsonl", "report.json", "report.md")
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml")


def export_traces(run: str | Path, folder: str | Path, redactor: Redactor | None = None) -> dict[str, Any]:
    """Write a redacted copy of a run.

    Texts are redacted wherever they are in a trajectory, and in attached text files of any Unicode charset. Pictures
    lose what is written beside their pixels. Documents and other binary files are copied as they are and not looked
    into. Token ids of a changed turn are dropped: they spell it.

    Args:
        run (`str` or `Path`): folder with `trajectories.jsonl` and `blobs/`, of `t3 eval` or `t3 run`.
        folder (`str` or `Path`): where to write.
        redactor ([`Redactor`], *optional*): the rules.

    Returns:
        `dict`: what was replaced, by kind, and which files were not looked into; also in `redaction.json`.

    Raises:
        InputError: when the folder holds no run.
    """
    run, folder = Path(run), Path(folder)
    if not (run / TRAJECTORIES).is_file():
        raise InputError(f"{run} holds no run: there is no {TRAJECTORIES} in it.")
    redactor = redactor or Redactor()
    source, target = BlobStore(run / "blobs"), BlobStore(folder / "blobs")
    not_looked_into: Counter[str] = Counter()
    renamed: dict[str, str] = {}

    def copy(file: dict[str, Any]) -> None:
        digest = file["sha256"]
        if digest not in renamed:
            data = source.get(digest)
            charset = charset_of(data) if str(file["media_type"]).startswith(_TEXT_TYPES) else None
            if charset is not None:
                before = data.decode(charset, errors="surrogateescape" if charset == "utf-8" else "replace")
                after = redactor.text(before)
                if after != before:
                    data = after.encode("utf-8", errors="surrogateescape")
            else:
                data = without_metadata(data)
                not_looked_into[file["media_type"]] += 1
            renamed[digest] = target.put(data)
        file["sha256"] = renamed[digest]

    lines = []
    for row in read_rows(run / TRAJECTORIES):
        clean = redactor.record(row)
        for before, after in zip(row["steps"], clean["steps"], strict=True):
            if before["model_output"] != after["model_output"]:
                after["output_ids"] = None
        for file in (*clean["task"]["files"], *clean["images"]):
            copy(file)
        lines.append(json.dumps(clean))
    write_atomic(folder / TRAJECTORIES, "".join(f"{line}\n" for line in lines))
    for name in _TEXTS:
        if (run / name).is_file():
            write_atomic(folder / name, redactor.text((run / name).read_text(encoding="utf-8")))
    for pictures in run.glob("*_files"):
        for path in (path for path in pictures.rglob("*") if path.is_file() and not path.is_symlink()):
            write_atomic(folder / path.relative_to(run), without_metadata(path.read_bytes()))
            not_looked_into["report pictures"] += 1
    found = {
        "trajectories": len(lines),
        "replaced": dict(sorted(redactor.counts.items())),
        "not_looked_into": dict(sorted(not_looked_into.items())),
    }
    write_atomic(folder / REDACTION, json.dumps(found, indent=2) + "\n")
    return found


def make_trace_card(found: dict[str, Any], repo_id: str) -> DatasetCard:
    """The card of a repository of traces.

    Args:
        found (`dict`): what [`export_traces`] gave.
        repo_id (`str`): where it will be.
    """
    card_data = DatasetCardData(
        pretty_name=repo_id.partition("/")[2],
        tags=["agent", "agent-traces", "trajectories", "t3-agents"],
        configs=[{"config_name": "default", "data_files": [{"split": "test", "path": TRAJECTORIES}]}],
    )
    tables = {
        f"{part}_table": table(header, [[kind, f"{count:,}"] for kind, count in found[part].items()], right=1)
        for part, header in (("replaced", ["what", "times"]), ("not_looked_into", ["type", "files"]))
        if found[part]
    }
    content = render(
        "hub_cards",
        "trace_card.md",
        card_data=Markdown(card_data.to_yaml()),
        repo_id=Markdown(repo_id),
        name=repo_id.partition("/")[2],
        trajectories=f"{found['trajectories']:,}",
        **tables,
    )
    return DatasetCard(content)
