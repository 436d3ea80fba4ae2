"""The second stage: what comes from the web, and which files hold the rest."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ..candidate import Candidate, PlannedFile, Rejected
from .asking import ask, load_stage_prompt


if TYPE_CHECKING:
    from ..teacher import Teacher

STAGE = "plan_files"
IMAGE_KINDS = ("jpg", "png")
DOCUMENT_KINDS = (
    "pdf xlsx docx csv pptx txt md json xml html mp3 wav mp4 zip".split()
)  # what our readers open and the sandbox's libraries write
KINDS = (*IMAGE_KINDS, *DOCUMENT_KINDS)

# Kinds that cannot be written without a package.
_WRITERS = {"pdf": "fpdf", "xlsx": "openpyxl", "docx": "docx", "pptx": "pptx", "mp3": "soundfile", "mp4": "av"}
_SAME_KIND = {"jpeg": "jpg", "htm": "html", "text": "txt", "markdown": "md", "xls": "xlsx", "excel": "xlsx"}
_MIN_CONTENT = 12


@functools.cache
def possible_kinds() -> tuple[str, ...]:
    """Kinds of files that can be found or made with the packages that are installed."""
    return tuple(kind for kind in KINDS if kind not in _WRITERS or importlib.util.find_spec(_WRITERS[kind]))


class FileDescription(BaseModel):
    """A file as the teacher describes it."""

    name: str = Field(description="file name with extension")
    kind: str = Field(description="the extension without its dot")
    content: str = Field(description="what is in it, concretely")


class FilePlan(BaseModel):
    """Where the information of a task comes from."""

    from_web: list[str] = Field(default_factory=list, description="pieces of information to be found on the web")
    files: list[FileDescription] = Field(default_factory=list, description="files that the user attaches")


def plan_files(candidate: Candidate, teacher: Teacher, max_files: int = 3) -> Candidate:
    """Let the teacher say which files a query needs.

    Args:
        candidate ([`Candidate`]): with its query.
        teacher ([`Teacher`]): who is asked.
        max_files (`int`, *optional*, defaults to 3): files of a task.

    Returns:
        [`Candidate`]: with `from_web` and `plan`.

    Raises:
        Rejected: when the plan cannot be carried out.
        Failed: when the teacher's reply cannot be used.
    """
    prompt = load_stage_prompt(STAGE)
    text = prompt.render(
        query=candidate.query,
        tools=candidate.expected_tools,
        max_files=max_files,
        kinds=possible_kinds(),
        flavor=candidate.flavor,
    )
    plan, provenance = ask(teacher, STAGE, candidate, prompt, text, FilePlan)
    planned = tuple(_planned(description, number) for number, description in enumerate(plan.files, 1))
    from_web = tuple(piece.strip() for piece in plan.from_web if piece.strip())
    candidate = candidate.add(STAGE, provenance, plan=planned, from_web=from_web)
    reason = _problem(candidate, max_files)
    if reason:
        raise Rejected(STAGE, reason, candidate)
    return candidate


def _planned(description: FileDescription, number: int) -> PlannedFile:
    """A description with a name that is safe to use: letters, digits, `-` and `_`, and the extension of its kind."""
    name = PurePosixPath(description.name.strip())
    said = [text.strip().lower().lstrip(".") for text in (description.kind, name.suffix)]
    kind = next((_SAME_KIND.get(text, text) for text in said if _SAME_KIND.get(text, text) in KINDS), said[0])
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name.stem).strip("_-")[:60]
    return PlannedFile(f"{stem or f'file_{number}'}.{kind}", kind, description.content.strip())


def _problem(candidate: Candidate, max_files: int) -> str | None:
    plan = candidate.plan
    unknown = [file.kind for file in plan if file.kind not in possible_kinds()]
    vague = [file.name for file in plan if len(file.content) < _MIN_CONTENT]
    if not plan and not candidate.from_web:
        return "the plan names neither files nor anything to look up"
    if unknown:
        return f"the plan has a file of kind `{unknown[0][:40]}`, which cannot be made"
    if len(plan) > max_files:
        return f"the plan has {len(plan)} files, more than {max_files}"
    if len({file.name.lower() for file in plan}) < len(plan):
        return "the plan has two files of one name"
    if vague:
        return f"the plan does not say what is in {vague[0]}"
    if candidate.flavor == "gta" and not any(file.kind in IMAGE_KINDS for file in plan):
        return "the plan has no picture"
    return None
