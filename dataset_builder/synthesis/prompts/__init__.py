"""The words that the teacher is asked with, one YAML file a stage: `version`, `system` and `user`.

Change `version` with the words: it is kept with every candidate, and rows of two versions are told apart by it.
"""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml


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
    text = importlib.resources.files(__package__).joinpath(f"{stage}.yaml").read_text(encoding="utf-8")
    record = yaml.safe_load(text)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(record["user"])
    return StagePrompt(f"{stage}/{record['version']}", record["system"].strip(), template)
