"""A scored run as a log of inspect_ai, for its viewer, its analysis tools and the `eval` loader of `datasets`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.results import RESULTS_FILE, Attempt, ScoredRun
from ..media import data_url
from ..storage import write_atomic
from ..task import File
from .markdown import PathScrubber
from .page import may_be_published


LOG_VERSION = 2
"""Version of inspect_ai's log schema that is written. Source: `LOG_SCHEMA_VERSION` of inspect_ai 0.3.285, and
https://inspect.aisi.org.uk/eval-logs.html on the form."""
HIDDEN = "[hidden, as the benchmark asks]"


def export_inspect_log(run_folder: str | Path, output: str | Path, questions: bool | None = None) -> Path:
    """Write a scored run as an `.eval` file, a zip of JSON members.

    `inspect_ai.log.read_eval_log` and `inspect view` read it, and so does `datasets.load_dataset("eval", ...)`, which
    wants whole numbers as the ids of samples: the task's own id is in the metadata. A seed is an epoch.

    Args:
        run_folder (`str` or `Path`): output folder of `t3 eval`.
        output (`str` or `Path`): file to write, `<name>.eval`.
        questions (`bool`, *optional*): write task texts, pictures, answers and conversations. By default they are left
            out where the authors of the benchmark ask for it.

    Returns:
        `Path`: the file.

    Raises:
        InputError: when the run was not scored, or the file has another ending.
    """
    path = Path(output)
    if path.suffix != ".eval":
        raise InputError(f"A log of inspect_ai is named <name>.eval, not {path.name}.")
    run = ScoredRun.read(run_folder)
    if run.results is None:
        raise InputError(f"{run_folder} has no {RESULTS_FILE}: score it first with `t3 eval score {run_folder}`.")
    if questions is None:
        questions = may_be_published(run.benchmark)
    samples = list(_samples(run, questions))
    header = _header(run, samples)
    members = {"_journal/start.json": {name: header[name] for name in ("version", "eval", "plan")}}
    members |= {f"samples/{sample['id']}_epoch_{sample['epoch']}.json": sample for sample in samples}
    members |= {"summaries.json": [_summary(sample) for sample in samples], "header.json": header}
    scrub = PathScrubber(Path(run_folder))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, content in members.items():
            stream.writestr(name, json.dumps(_clean(content, scrub), ensure_ascii=False, allow_nan=False))
    write_atomic(path, archive.getvalue())
    return path


def _clean(value: Any, scrub: PathScrubber) -> Any:
    """The same record without places of this machine, and without halves of surrogate pairs, which are no unicode:
    readers would refuse the whole log."""
    if isinstance(value, str):
        plain = value.encode("utf-8", errors="replace").decode()
        return plain if plain.startswith("data:") else scrub(plain)
    if isinstance(value, dict):
        return {_clean(name, scrub): _clean(item, scrub) for name, item in value.items()}
    return [_clean(item, scrub) for item in value] if isinstance(value, list) else value


def _model(run: ScoredRun) -> str:
    return f"t3-agents/{run.name}"


def _header(run: ScoredRun, samples: list[dict[str, Any]]) -> dict[str, Any]:
    results = run.results
    scores = [
        {
            "name": name,
            "scorer": results["scoring"],
            "metrics": {
                "value": {
                    "name": "value",
                    "value": metric["value"],
                    "metadata": {"ci95": metric["ci95"], "n": metric["n"]},
                }
            },
        }
        for name, metric in results["metrics"].items()
        if metric["value"] is not None
    ]
    usage = [sample["model_usage"][_model(run)] for sample in samples]
    total = {name: sum(row[name] for row in usage) for name in ("input_tokens", "output_tokens", "total_tokens")}
    created = results.get("created") or "1970-01-01T00:00:00Z"
    return {
        "version": LOG_VERSION,
        "status": "success",
        "eval": {
            "run_id": results["dataset"].get("digest") or "",
            "created": created,
            "task": results["benchmark"],
            "task_id": results["benchmark"],
            "dataset": {
                "name": results["dataset"].get("name"),
                "samples": len({sample["id"] for sample in samples}),
                "sample_ids": sorted({sample["id"] for sample in samples}),
            },
            "model": _model(run),
            "config": {"epochs": max((sample["epoch"] for sample in samples), default=1)},
            "packages": results.get("versions", {}),
            "metadata": {
                name: results.get(name)
                for name in ("format", "mode", "scoring", "scoring_details", "dataset", "agent", "breakdown")
            },
        },
        "plan": {"name": "plan", "steps": [{"solver": "t3_agents.agent.agent.T3Agent", "params": {}}]},
        "results": {"total_samples": len(samples), "completed_samples": len(samples), "scores": scores},
        "stats": {"started_at": created, "completed_at": created, "model_usage": {_model(run): total}},
    }


