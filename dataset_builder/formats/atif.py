"""Documents of the Agent Trajectory Interchange Format (ATIF): those of others are read, ours lose nothing.

Specification: Harbor's RFC 0001, "Agent Trajectory Interchange Format"; versions 1.0 to 1.8 are read, 1.7 is written.
Pictures are content parts that name a file (since 1.6). What the format has no field for is in `extra`:
`t3_trajectory` of the document and `t3_step` of a step.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from t3_agents.errors import InputError
from t3_agents.media import encode_image
from t3_agents.storage import require, sha256_of
from t3_agents.task import File, Task
from t3_agents.trajectory import FORMAT as TRAJECTORY_FORMAT
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step, write_turn

from .. import SPLITS
from . import Format
from .conversation import FoundFiles, ImportedRow
from .files import FileCopies, FileSource


SOURCE = "atif"
_READ = {"step_id", "source", "message", "reasoning_content", "tool_calls", "observation"}
SCHEMA_VERSION = "ATIF-v1.7"
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""Pictures that a content part may name."""
FUNCTION = "python"
"""The function that an action calls, with its code as the only argument."""


def read_atif(document: dict[str, Any], source: FileSource) -> ImportedRow:
    """Turn a document into a trajectory.

    One that this package wrote gives the very trajectory back. Of another one, calls of functions are written as code,
    because that is how agents of this package act; what is not carried over is listed in `provenance["atif"]`.

    Args:
        document (`dict`): the document.
        source ([`FileSource`]): where its pictures are, by their paths in the document.

    Raises:
        InputError: when it breaks a rule of the format that matters here, or holds no conversation.
    """
    version = require(document, "schema_version", str, "document")
    if not version.startswith("ATIF-v1."):
        raise InputError(f"The document has the schema `{version[:40]}`; this version reads ATIF-v1.")
    steps = require(document, "steps", list, "document")
    for number, step in enumerate(steps, start=1):
        if require(step, "step_id", int, "step") != number:
            raise InputError(f"Step {number} of the document has the step_id {step['step_id']}: they count from 1.")
        if require(step, "source", str, "step") not in ("system", "user", "agent"):
            raise InputError(f"Step {number} of the document is by `{step['source'][:40]}`.")
        require(step, "message", (str, list), "step")
    extra = require(document, "extra", (dict, type(None)), "document", default=None) or {}
    if "t3_trajectory" in extra:
        return _own(require(extra, "t3_trajectory", dict, "document"), steps, source)
    return _foreign(document, steps, source)


def _own(record: dict[str, Any], entries: list[dict[str, Any]], source: FileSource) -> ImportedRow:
    record = dict(record)
    split = require(record, "split", str, "t3_trajectory")
    if split not in SPLITS:
        raise InputError(f"Field `split` of the t3_trajectory is `{split[:40]}`.")
    places = require(record, "files", dict, "t3_trajectory")
    entries = list(entries)
    system = entries.pop(0)["message"] if entries and entries[0]["source"] == "system" else ""
    first = entries.pop(0) if entries else {}
    del record["split"], record["files"]
    trajectory = Trajectory.from_dict(
        {**record, "system_prompt": system, "steps": [_own_step(entry) for entry in entries]}
    )
    if _text_of(first.get("message", "")) != trajectory.task.text():
        raise InputError("The first user step no longer says what its t3_trajectory does: delete `extra` of both.")
    data, missing = {}, {}
    for file in (*trajectory.task.files, *trajectory.images):
        try:
            data[file.sha256] = _listed_bytes(file, require(places, file.sha256, str, "files"), source)
        except InputError as error:
            missing[file.path] = str(error)
    return ImportedRow(_with_bytes(trajectory, data), missing, split, own=True)


def _own_step(entry: dict[str, Any]) -> dict[str, Any]:
    extra = require(entry, "extra", dict, "step")
    record = dict(require(extra, "t3_step", dict, "step"))
    if entry["source"] == "user":
        return {**record, "observation": _text_of(entry["message"])}
    results = _results(entry)
    calls = require(entry, "tool_calls", list, "step", default=[])
    metrics = require(entry, "metrics", dict, "step", default={})
    return {
        "observation": _text_of(results[0].get("content")) if results else "",
        **record,
        "model_output": require(entry, "message", str, "step"),
        "code": require(require(calls[0], "arguments", dict, "call"), "code", str, "call") if calls else "",
        "output_ids": metrics.get("completion_token_ids"),
        "input_tokens": metrics.get("prompt_tokens", 0),
        "output_tokens": metrics.get("completion_tokens", 0),
    }


def _listed_bytes(file: File, place: str, source: FileSource) -> bytes:
    data = source.find(place)
    if data is None:
        raise InputError(f"`{place[:200]}` is not there.")
    if sha256_of(data) != file.sha256:
        raise InputError(f"`{place[:200]}` is another file than the document says.")
    return data


def _with_bytes(trajectory: Trajectory, data: dict[str, bytes]) -> Trajectory:
    """The trajectory with the bytes of its files; files without bytes are taken out."""

    def fill(files: list[File]) -> list[File]:
        return [replace(file, source=data[file.sha256]) for file in files if file.sha256 in data]

    kept = [index for index, image in enumerate(trajectory.images) if image.sha256 in data]
    numbers = {old: new for new, old in enumerate(kept)}
    steps = [replace(s, images=[numbers[i] for i in s.images if i in numbers]) for s in trajectory.steps]
    task = replace(trajectory.task, files=tuple(fill(list(trajectory.task.files))))
    return replace(trajectory, task=task, steps=steps, images=fill(trajectory.images))


