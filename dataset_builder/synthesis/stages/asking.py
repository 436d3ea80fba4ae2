"""A question of a stage to the teacher, and what is noted about the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ..candidate import Candidate, Failed
from ..prompts import StagePrompt


if TYPE_CHECKING:
    from ..teacher import Answer, Teacher

Schema = TypeVar("Schema", bound=BaseModel)


def provenance_of(answer: Answer[Any], prompt: StagePrompt) -> dict[str, Any]:
    """What a candidate keeps of a call: teacher, prompt version, tokens, cost and attempts."""
    return {
        "model": answer.model,
        "prompt": prompt.version,
        "attempts": answer.attempts,
        **answer.usage.to_dict(),
    }


def ask(
    teacher: Teacher,
    stage: str,
    candidate: Candidate,
    prompt: StagePrompt,
    content: str | list[dict[str, Any]],
    schema: type[Schema],
) -> tuple[Schema, dict[str, Any]]:
    """Ask about a candidate.

    Returns:
        `tuple`: the teacher's reply as `schema`, and the provenance of the call.

    Raises:
        Failed: when the teacher's reply cannot be used; what it could have said is unknown.
    """
    from ..replies import ReplyError

    try:
        answer = teacher.ask(stage, content, schema, system=prompt.system)
    except ReplyError as error:
        failed = candidate.add(stage, {"prompt": prompt.version, "problem": str(error)})
        raise Failed(stage, str(error), failed) from error
    return answer.value, provenance_of(answer, prompt)


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The provenance of two calls of one stage: numbers are added, the rest is that of the second."""
    both = {**first, **second}
    numbers = [key for key in both if isinstance(both[key], (int, float)) and not isinstance(both[key], bool)]
    return {**both, **{key: first.get(key, 0) + second.get(key, 0) for key in numbers}}
