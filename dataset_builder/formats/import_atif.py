"""Documents of the Agent Trajectory Interchange Format (ATIF), of this package and of others.

Specification: Harbor's RFC 0001, "Agent Trajectory Interchange Format", versions 1.0 to 1.8.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from t3_agents.errors import InputError
from t3_agents.storage import require, sha256_of
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import CODE_CLOSE, CODE_OPEN, Step

from .conversation import FoundFiles, ImportedRow
from .file_source import FileSource


SOURCE = "atif"
_READ = {"step_id", "source", "message", "reasoning_content", "tool_calls", "observation"}


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
    if split not in ("train", "validation", "test"):
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
        brought = FoundFiles()
        for path in paths:
            brought.add(source, f"outputs/{PurePosixPath(path).name}", path, is_picture=True)
        found.missing.update(brought.missing)
        step.images = list(range(len(images), len(images) + len(brought.files)))
        images += brought.files
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
    output = f"Thought: {thought}\nCode:\n{CODE_OPEN}\n{code}\n{CODE_CLOSE}" if calls else thought
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
