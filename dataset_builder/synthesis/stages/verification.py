"""The two verifiers: can the task be solved, and was it solved in a way to learn from?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import BaseModel, Field

from t3_agents.errors import InputError
from t3_agents.verifiers import FORM, verify

from ..candidate import Candidate, Rejected, Verdict
from .asking import StagePrompt, ask, load_stage_prompt
from .files import excerpt_of


if TYPE_CHECKING:
    from ..teacher import Teacher

FILES_STAGE, TRAJECTORY_STAGE = "verify_files", "verify_trajectory"
MAX_SIDE = 768
"""Longest side of a picture that a verifier is shown, pixels."""

_MAX_OBSERVATION = 1500


class FilesVerdict(BaseModel):
    """Whether a task can be solved."""

    files_match: bool = Field(description="the files hold what the request speaks of")
    enough_information: bool = Field(description="files, web and tools give everything that is needed")
    needs_tools: bool = Field(description="it cannot be answered without the files or a tool")
    single_answer: bool = Field(description="it is clear what a right answer or product is")
    reason: str = Field(description="the reason for the verdict, one sentence")


class TrajectoryVerdict(BaseModel):
    """Whether a trajectory is one to learn from."""

    tools_sensible: bool = Field(description="the right tools for each step")
    arguments_right: bool = Field(description="the right files, questions and values")
    observations_used: bool = Field(description="the thoughts say truly what the observations showed")
    answer_relevant: bool = Field(description="the answer gives what the request asks for")
    answer_supported: bool = Field(description="it follows from the files and the observations")
    reason: str = Field(description="the reason for the verdict, one sentence")


def verify_query_files(candidate: Candidate, teacher: Teacher) -> Candidate:
    """Ask whether the query can be solved with the files and the tools.

    Args:
        candidate ([`Candidate`]): with its files.
        teacher ([`Teacher`]): a multimodal model, which is shown the pictures and the start of every document.

    Returns:
        [`Candidate`]: with the verdict.

    Raises:
        Rejected: when one of the questions is answered with no; the reason is the teacher's.
        Failed: when the teacher's reply cannot be used.
    """
    prompt = load_stage_prompt(FILES_STAGE)
    values = {"tools": candidate.expected_tools, "from_web": candidate.from_web}
    content = _content(prompt, candidate, **values)
    return _judge(FILES_STAGE, candidate, teacher, prompt, content, FilesVerdict)


def verify_trajectory(candidate: Candidate, teacher: Teacher) -> Candidate:
    """Check the form of a trajectory, then ask whether its content is right.

    Args:
        candidate ([`Candidate`]): with its trajectory.
        teacher ([`Teacher`]): a multimodal model.

    Returns:
        [`Candidate`]: with the verdicts, which are in the trajectory's `verification` too.

    Raises:
        Rejected: when the form is wrong, or one of the questions is answered with no.
        Failed: when the teacher's reply cannot be used.
    """
    trajectory = candidate.trajectory
    if trajectory is None:
        raise InputError(f"The candidate {candidate.id} has no trajectory yet: let it be solved first.")
    verdict = verify(trajectory, FORM)
    reason = verdict.reasons[0] if verdict.reasons else "The trajectory is complete."
    checks = {name: not reasons for name, reasons in verdict.found.items()}
    form = Verdict("check_form", verdict.passed, reason, checks)
    candidate = replace(candidate, verdicts=(*candidate.verdicts, form))
    if not verdict.passed:
        raise Rejected(TRAJECTORY_STAGE, reason, _with_verification(candidate))
    prompt = load_stage_prompt(TRAJECTORY_STAGE)
    steps = [
        {
            "thought": step.thought,
            "code": step.code,
            "observation": "" if step.is_final else step.observation_text()[:_MAX_OBSERVATION],
        }
        for step in trajectory.actions
    ]
    content = _content(prompt, candidate, steps=steps, answer=trajectory.answer)
    judged = _judge(TRAJECTORY_STAGE, candidate, teacher, prompt, content, TrajectoryVerdict)
    return _with_verification(judged)


def _content(prompt: StagePrompt, candidate: Candidate, **values: Any) -> list[dict[str, Any]]:
    """The question as text, then the pictures of the task in order."""
    files = [
        {"name": PurePosixPath(file.path).name, "is_picture": file.is_image, "text": excerpt_of(file)}
        for file in candidate.files
    ]
    text = prompt.render(query=candidate.query, files=files, **values)
    pictures = [{"type": "image", "image": _small(file.open_image())} for file in candidate.files if file.is_image]
    return [{"type": "text", "text": text}, *pictures]


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def _judge(
    stage: str,
    candidate: Candidate,
    teacher: Teacher,
    prompt: StagePrompt,
    content: list[dict[str, Any]],
    schema: type[FilesVerdict] | type[TrajectoryVerdict],
) -> Candidate:
    reply, provenance = ask(teacher, stage, candidate, prompt, content, schema)
    checks = {name: value for name, value in reply.model_dump().items() if name != "reason"}
    failed = [name for name, passed in checks.items() if not passed]
    reason = " ".join(reply.reason.split()) or "no reason was given"
    verdict = Verdict(stage, not failed, reason, checks)
    candidate = candidate.add(stage, provenance, verdicts=(*candidate.verdicts, verdict))
    if failed:
        raise Rejected(stage, f"{', '.join(failed)}: {reason}", _with_verification(candidate))
    return candidate


def _with_verification(candidate: Candidate) -> Candidate:
    """The verdicts in the form of a trajectory's record too, from which a row of the dataset is made."""
    if candidate.trajectory is None:
        return candidate
    verification = {
        verdict.stage: {"passed": verdict.accepted, "reasons": [verdict.reason]} for verdict in candidate.verdicts
    }
    return replace(candidate, trajectory=replace(candidate.trajectory, verification=verification))