def _foreign(document: dict[str, Any], entries: list[dict[str, Any]], source: FileSource) -> ImportedRow:
    if any(entry.get("is_copied_context") for entry in entries):
        raise InputError("The document has steps that are copied context, which may not be trained on.")
    begin = next((i for i, entry in enumerate(entries) if entry["source"] == "agent"), len(entries))
    asked = [entry for entry in entries[:begin] if entry["source"] == "user"]
    if not asked or begin == len(entries):
        raise InputError("The document has no user step with an agent step behind it.")
    found = FoundFiles()
    for number, path in enumerate(path for entry in asked for path in _images_of(entry["message"])):
        found.add(source, f"files/{number}_{PurePosixPath(path).name}", path, is_picture=True)
    words = "\n\n".join(_text_of(entry["message"]) for entry in asked)
    task = Task.create(found.name_missing(words), found.files, origin={"source": SOURCE})
    name = document.get("trajectory_id") or document.get("session_id")
    task = replace(task, id=name) if isinstance(name, str) else task

    images = list(task.images)
    steps: list[Step] = []
    for entry in entries[begin:]:
        if entry["source"] == "agent":
            step, paths = _action(entry), _observed_images(entry)
        else:
            # The user goes on, so the turn before was an answer unless it acted.
            step = Step(kind="task", observation=_text_of(entry["message"]))
            paths = _images_of(entry["message"])
            steps[-1].is_final = steps[-1].kind == "action" and not steps[-1].code
        step.images = found.bring(source, ((f"outputs/{PurePosixPath(path).name}", path) for path in paths), images)
        steps.append(step)
    last = steps[-1]
    last.is_final = last.kind == "action" and not last.code and not last.observation
    trajectory = Trajectory(
        task=task,
        system_prompt="\n\n".join(_text_of(e["message"]) for e in entries[:begin] if e["source"] == "system"),
        steps=steps,
        images=images,
        answer=last.model_output if last.is_final else None,
        end_reason="answer" if last.is_final else "max_steps",
        provenance={"atif": {"agent": document.get("agent"), "left_out": _left_out(document, entries)}},
    )
    return ImportedRow(trajectory, found.missing)


def _action(entry: dict[str, Any]) -> Step:
    """A turn of another agent, with its calls as code."""
    said = [entry.get("reasoning_content"), _text_of(entry.get("message"))]
    thought = "\n".join(words.strip() for words in said if isinstance(words, str) and words.strip())
    calls = require(entry, "tool_calls", (list, type(None)), "step", default=None) or []
    code = "\n".join(_call_as_code(call) for call in calls)
    output = write_turn(thought, code) if calls else thought
    results = _results(entry)
    metrics = require(entry, "metrics", (dict, type(None)), "step", default=None) or {}
    return Step(
        model_output=output,
        thought=thought,
        code=code,
        observation="\n".join(filter(None, (_text_of(result.get("content")) for result in results))),
        tools=[_identifier(call["function_name"]) for call in calls],
        input_tokens=require(metrics, "prompt_tokens", (int, type(None)), "metrics", default=None) or 0,
        output_tokens=require(metrics, "completion_tokens", (int, type(None)), "metrics", default=None) or 0,
    )


def _call_as_code(call: Any) -> str:
    name = _identifier(require(call, "function_name", str, "call"))
    arguments = require(call, "arguments", dict, "call")
    if list(arguments) == ["code"] and isinstance(arguments["code"], str):
        return arguments["code"]
    if all(argument.isidentifier() for argument in arguments):
        return f"print({name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())}))"
    return f"print({name}(**{arguments!r}))"


def _identifier(name: str) -> str:
    name = re.sub(r"\W", "_", name)
    return name if name.isidentifier() else f"_{name}"


def _results(entry: dict[str, Any]) -> list[dict[str, Any]]:
    observation = require(entry, "observation", (dict, type(None)), "step", default=None) or {}
    results = require(observation, "results", list, "observation", default=[])
    if not all(isinstance(result, dict) for result in results):
        raise InputError("A result of an observation must be a JSON object.")
    return results


def _observed_images(entry: dict[str, Any]) -> list[str]:
    return [path for result in _results(entry) for path in _images_of(result.get("content"))]


def _parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InputError("A message or content must be text or a list of parts.")
    return content


def _text_of(content: Any) -> str:
    return "".join(require(part, "text", str, "part") for part in _parts(content) if part.get("type") == "text")


def _images_of(content: Any) -> list[str]:
    pictures = [part for part in _parts(content) if part.get("type") == "image"]
    return [require(require(part, "source", dict, "part"), "path", str, "part") for part in pictures]


def _left_out(document: dict[str, Any], entries: list[dict[str, Any]]) -> list[str]:
    """Fields of the document that the trajectory does not carry."""
    fields = set(document) - {"schema_version", "agent", "steps", "session_id", "trajectory_id"}
    fields |= {f"steps.{name}" for entry in entries for name, value in entry.items() if value is not None} - {
        f"steps.{name}" for name in _READ
    }
    return sorted(fields)


def write_atif(trajectory: Trajectory, split: str, copies: FileCopies) -> dict[str, Any]:
    """A trajectory as a document; [`read_atif`] gives the same trajectory back.

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
        "extra": {"t3_trajectory": {"format": TRAJECTORY_FORMAT, "split": split, "files": files, **kept}},
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


FORMAT = Format(read_atif, write_atif, "documents")