def _samples(run: ScoredRun, questions: bool) -> Iterator[dict[str, Any]]:
    """One sample per task and seed. Every field has the same type in all of them: `datasets` infers it from a few."""
    task_ids = list(dict.fromkeys(attempt.trajectory.task.id for attempt in run.attempts))
    seeds = sorted({attempt.seed for attempt in run.attempts})
    for attempt in run.attempts:
        trajectory, usage = attempt.trajectory, attempt.usage
        tokens = {name: usage[name] for name in ("input_tokens", "output_tokens")}
        answer = (trajectory.answer or "") if questions else HIDDEN
        said = {"role": "assistant", "content": answer, "source": "generate", "model": _model(run)}
        yield {
            "id": task_ids.index(trajectory.task.id) + 1,
            "epoch": seeds.index(attempt.seed) + 1,
            "input": trajectory.task.query if questions else HIDDEN,
            "target": (trajectory.task.ground_truth or "") if questions else HIDDEN,
            "messages": _messages(attempt, _model(run)) if questions else [],
            "output": {"model": _model(run), "choices": [{"message": said, "stop_reason": "stop"}]},
            "scores": _scores(attempt, answer, questions),
            "metadata": {
                "task_id": trajectory.task.id,
                "seed": attempt.seed,
                "outcome": attempt.outcome,
                "error_type": attempt.error_type,
                "end_reason": trajectory.end_reason,
                "groups": attempt.groups,
                "tools_called": [tool for step in trajectory.actions for tool in step.tools],
                "provenance": {name: value for name, value in trajectory.provenance.items() if name != "failure"},
                "failure": trajectory.provenance.get("failure") if questions else None,
            },
            "model_usage": {_model(run): {**tokens, "total_tokens": sum(tokens.values())}},
            "total_time": float(usage["seconds"]),
        }


def _scores(attempt: Attempt, answer: str, questions: bool) -> dict[str, Any]:
    """Metrics of the task. Step by step they are those of a whole row, and stand at its last turn."""
    if attempt.score is None or not attempt.trajectory.task.origin.get("is_last", True):
        return {}
    explanation = (attempt.score.reason or "") if questions else ""
    return {
        name: {"value": value, "answer": answer, "explanation": explanation}
        for name, value in attempt.score.to_dict()["scores"].items()
        if value is not None
    }


def _messages(attempt: Attempt, model: str) -> list[dict[str, Any]]:
    """The conversation, with its pictures as data URLs where they came up."""
    images = iter(attempt.trajectory.images)
    messages = []
    for message in attempt.trajectory.to_messages():
        content = [part if part["type"] == "text" else _picture(next(images)) for part in message["content"]]
        written = {"source": "generate", "model": model} if message["role"] == "assistant" else {}
        messages.append({"role": message["role"], "content": content, **written})
    return messages


def _picture(file: File) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except (InputError, OSError):
        return {"type": "text", "text": f"[the picture {file.path} is not at hand]"}
    return {"type": "image", "image": data_url(data, file.media_type)}


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What the viewer lists of a sample."""
    names = ("id", "epoch", "input", "target", "scores", "model_usage", "total_time")
    return {
        **{name: sample[name] for name in names},
        "metadata": {name: sample["metadata"][name] for name in ("task_id", "seed", "outcome", "error_type")},
        "completed": True,
        "message_count": len(sample["messages"]),
    }
