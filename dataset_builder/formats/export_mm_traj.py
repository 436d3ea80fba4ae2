"""Rows in the form of the released MM-Traj data, which [`~dataset_builder.formats.import_mm_traj`] describes."""

from __future__ import annotations

import json
from typing import Any

from t3_agents.trajectory import Trajectory
from t3_agents.turns import PROCEED, Step

from .file_copies import FileCopies
from .import_mm_traj import SOURCE


def mm_traj_row(trajectory: Trajectory, copies: FileCopies) -> dict[str, Any]:
    """A trajectory as a released row.

    A row that was imported comes back as it was, fields and paths of pictures included; its observations are numbered
    anew. Of others the form carries neither token ids, counts and times nor plans as such, and where a step has both
    an observation and an error, the error is the end of the observation. Where files are is in a field `files`, which
    the released data does not have.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
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
    first = f"{_marks(places[: len(attached)])}Task: {trajectory.task.query}"
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
