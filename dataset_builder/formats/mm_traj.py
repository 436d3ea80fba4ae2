"""Rows of the released MM-Traj data: a conversation with `[OUTPUT OF STEP n]` turns, pictures by path.

The form is that of the public repository mat-agent/MAT-Agent: `id`, `image` (a path, a list of paths, or paths by
mark), `conversations` (turns with `from` and `value`, or `role` and `content`), `answer`, `correct` and
`traj_verification`. The first user turn shows pictures by `<img>path</img>`, `<image>` or `<image_00>`, and names the
files that code opens after `Attachment:`, by other paths than those of the pictures.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from t3_agents.errors import InputError
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import PROCEED, Step

from . import Format
from .conversation import FoundFiles, ImportedRow, listed_files, make_steps, read_turns, tool_names
from .files import FileCopies, FileSource


SOURCE = "mm-traj"
_MARK = re.compile(r"<img>(?P<path>[^<\n]*)</img>|<image(?:_\d+)?>")
_HEAD = re.compile(r"(?:\s*(?:Picture \d+: )?(?:<img>[^<\n]*</img>|<image(?:_\d+)?>))*\s*")
_TASK = re.compile(r"Task:[ \t]*")
_FIELDS = ("id", "image", "correct", "answer", "conversations", "traj_verification", "files")


def read_mm_traj(record: dict[str, Any], source: FileSource) -> ImportedRow:
    """Turn a released row into a trajectory.

    An attachment keeps the path that the code opens; its picture is looked up by the path of the mark. What a
    trajectory has no place for is kept in `task.origin`, so that the export gives the row back.

    Args:
        record (`dict`): the row.
        source ([`FileSource`]): the pictures.

    Raises:
        InputError: when the row has another form.
    """
    turns, keys = read_turns(record, "conversations")
    system = turns.pop(0).text if turns[0].role == "system" else ""
    places, paths = listed_files(record)
    pictures = _Pictures(_pictures_by_mark(record.get("image")))

    head, query, tail, names = _split_first(turns[0].text)
    attached = pictures.take(head + query, anywhere=True)
    words = _MARK.sub("", query) if _MARK.search(query) and pictures.by_mark else query
    words = words.replace("<\u200bim", "<im")
    observed = {number: pictures.take_head(turn.text) for number, turn in enumerate(turns[2::2], start=1)}
    pairs = _pair(names, attached + pictures.rest(), places, paths)

    found = FoundFiles()
    for path, place, is_picture in pairs:
        found.add(source, path, place, is_picture)
    task = _make_task(record, words, found)
    task.origin.update(head=head, tail=tail, turns=list(keys))
    task.origin["pictures"] = {path: place for path, place, is_picture in pairs if is_picture}
    if task.query != query:
        task.origin["words"] = query

    images = list(task.images)

    def bring(number: int, _: str) -> tuple[str, list[int]]:
        text, shown = observed[number]
        return text, found.bring(source, ((paths.get(place, place), place) for place in shown), images)

    steps = make_steps(turns[1:], tool_names(system), bring)
    trajectory = Trajectory(
        task=task,
        system_prompt=system,
        steps=steps,
        images=images,
        answer=record["answer"] if isinstance(record.get("answer"), str) else None,
        end_reason="answer" if steps[-1].is_final else "max_steps",
        verification=_verdict(record),
    )
    return ImportedRow(trajectory, found.missing)


def _make_task(record: dict[str, Any], words: str, found: FoundFiles) -> Task:
    """The task; a file that is missing is named in the query, as it is to a controller."""
    name = record.get("id", "")
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise InputError(f"Field `id` of the row must be str, not {type(name).__name__}.")
    origin = {
        "source": SOURCE,
        **({"image": record["image"]} if "image" in record else {}),
        **_other_fields(record),
    }
    task = Task.create(found.name_missing(words), found.files, origin=origin)
    return replace(task, id=str(name)) if name != "" else task


class _Pictures:
    """Pictures of a row in the order in which its turns show them.

    Args:
        by_mark (`dict[str, str]`): path by mark, out of the field `image`.
    """

    def __init__(self, by_mark: dict[str, str]):
        self.by_mark = by_mark
        self._shown: list[str] = []

    def take(self, text: str, anywhere: bool = False) -> list[str]:
        """Paths that the marks of a text show for the first time.

        Args:
            text (`str`): words with marks.
            anywhere (`bool`, *optional*, defaults to `False`): also paths that the field `image` does not name.
        """
        known = list(self.by_mark.values())
        taken = []
        for mark in _MARK.finditer(text):
            path = mark["path"] or self.by_mark.get(mark[0])
            if mark[0] == "<image>":
                path = next((path for path in known if path not in self._shown), None)
            if path and path not in self._shown and (anywhere or path in known):
                self._shown.append(path)
                taken.append(path)
        return taken

    def take_head(self, text: str) -> tuple[str, list[str]]:
        """The words of a later turn without the marks that it begins with, and the pictures of these marks."""
        head = _HEAD.match(text)[0]
        taken = self.take(head)
        return (text.removeprefix(head), taken) if taken else (text, [])

    def rest(self) -> list[str]:
        """Paths that no turn shows."""
        return [path for path in dict.fromkeys(self.by_mark.values()) if path not in self._shown]


def _pictures_by_mark(image: Any) -> dict[str, str]:
    """Paths of the field `image`, by the mark that shows them."""
    if isinstance(image, str):
        image = [image] if image else []
    if isinstance(image, list):
        image = {f"<image_{number:02d}>": path for number, path in enumerate(image)}
    if image is None:
        return {}
    if not isinstance(image, dict) or not all(isinstance(path, str) and path for path in image.values()):
        raise InputError("Field `image` of the row must be a path, a list of paths, or paths by mark.")
    return dict(sorted(image.items()))


def _split_first(text: str) -> tuple[str, str, str, list[str]]:
    """The first user turn: what is before the query, the query, what is behind it, and the attachments named there."""
    start = _HEAD.match(text).end()
    task = _TASK.match(text, start)
    start = task.end() if task else start
    body = text[start:].rstrip()
    query, _, last = body.rpartition("\n")
    names: list[str] = []
    if last.lstrip().startswith("Attachment:"):
        names = [name.strip() for name in last.lstrip().removeprefix("Attachment:").split(";")]
        body = query.rstrip()
    return text[:start], body, text[start + len(body) :], [name for name in names if name]


def _pair(
    names: list[str], pictures: list[str], listed: dict[str, str], paths: dict[str, str]
) -> list[tuple[str, str, bool]]:
    """Attachments with their places: where they are listed, else the picture of the same file name, else the next one.

    Returns:
        `list[tuple[str, str, bool]]`: path in the workspace, place, and whether it is a picture that is shown.
    """
    names = list(dict.fromkeys(names))
    left = list(pictures)
    places: dict[str, str] = {}
    for name in names:
        same = (path for path in left if PurePosixPath(path).name == PurePosixPath(name).name)
        place = listed.get(name) or next(same, None)
        if place is not None:
            places[name] = place
            left = [path for path in left if path != place]
    others = [name for name in names if name not in places]
    if len(others) == len(left):
        places.update(zip(others, left, strict=True))
        left = []
    attached = [(name, places.get(name, name), places.get(name) in pictures) for name in names]
    return attached + [(paths.get(place, place), place, True) for place in left]


def _verdict(record: dict[str, Any]) -> dict[str, Any]:
    if record.get("correct") not in ("yes", "no"):
        return {}
    reasons = [record["traj_verification"]] if isinstance(record.get("traj_verification"), str) else []
    return {"trajectory": {"passed": record["correct"] == "yes", "reasons": reasons}}


def _other_fields(record: dict[str, Any]) -> dict[str, Any]:
    """What has no place of its own in a trajectory."""
    fields = {name: value for name, value in record.items() if name not in _FIELDS}
    if not isinstance(record.get("answer", ""), str):
        fields["answer"] = record["answer"]
    if not _verdict(record):
        fields.update({name: record[name] for name in ("correct", "traj_verification") if name in record})
    elif not isinstance(record.get("traj_verification", ""), str):
        fields["traj_verification"] = record["traj_verification"]
    return {"fields": fields} if fields else {}


def write_mm_traj(trajectory: Trajectory, split: str, copies: FileCopies) -> dict[str, Any]:
    """A trajectory as a released row.

    A row that was imported comes back as it was, fields and paths of pictures included; its observations are numbered
    anew. Of others the form carries neither token ids, counts and times nor plans as such, and where a step has both
    an observation and an error, the error is the end of the observation. Where files are is in a field `files`, which
    the released data does not have.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
        split (`str`): its split, which the form does not carry.
        copies ([`FileCopies`]): where they are copied to.

    Raises:
        InputError: when a file cannot be copied.
    """
    origin = trajectory.task.origin
    if origin.get("source") == SOURCE:
        return _imported_row(trajectory, copies)
    places = [copies.add(image) for image in trajectory.images]
    attached = dict(zip(trajectory.task.images, places, strict=False))
    files = [{"path": f.path, "file": attached.get(f) or copies.add(f)} for f in trajectory.task.files]
    brought = zip(trajectory.images[len(attached) :], places[len(attached) :], strict=True)
    files += [{"path": image.path, "file": place} for image, place in brought]
    # A mark that is a word of the query is written as the controller reads it, see `ChatEncoder`.
    query = _MARK.sub(lambda mark: f"<\u200b{mark[0][1:]}", trajectory.task.query)
    first = f"{_marks(places[: len(attached)])}Task: {query}"
    if trajectory.task.files:
        first += f"\n Attachment: {'; '.join(file.path for file in trajectory.task.files)};  "
    passed = all(verdict["passed"] for verdict in trajectory.verification.values())
    return {
        "id": trajectory.task.id,
        "image": _image_field(places),
        "correct": "yes" if passed else "no",
        "answer": trajectory.answer,
        "conversations": _turns(trajectory, first, places, ("from", "value")),
        "traj_verification": json.dumps(trajectory.verification, ensure_ascii=False),
        "files": files,
    }


def _imported_row(trajectory: Trajectory, copies: FileCopies) -> dict[str, Any]:
    origin = trajectory.task.origin
    for file in trajectory.task.files:
        copies.add(file, origin["pictures"].get(file.path, file.path))
    brought = trajectory.images[len(trajectory.task.images) :]
    places = [""] * len(trajectory.task.images)
    places += [copies.add(image, image.path) for image in brought]
    first = origin["head"] + origin.get("words", trajectory.task.query) + origin["tail"]
    row: dict[str, Any] = {"id": trajectory.task.id}
    if "image" in origin:
        row["image"] = origin["image"]
    verdict = trajectory.verification.get("trajectory")
    if verdict:
        row["correct"] = "yes" if verdict["passed"] else "no"
    if trajectory.answer is not None:
        row["answer"] = trajectory.answer
    row["conversations"] = _turns(trajectory, first, places, tuple(origin["turns"]))
    if verdict and verdict["reasons"]:
        row["traj_verification"] = verdict["reasons"][0]
    return {**row, **origin.get("fields", {})}


def _turns(trajectory: Trajectory, first: str, places: list[str], keys: tuple[str, str]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []

    def say(role: str, text: str) -> None:
        if turns and turns[-1][keys[0]] == role:
            turns[-1][keys[1]] += f"\n{text}"
        else:
            turns.append({keys[0]: role, keys[1]: text})

    if trajectory.system_prompt:
        say("system", trajectory.system_prompt)
    say("user", first)
    number = 0
    for step in trajectory.steps:
        marks = _marks([places[index] for index in step.images])
        if step.kind == "task":
            say("user", marks + step.observation)
            continue
        say("assistant", step.model_output)
        if step.kind == "plan":
            say("user", PROCEED)
        elif not step.is_final:
            say("user", marks + _observation(step, number))
        number += 1
    return turns


def _observation(step: Step, number: int) -> str:
    if step.error and not step.observation.strip():
        return f"[OUTPUT OF STEP {number}] Error: {step.error}"
    error = f"\nError: {step.error}" if step.error else ""
    return f"[OUTPUT OF STEP {number}] Observation:\n{step.observation}{error}"


def _marks(places: list[str]) -> str:
    return "".join(f"Picture {number}: <img>{place}</img>\n" for number, place in enumerate(places, start=1))


def _image_field(places: list[str]) -> str | dict[str, str]:
    """As in the released data: nothing, one path, or paths by mark."""
    if len(places) == 1:
        return places[0]
    return {f"<image_{number:02d}>": place for number, place in enumerate(places)}


FORMAT = Format(read_mm_traj, write_mm_traj, "json")
