"""Turns of a chat as steps of a trajectory, and the files that a row names."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from t3_agents.errors import InputError
from t3_agents.media import decode_image, open_picture
from t3_agents.storage import require
from t3_agents.task import File
from t3_agents.trajectory import Trajectory
from t3_agents.turns import PROCEED, Step

from .files import FileSource


ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "observation": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
}
"""Who speaks, by the names that data sets use."""
MAX_PIXELS = 64 * 10**6
"""Pictures with more pixels are refused before they are decoded."""
_RELEASED = re.compile(r"\[OUTPUT OF STEP \d+\] (Observation:[ \n]?|Error: )")
_RENDERED = re.compile(r"Observation:[ \n]?(Error: )?")
_NOTHING = "nothing was printed."
# Tools as system prompts name them: `- name: text`, `- name(arguments)`, `name(arguments)` at the start of a line.
_TOOL = re.compile(r"^(?:- |def )?([A-Za-z_]\w*)(?:\(|(?<=\w): )", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    """What one side said.

    Args:
        role (`str`): `system`, `user` or `assistant`.
        text (`str`): the words.
    """

    role: str
    text: str


def read_turns(record: dict[str, Any], name: str) -> tuple[list[Turn], tuple[str, str]]:
    """The turns of a row, in either form: `from` and `value`, or `role` and `content`.

    Args:
        record (`dict`): the row.
        name (`str`): field with the list of turns.

    Returns:
        `tuple[list[Turn], tuple[str, str]]`: the turns, and the keys that they have in the row.

    Raises:
        InputError: when a turn has another form, or the conversation does not go user, assistant, user, ...
    """
    entries = require(record, name, list, "row")
    if not entries:
        raise InputError(f"Field `{name}` of the row is empty.")
    keys = ("role", "content") if isinstance(entries[0], dict) and "role" in entries[0] else ("from", "value")
    turns = []
    for number, entry in enumerate(entries, start=1):
        role, text = (require(entry, key, str, f"turn {number}") for key in keys)
        if role not in ROLES:
            raise InputError(f"Turn {number} is by `{role[:40]}`; known are: {', '.join(ROLES)}.")
        turns.append(Turn(ROLES[role], text))
    spoken = [turn.role for turn in turns if turn.role != "system"]
    if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"] * (len(spoken) % 2) or len(spoken) < 2:
        raise InputError("The turns do not go user, assistant, user, assistant and so on.")
    if any(turn.role == "system" for turn in turns[1:]):
        raise InputError("Only the first turn can be by the system.")
    return turns, keys


def read_observation(text: str) -> tuple[str, str | None] | None:
    """Split a user turn after an action into observation and error; `None` when it is no observation."""
    start = _RELEASED.match(text) or _RENDERED.match(text)
    if start is None:
        return None
    words = text[start.end() :]
    if start[1] == "Error: ":
        return "", words
    # What the renderer says of a step without output.
    return ("", None) if start.re is _RENDERED and words == _NOTHING else (words, None)


def make_steps(
    turns: Sequence[Turn], tools: set[str], pictures: Callable[[int, str], tuple[str, list[int]]]
) -> list[Step]:
    """Steps out of what was said after the first user turn.

    Args:
        turns (`Sequence[Turn]`): assistant, user, assistant, ...
        tools (`set[str]`): names of the tools that the code may call.
        pictures (`Callable`): takes the number of a user turn (from 1) and its words; gives the words without marks
            of pictures, and the indexes of the pictures that the turn brings.
    """
    steps: list[Step] = []
    for place, turn in enumerate(turns):
        if turn.role == "assistant":
            step = Step()
            step.read(turn.text, tools=tools)
            step.is_final = place == len(turns) - 1
            steps.append(step)
            continue
        text, images = pictures(place // 2 + 1, turn.text)
        observed = read_observation(text)
        if text == PROCEED:
            steps[-1].kind = "plan"
        elif observed is None:
            # The user goes on by himself, so the turn before was an answer.
            steps[-1].is_final = True
            steps.append(Step(kind="task", observation=text, images=images))
        else:
            steps[-1].observation, steps[-1].error = observed
            steps[-1].images = images
    return steps


def listed_files(record: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Where files are, as an export of this package lists them.

    Returns:
        `tuple[dict, dict]`: place by path in the workspace (the first of a path is the attachment), and path by place.
    """
    places, paths = {}, {}
    for entry in require(record, "files", list, "row", default=[]):
        path, place = (require(entry, key, str, "file of the row") for key in ("path", "file"))
        places.setdefault(path, place)
        paths.setdefault(place, path)
    return places, paths


def tool_names(system_prompt: str) -> set[str]:
    """Names that a system prompt explains, in the ways of the released data and of this package's prompts."""
    return {*_TOOL.findall(system_prompt), "final_answer"} - set(dir(builtins))


@dataclass(frozen=True)
class ImportedRow:
    """What a row became.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
        missing (`dict[str, str]`): why a file is not there, by its path in the workspace. The trajectory is without
            it, and `task.origin["missing"]` names it.
        split (`str`, *optional*): the split that the row names, if it names one.
        own (`bool`, *optional*, defaults to `False`): it is a record of this package, to which nothing may be added.
    """

    trajectory: Trajectory
    missing: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    own: bool = False


@dataclass
class FoundFiles:
    """Files of a row, and those that are not there.

    Args:
        files (`list[File]`): in the order in which they were asked for.
        missing (`dict[str, str]`): why not, by the path in the workspace.
    """

    files: list[File] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def name_missing(self, query: str) -> str:
        """The query, with the names of missing files as a controller is told those of files that are there."""
        return f"{query}\nFiles: {', '.join(self.missing)}" if self.missing else query

    def add(self, source: FileSource, path: str, place: str, is_picture: bool) -> None:
        """Look a file up.

        Args:
            source ([`FileSource`]): where it is looked up.
            path (`str`): its path in the workspace.
            place (`str`): its path in the source.
            is_picture (`bool`): it has to be one that can be shown.
        """
        try:
            data = source.find(place)
            if data is None:
                raise InputError(f"`{place[:200]}` is not there.")
            self.files.append(make_file(data, path, is_picture))
        except InputError as error:
            self.missing[path] = str(error)

    def bring(self, source: FileSource, pictures: Iterable[tuple[str, str]], images: list[File]) -> list[int]:
        """Append the pictures that a turn brings to those of the trajectory, and give their indexes there.

        Args:
            source ([`FileSource`]): where they are looked up.
            pictures (`Iterable[tuple[str, str]]`): their paths in the workspace and in the source.
            images (`list[File]`): pictures so far.
        """
        brought = FoundFiles(missing=self.missing)
        for path, place in pictures:
            brought.add(source, path, place, is_picture=True)
        images += brought.files
        return list(range(len(images) - len(brought.files), len(images)))


def make_file(data: bytes, path: str, is_picture: bool) -> File:
    """Describe a file that came with a row.

    Raises:
        InputError: when the path leads out of a workspace, or a picture cannot be decoded.
    """
    file = File.from_bytes(data, path)
    if file.is_image or is_picture:
        decode_image(data, path, max_pixels=MAX_PIXELS)
    if is_picture and not file.is_image:
        # Its name does not say what it is; its content does.
        media_type = open_picture(data, path).get_format_mimetype() or "image/png"
        return File(file.path, media_type, file.sha256, data)
    return file
