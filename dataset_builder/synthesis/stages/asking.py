"""What a stage asks the teacher, and what is noted about the reply.

The words are in `synthesis/prompts`, one YAML file a stage: `version`, `system` and `user`. Change `version` with the
words: it is kept with every candidate, and rows of two versions are told apart by it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ..candidate import Candidate, Failed
from ..teacher import Answer, ReplyError, Schema, Teacher


PROMPTS = Path(__file__).parents[1] / "prompts"


@dataclass(frozen=True)
class StagePrompt:
    """What one stage says to the teacher.

    Args:
        version (`str`): `<stage>/<number>`, for the provenance.
        system (`str`): the system prompt.
        template (`jinja2.Template`): the user's turn.
    """

    version: str
    system: str
    template: jinja2.Template

    def render(self, **values: Any) -> str:
        """The user's turn, with `values` filled in."""
        return self.template.render(**values).strip()


@functools.cache
def load_stage_prompt(stage: str) -> StagePrompt:
    """The prompt of a stage, by the name of its file."""
    record = yaml.safe_load((PROMPTS / f"{stage}.yaml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(record["user"])
    return StagePrompt(f"{stage}/{record['version']}", record["system"].strip(), template)


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
