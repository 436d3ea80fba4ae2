"""Everything that a run knows of one candidate, to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError

from .run_folder import IN_FLIGHT, KEPT, candidate_id_of, finished_rows, journal_files, read_events, read_queries


def tell(folder: Path, name: str) -> list[tuple[str, str]]:
    """Titles and texts: the query, the plan, the files, verdicts, steps, what each stage used, and how it ended.

    Args:
        folder (`Path`): folder of the run.
        name (`str`): id of the candidate, or of the task of a kept one. A run of the offline teacher knows ids of
            tasks only.

    Raises:
        InputError: when the run has no such candidate.
    """
    outcome, candidate, trajectory, reasons = _find(folder, name)
    if candidate is None:
        return _tell_row(outcome, trajectory, reasons)
    files = _files(candidate["files"])
    plan = [f"{file['name']}: {file['content']}" for file in candidate["plan"]]
    verdicts = [
        f"{verdict['stage']}: {'accepted' if verdict['accepted'] else 'rejected'}: {verdict['reason']}"
        for verdict in candidate["verdicts"]
    ]
    parts = [
        (f"{candidate['id']}: {outcome}", "\n".join(reasons)),
        ("Query", candidate["query"]),
        ("Domain, expected tools", f"{candidate['domain']}; {', '.join(candidate['expected_tools'])}"),
        ("Seed queries", ", ".join(candidate["seed_queries"])),
        ("From the web", "\n".join(candidate["from_web"])),
        ("Plan", "\n".join(plan)),
        ("Files", "\n".join(files)),
        ("Verdicts", "\n".join(verdicts)),
        *_steps(trajectory),
        ("Stages", "\n".join(_stages(folder, candidate["id"]))),
        ("Provenance", json.dumps(candidate["provenance"], indent=2, ensure_ascii=False)),
    ]
    return [(title, text) for title, text in parts if text or title.startswith(candidate["id"])]


def _tell_row(outcome: str, row: dict[str, Any], reasons: list[str]) -> list[tuple[str, str]]:
    """The story of a task that no candidate came before."""
    task = row["task"]
    verdicts = [
        "; ".join([f"{name}: {'accepted' if verdict['passed'] else 'rejected'}", *verdict["reasons"]])
        for name, verdict in row["verification"].items()
    ]
    parts = [
        ("Query", task["query"]),
        ("Domain, expected tools", f"{task['domain']}; {', '.join(task['tools'])}"),
        ("Files", "\n".join(_files(task["files"]))),
        ("Verdicts", "\n".join(verdicts)),
        *_steps(row),
        ("Expected answer", str(task["ground_truth"])),
        ("Origin", json.dumps(task["origin"], ensure_ascii=False)),
    ]
    return [(f"{task['id']}: {outcome}", "\n".join(reasons)), *((title, text) for title, text in parts if text)]


def _files(files: list[dict[str, Any]]) -> list[str]:
    return [f"{file['path']} ({file['media_type']}, sha256 {file['sha256'][:12]})" for file in files]


def _find(folder: Path, name: str) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None, list[str]]:
    """Outcome, record, trajectory and reasons of a candidate; a task of the offline teacher has no record."""
    for outcome, row in finished_rows(folder):
        if not _has_candidate(outcome, row):
            trajectory = row if outcome == KEPT else row["trajectory"]
            if trajectory["task"]["id"] == name:
                return outcome, None, trajectory, row.get("reasons", [])
            continue
        if name not in (candidate_id_of(row), outcome == KEPT and row["task"]["id"]):
            continue
        if outcome == KEPT:
            return outcome, row["provenance"]["synthesis"], row, []
        return outcome, row["candidate"], row["trajectory"], row["reasons"]
    for path in journal_files(folder, f"{IN_FLIGHT}/*.json"):
        if path.stem == name:
            record = json.loads(path.read_text(encoding="ascii"))
            candidate = record["candidate"]
            return f"under way, after {record['stage']}", candidate, candidate["trajectory"], []
    for candidate in read_queries(folder):
        if candidate["id"] == name:
            return "not begun", candidate, None, []
    raise InputError(f"The run has no candidate `{name}`; ids look like gta-0-3 or 64cd13068043e8f1.")


def _has_candidate(outcome: str, row: dict[str, Any]) -> bool:
    return "synthesis" in row["provenance"] if outcome == KEPT else "candidate" in row


def _steps(trajectory: dict[str, Any] | None) -> list[tuple[str, str]]:
    if trajectory is None:
        return []
    parts = []
    for number, step in enumerate(trajectory["steps"], start=1):
        texts = (step["thought"], step["code"], step["observation"], step["error"] and f"Error: {step['error']}")
        parts.append((f"Step {number}", "\n".join(text.strip() for text in texts if text)))
    return [*parts, ("Answer", f"{trajectory['answer']} ({trajectory['end_reason']})")]


def _stages(folder: Path, name: str) -> list[str]:
    """What each stage took."""
    lines = []
    for event in read_events(folder):
        if event["id"] == name and "usage" in event:
            usage = event["usage"]
            tokens = usage["input_tokens"] + usage["output_tokens"]
            lines.append(
                f"{event['stage']}: {event['outcome']} in {event['seconds']:.1f} s, {usage['calls']} calls, "
                f"{usage['retries']} retries, {tokens} tokens, cost {usage['cost']:.4f}"
            )
    return lines
