"""Rows in the ShareGPT form of LLaMA-Factory and ms-swift, with pictures."""

from __future__ import annotations

from typing import Any

from t3_agents.errors import InputError
from t3_agents.trajectory import Trajectory

from .file_copies import FileCopies
from .import_sharegpt import MARK


_SPEAKERS = {"user": "human", "assistant": "gpt"}


def sharegpt_row(trajectory: Trajectory, copies: FileCopies) -> dict[str, Any]:
    """The rendered conversation, exactly the text that is trained on, with `<image>` where a picture comes up.

    The form carries no structure of steps, verdicts, token ids or times. Where files are is in a column `files`.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
        copies ([`FileCopies`]): where they are copied to.

    Raises:
        InputError: when a file cannot be copied, or a text has the mark itself.
    """
    system, turns = "", []
    for message in trajectory.to_messages():
        texts = [part["text"] for part in message["content"] if part["type"] == "text"]
        if any(MARK in text for text in texts) and message["role"] != "system":
            raise InputError(f"A turn has the word {MARK}, which would stand for a picture.")
        if message["role"] == "system":
            system = "".join(texts)
            continue
        value = "".join(MARK if part["type"] == "image" else part["text"] for part in message["content"])
        turns.append({"from": _SPEAKERS[message["role"]], "value": value})
    images = [copies.add(image) for image in trajectory.images]
    files = [{"path": file.path, "file": copies.add(file)} for file in (*trajectory.task.files, *trajectory.images)]
    return {
        "id": trajectory.task.id,
        "system": system,
        "conversations": turns,
        "images": images,
        "files": [entry for place, entry in enumerate(files) if entry not in files[:place]],
        "answer": trajectory.answer,
    }


def dataset_info(splits: list[str]) -> dict[str, Any]:
    """What LLaMA-Factory's `dataset_info.json` says of the files of an export."""
    columns = {"messages": "conversations", "images": "images", "system": "system"}
    return {
        f"t3_{split}": {"file_name": f"{split}.jsonl", "formatting": "sharegpt", "columns": columns}
        for split in splits
    }
