"""Whether generated queries are near questions of a benchmark; the command `t3 synth contamination`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jsonargparse.typing import ClosedUnitInterval

from t3_agents.errors import InputError
from t3_agents.options import Positional
from t3_agents.storage import write_atomic
from t3_agents.tools.local.text import words_of


if TYPE_CHECKING:
    from .corpus.embedding import TextEmbedding

_NGRAM = 13
"""Words in a row that count as copied, as in the reports of GPT-3 (arXiv 2005.14165, appendix C)."""
_BLOCK = 1024
REPORT_FILE = "contamination.json"


@dataclass
class ContaminationConfig:
    """Find kept queries of a run that are near questions of GTA or GAIA.

    Args:
        run (`str`): folder of the run. The report is written to `contamination.json` in it.
        gta (`str`, *optional*): files of GTA: folder, zip or Hub id.
        gaia (`str`, *optional*): files of GAIA: folder or Hub id.
        threshold (`float`, *optional*, defaults to 0.8): cosine similarity from which on a query counts as near.
        embedding (`str`, *optional*, defaults to `"embedded"`): how texts are compared: `embedded` (the
            sentence encoder of the extra `eval`) or `words` (hashed words, no model).
    """

    run: Positional[str]
    gta: str | None = None
    gaia: str | None = None
    threshold: ClosedUnitInterval = 0.8
    embedding: Literal["embedded", "words"] = "embedded"


@dataclass(frozen=True)
class NearQuestion:
    """A query and the benchmark's question that it is too near to.

    Args:
        query_id (`str`), query (`str`): the generated query.
        benchmark (`str`), question_id (`str`), question (`str`): the question.
        likeness (`float`): cosine similarity of the embeddings.
        copied (`bool`): whether they share `13` words in a row, or all of a shorter question's.
    """

    query_id: str
    query: str
    benchmark: str
    question_id: str
    question: str
    likeness: float
    copied: bool


@dataclass(frozen=True)
class Contamination:
    """The report.

    Args:
        threshold (`float`): similarity from which on a query counts as near.
        embedding (`str`): name of the embedding.
        num_queries (`int`): queries that were looked at.
        num_questions (`dict[str, int]`): questions by benchmark.
        near (`list[NearQuestion]`): what was found, the nearest first.
        highest (`float`): the highest similarity of all, also below the threshold.
    """

    threshold: float
    embedding: str
    num_queries: int
    num_questions: dict[str, int]
    near: list[NearQuestion] = field(default_factory=list)
    highest: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_questions(gta: str | Path | None = None, gaia: str | Path | None = None) -> dict[str, dict[str, str]]:
    """Questions of the benchmarks whose files are at hand.

    Args:
        gta (`str` or `Path`, *optional*): folder, zip or Hub id of GTA.
        gaia (`str` or `Path`, *optional*): folder or Hub id of GAIA; its validation questions.

    Returns:
        `dict[str, dict[str, str]]`: questions by id, by benchmark.

    Raises:
        InputError: when none is given, or one cannot be read.
    """
    questions: dict[str, dict[str, str]] = {}
    if gta is not None:
        from t3_agents.evaluation.gta.benchmark import load_gta

        questions["gta"] = {task.id: task.query for task in load_gta(gta).tasks}
    if gaia is not None:
        from t3_agents.evaluation.gaia.benchmark import ANSWER_FORM, load_gaia

        # What the loader adds to every question would make them all alike.
        questions["gaia"] = {task.id: task.query.removesuffix(ANSWER_FORM).strip() for task in load_gaia(gaia).tasks}
    if not questions:
        raise InputError("Give the files of GTA or GAIA, or of both.")
    return questions


def find_contamination(
    queries: Mapping[str, str],
    questions: Mapping[str, Mapping[str, str]],
    embed: TextEmbedding,
    threshold: float = 0.8,
) -> Contamination:
    """Compare every query with every question.

    Args:
        queries (`Mapping[str, str]`): generated queries by id.
        questions (`Mapping[str, Mapping[str, str]]`): questions by id, by benchmark, see [`load_questions`].
        embed ([`TextEmbedding`]): gives unit vectors.
        threshold (`float`, *optional*, defaults to 0.8): cosine similarity from which on a query counts as near.
            A query that copies words counts whatever its similarity is.

    Returns:
        [`Contamination`]: for each query at most its nearest question.
    """
    entries = [(name, key, text) for name, texts in questions.items() for key, text in texts.items()]
    counts = {name: len(texts) for name, texts in questions.items()}
    if not entries or not queries:
        return Contamination(threshold, embed.name, len(queries), counts)
    known = embed([text for _, _, text in entries])
    runs = _runs_of([text for _, _, text in entries])
    near, highest, ids = [], 0.0, list(queries)
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        likeness = embed([queries[key] for key in block]) @ known.T
        for key, row in zip(block, likeness, strict=True):
            copied = next((runs[run] for run in _runs_in(queries[key]) if run in runs), None)
            place = int(np.argmax(row)) if copied is None else copied
            highest = max(highest, float(row.max()))
            if copied is not None or row[place] >= threshold:
                near.append(
                    NearQuestion(key, queries[key], *entries[place], round(float(row[place]), 4), copied is not None)
                )
    near.sort(key=lambda entry: (-entry.likeness, entry.query_id))
    return Contamination(threshold, embed.name, len(queries), counts, near, round(highest, 4))


def _runs_of(texts: Sequence[str]) -> dict[tuple[str, ...], int]:
    """Runs of words, and the first text that each is in."""
    # From the last text to the first, so that the first one stays.
    return {run: number for number in reversed(range(len(texts))) for run in _runs_in(texts[number])}


def _runs_in(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [tuple(words[start : start + _NGRAM]) for start in range(max(1, len(words) - _NGRAM + 1))]


def report_on(config: ContaminationConfig) -> Contamination:
    """Compare the kept queries of a run, and write the report.

    Raises:
        InputError: when the run has no kept queries, no benchmark is given, or one cannot be read.
    """
    from .corpus.embedding import TextEmbedding
    from .run_folder import KEPT, finished_rows

    folder = Path(config.run)
    tasks = [row["task"] for outcome, row in finished_rows(folder) if outcome == KEPT]
    if not tasks:
        raise InputError(f"{folder} has no kept rows: give the `--output` of a run.")
    queries = {task["id"]: task["query"] for task in tasks}
    questions = load_questions(config.gta, config.gaia)
    report = find_contamination(queries, questions, TextEmbedding(config.embedding), config.threshold)
    write_atomic(folder / REPORT_FILE, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return report


def main(config: ContaminationConfig) -> int:
    """The command `t3 synth contamination`; the exit status is 1 when something near was found."""
    report = report_on(config)
    for entry in report.near:
        print(
            f"{entry.query_id} is {'copied from' if entry.copied else 'near'} {entry.benchmark} {entry.question_id} "
            f"({entry.likeness:.2f}): {entry.query}"
        )
    counts = ", ".join(f"{count} of {name}" for name, count in report.num_questions.items())
    print(
        f"{len(report.near)} of {report.num_queries} queries are near one of {counts} questions (threshold "
        f"{report.threshold:g}, {report.embedding}; the highest similarity is {report.highest:.2f})."
    )
    return 1 if report.near else 0
