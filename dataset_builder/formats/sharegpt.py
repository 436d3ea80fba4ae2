"""Rows in the ShareGPT form of LLaMA-Factory and ms-swift, with pictures.

`conversations` (`from` and `value`) or `messages` (`role` and `content`), perhaps `system`; a `<image>` in a user turn
stands for the next path of `images`. Form: README of LLaMA-Factory's `data/` folder, "Sharegpt Format" and
"Multimodal Image Dataset".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from t3_agents.errors import InputError
from t3_agents.media import media_type_of
from t3_agents.storage import require
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory

from . import Format
from .conversation import FoundFiles, ImportedRow, Turn, listed_files, make_steps, read_turns, tool_names
from .files import FileCopies, FileSource


SOURCE = "sharegpt"
MARK = "<image>"
WORD = "<\u200bimage>"
"""The mark as a word of the text, written as the controller reads it, see `ChatEncoder`."""
_SPEAKERS = {"user": "human", "assistant": "gpt"}


def read_sharegpt(record: dict[str, Any], source: FileSource) -> ImportedRow:
    """Turn a row into a trajectory.

    The pictures of the first user turn become attachments: under the paths that the line `Files: ...` at its end
    gives them, as a trajectory is rendered, otherwise under `files/`.

    Args:
        record (`dict`): the row.
        source ([`FileSource`]): the pictures.

    Raises:
        InputError: when the row has another form, or not one path for every mark.
    """
    turns, _ = read_turns(record, "conversations" if "conversations" in record else "messages")
    system = turns.pop(0).text if turns[0].role == "system" else ""
    system = system or require(record, "system", (str, type(None)), "row", default=None) or ""
    by_turn = _pictures_by_turn(turns, _image_paths(record))
    turns = [replace(turn, text=turn.text.replace(MARK, "").replace(WORD, MARK)) for turn in turns]
    listed, workspace = listed_files(record)

    found = FoundFiles()
    query, paths = _split_files(turns[0].text, by_turn[0], listed)
    for path, place, is_picture in paths:
        found.add(source, path, place, is_picture)
    task = Task.create(found.name_missing(query), found.files, origin={"source": SOURCE})
    name = record.get("id")
    task = replace(task, id=name) if isinstance(name, str) and name else task

    images = list(task.images)

    def bring(number: int, text: str) -> tuple[str, list[int]]:
        pictures = ((workspace.get(place, place), place) for place in by_turn[2 * number])
        return text, found.bring(source, pictures, images)

    steps = make_steps(turns[1:], tool_names(system), bring)
    answer = record.get("answer")
    trajectory = Trajectory(
        task=task,
        system_prompt=system,
        steps=steps,
        images=images,
        answer=answer if isinstance(answer, str) else None,
        end_reason="answer" if steps[-1].is_final else "max_steps",
    )
    return ImportedRow(trajectory, found.missing)


def _image_paths(record: dict[str, Any]) -> list[str]:
    images = record.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(path, str) and path for path in images):
        raise InputError("Field `images` of the row must be a list of paths.")
    return images


def _pictures_by_turn(turns: Sequence[Turn], images: list[str]) -> list[list[str]]:
    """The paths that the marks of each turn stand for."""
    if any(MARK in turn.text for turn in turns if turn.role == "assistant"):
        raise InputError(f"A turn of the assistant has the mark {MARK}; pictures can only come from the user.")
    counts = [turn.text.count(MARK) for turn in turns]
    if sum(counts) != len(images):
        raise InputError(f"The turns have {sum(counts)} marks {MARK}, but there are {len(images)} paths in `images`.")
    left = iter(images)
    return [[next(left) for _ in range(count)] for count in counts]


def _split_files(text: str, pictures: list[str], listed: dict[str, str]) -> tuple[str, list[tuple[str, str, bool]]]:
    """The query without its line of attachments, and the attachments: path, place, and whether it is a picture."""
    query, _, last = text.rpartition("\nFiles: ")
    names = last.split(", ") if query and "\n" not in last else []
    shown = [name for name in names if name not in listed or listed[name] in pictures]
    if names and len(shown) == len(pictures) and all(media_type_of(name).startswith("image/") for name in shown):
        places = {**listed, **dict(zip(shown, pictures, strict=True))}
        return query, [(name, places[name], name in shown) for name in names]
    taken = [(f"files/{number}_{PurePosixPath(path).name}", path, True) for number, path in enumerate(pictures)]
    return text.strip(), taken


def write_sharegpt(trajectory: Trajectory, split: str, copies: FileCopies) -> dict[str, Any]:
    """The rendered conversation, exactly the text that is trained on, with `<image>` where a picture comes up.

    The form carries no structure of steps, verdicts, token ids or times. Where files are is in a column `files`.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
        split (`str`): its split, which the form does not carry.
        copies ([`FileCopies`]): where they are copied to.

    Raises:
        InputError: when a file cannot be copied.
    """
    system, turns = "", []
    for message in trajectory.to_messages():
        texts = [part["text"] for part in message["content"] if part["type"] == "text"]
        if message["role"] == "system":
            system = "".join(texts)
            continue
        parts = message["content"]
        value = "".join(MARK if part["type"] == "image" else part["text"].replace(MARK, WORD) for part in parts)
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


FORMAT = Format(read_sharegpt, write_sharegpt, "jsonl", dataset_info)
