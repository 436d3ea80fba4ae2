"""Trajectories as documents of the Agent Trajectory Interchange Format (ATIF), and nothing lost.

Specification: Harbor's RFC 0001, "Agent Trajectory Interchange Format", version 1.7. Pictures are content parts that
name a file (since 1.6). What the format has no field for is in `extra`: `t3_trajectory` of the document and `t3_step`
of a step.
"""

from __future__ import annotations

from typing import Any

from t3_agents.media import encode_image
from t3_agents.storage import sha256_of
from t3_agents.task import File
from t3_agents.trajectory import FORMAT, Trajectory
from t3_agents.turns import Step

from .file_copies import FileCopies


SCHEMA_VERSION = "ATIF-v1.7"
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""Pictures that a content part may name."""
FUNCTION = "python"
"""The function that an action calls, with its code as the only argument."""


def atif_document(trajectory: Trajectory, split: str, copies: FileCopies) -> dict[str, Any]:
    """A trajectory as a document; [`~dataset_builder.formats.import_atif.read_atif`] gives the same trajectory back.

    Args:
        trajectory ([`~t3_agents.trajectory.Trajectory`]): the row, with the bytes of its files.
        split (`str`): split of the row.
        copies ([`FileCopies`]): where files are copied to.

    Raises:
        InputError: when a file cannot be copied.
    """
    record = trajectory.to_dict()
    files = {file.sha256: copies.add(file) for file in (*trajectory.task.files, *trajectory.images)}
    parts = [_image_part(image, files[image.sha256], copies) for image in trajectory.images]
    entries: list[dict[str, Any]] = []
    if trajectory.system_prompt:
        entries.append({"source": "system", "message": trajectory.system_prompt})
    entries.append(
        {"source": "user", "message": _content(parts[: len(trajectory.task.images)], trajectory.task.text())}
    )
    for number, step in enumerate(trajectory.steps, start=1):
        entries.append(_entry(step, f"call_{number}", [parts[index] for index in step.images]))
    kept = {name: record[name] for name in ("task", "images", "answer", "end_reason", "verification", "provenance")}
    controller = trajectory.provenance.get("controller")
    return {
        "schema_version": SCHEMA_VERSION,
        "session_id": trajectory.task.id,
        "trajectory_id": trajectory.task.id,
        "agent": {
            "name": "t3-agents",
            "version": str(trajectory.provenance.get("package_version", "unknown")),
            **({"model_name": controller} if isinstance(controller, str) else {}),
        },
        "steps": [{"step_id": number, **entry} for number, entry in enumerate(entries, start=1)],
        "final_metrics": {
            "total_prompt_tokens": sum(step.input_tokens for step in trajectory.steps),
            "total_completion_tokens": sum(step.output_tokens for step in trajectory.steps),
            "total_steps": len(entries),
        },
        "extra": {"t3_trajectory": {"format": FORMAT, "split": split, "files": files, **kept}},
    }


def _entry(step: Step, call: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    rest = {
        name: getattr(step, name) for name in ("kind", "thought", "error", "images", "tools", "is_final", "seconds")
    }
    if step.kind == "task":
        return {"source": "user", "message": _content(parts, step.observation), "extra": {"t3_step": rest}}
    entry: dict[str, Any] = {"source": "agent", "message": step.model_output}
    if step.code:
        entry["tool_calls"] = [{"tool_call_id": call, "function_name": FUNCTION, "arguments": {"code": step.code}}]
    if step.observation or step.error or parts:
        # Readers of the format know no error of a step: it is shown as it is to the controller.
        text = step.observation_text().removeprefix("Observation: ") if step.error else step.observation
        result: dict[str, Any] = {"content": _content(parts, text)}
        if step.code:
            result["source_call_id"] = call
        entry["observation"] = {"results": [result]}
        if step.error:
            rest["observation"] = step.observation
    metrics = {
        "prompt_tokens": step.input_tokens or None,
        "completion_tokens": step.output_tokens or None,
        "completion_token_ids": step.output_ids,
    }
    metrics = {name: value for name, value in metrics.items() if value is not None}
    return {**entry, **({"metrics": metrics} if metrics else {}), "extra": {"t3_step": rest}}


def _content(parts: list[dict[str, Any]], text: str) -> str | list[dict[str, Any]]:
    return [*parts, {"type": "text", "text": text}] if parts else text


def _image_part(image: File, place: str, copies: FileCopies) -> dict[str, Any]:
    media_type = image.media_type
    if media_type not in MEDIA_TYPES:
        # Shown as PNG; the file itself is listed in `t3_trajectory`.
        data = encode_image(image.open_image())
        media_type = "image/png"
        place = copies.add(File(f"{image.path}.png", media_type, sha256_of(data), data))
    return {"type": "image", "source": {"media_type": media_type, "path": place}}
