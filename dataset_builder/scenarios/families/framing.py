"""Paraphrases: a question is set into a situation, so that no two users of a large collection say the same.

Situations and closing words are parted by split like the families themselves: what a model was trained on never frames
a test question.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import yaml

from t3_agents.task import Task


WORDS = yaml.safe_load(Path(__file__).parents[1].joinpath("frames.yaml").read_text(encoding="utf-8"))
"""`frames`: sentences `before` and `after` a question and short `endings`, by split; and what fills their slots."""


def query_key(query: str) -> str:
    """A query without what does not make it another one: case and blanks."""
    return " ".join(query.casefold().split())


def framed(task: Task, split: str, rng: random.Random) -> Task:
    """The same task in other words.

    Args:
        task ([`~t3_agents.task.Task`]): with the bare question of its family.
        split (`str`): `train`, `validation` or `test`.
        rng (`random.Random`): chooses the frame.

    Returns:
        [`~t3_agents.task.Task`]: with another query, and so with another id.
    """
    frames = WORDS["frames"][split]
    # Where only the look of the picture may tell the tool, the subject must not.
    purposes = [] if task.origin.get("vision_only") else WORDS["purposes"][task.domain]
    who = f"{rng.choice(WORDS['relations'])} {rng.choice(WORDS['names'])}"
    slots = {"who": who, "what": rng.choice([*purposes, *WORDS["common_purposes"]])}
    before = rng.random() < 0.6
    sentence = rng.choice(frames["before" if before else "after"]).format(**slots)
    sentence = sentence[0].upper() + sentence[1:]
    parts = [sentence, task.query] if before else [task.query, sentence]
    query = " ".join(filter(None, (*parts, rng.choice(frames["endings"]))))
    fresh = Task.create(query, task.files)
    return replace(task, id=fresh.id, query=query)
