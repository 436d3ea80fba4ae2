"""The first stage: new queries out of seed queries and a toolbox, and what is wrong with a query."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from pydantic import BaseModel, Field

from t3_agents.errors import InputError
from t3_agents.storage import from_record

from ... import DOMAINS
from ..candidate import Candidate, Rejected, Verdict
from .asking import load_stage_prompt, provenance_of


if TYPE_CHECKING:
    from smolagents import Tool

    from ..config import SynthConfig
    from ..corpus.embedding import TextEmbedding
    from ..teacher import Teacher


STAGE = "queries"
_BLOCK = 64
_MIN_WORDS, _MAX_CHARS = 6, 1200
# What a user would not say: a path, a file name, a placeholder.
_FILE_NAME = re.compile(r"\b[\w-]+\.(?:png|jpe?g|pdf|xlsx|docx|pptx|csv|json|txt|mp3|wav|mp4|zip)\b", re.I)
_PLACEHOLDER = re.compile(r"\[[^\]]*\]|<[^>]+>|\{\{?[^}]*\}|\.\.\.\s|lorem ipsum|\bTODO\b", re.I)


@dataclass(frozen=True)
class Seed:
    """A query that the teacher is shown as an example.

    Args:
        id (`str`): its name.
        flavor (`str`): one of `FLAVORS`.
        query (`str`): the user's words.
        tools (`tuple[str, ...]`): tools that it needs.
        domain (`str`): one of `dataset_builder.DOMAINS`.
        split (`str`): the split whose queries may follow this example: none is shown for two splits.
    """

    id: str
    flavor: str
    query: str
    tools: tuple[str, ...]
    domain: str
    split: str = "train"


def load_seeds() -> list[Seed]:
    """The seed queries of this package."""
    text = (Path(__file__).parents[1] / "seeds.yaml").read_text(encoding="utf-8")
    return [from_record(Seed, record, "seed query") for record in yaml.safe_load(text)]


def split_of(batch: int) -> str:
    """The split of a batch of queries: of every twenty one is for validation and one for test."""
    return {18: "validation", 19: "test"}.get(batch % 20, "train")


class NewQuery(BaseModel):
    """A query as the teacher writes it."""

    query: str = Field(description="the user's words")
    tools: list[str] = Field(description="names of the tools that a good solution calls, in order")
    domain: str = Field(description="one of the given domains")


class NewQueries(BaseModel):
    """A batch of queries."""

    queries: list[NewQuery]


def choose_seeds(seeds: Sequence[Seed], flavor: str, seed: int, batch: int, number: int) -> list[Seed]:
    """The examples of a batch: a sample of its flavor and split that depends on the numbers alone."""
    pool = [entry for entry in seeds if entry.flavor == flavor and entry.split == split_of(batch)]
    if not pool:
        raise InputError(f"There is no seed query of flavor `{flavor}` for the split {split_of(batch)}: add some.")
    return random.Random(f"{seed}-{flavor}-{batch}").sample(pool, min(number, len(pool)))


def generate_queries(
    teacher: Teacher, config: SynthConfig, seeds: Sequence[Seed], toolbox: Sequence[Tool], batch: int
) -> list[Candidate]:
    """Let the teacher write a batch of queries.

    Args:
        teacher ([`Teacher`]): who is asked.
        config ([`SynthConfig`]): `flavor`, `seed`, `seeds_per_batch` and `queries_per_batch` count.
        seeds (`Sequence[Seed]`): examples to choose from, see [`load_seeds`].
        toolbox (`Sequence[Tool]`): tools of the agent that will solve the tasks.
        batch (`int`): number of the batch.

    Returns:
        `list[Candidate]`: as many as were asked for, or fewer when the teacher wrote fewer.

    Raises:
        ReplyError: when the teacher's reply cannot be used.
    """
    prompt = load_stage_prompt(STAGE)
    shown = choose_seeds(seeds, config.flavor, config.seed, batch, config.seeds_per_batch)
    text = prompt.render(
        tools=[tool for tool in toolbox if tool.name != "final_answer"],
        flavor=config.flavor,
        seeds=shown,
        count=config.queries_per_batch,
        # The run's seed in the words: another run gets other queries of a teacher that answers alike to like.
        batch=f"{config.seed}.{batch}",
        domains=DOMAINS,
    )
    answer = teacher.ask(STAGE, text, NewQueries, system=prompt.system)
    written = answer.value.queries[: config.queries_per_batch]
    provenance = provenance_of(answer, prompt)
    return [
        Candidate(
            id=f"{config.flavor}-{batch}-{number}",
            flavor=config.flavor,
            query=" ".join(query.query.split()),
            expected_tools=tuple(dict.fromkeys(name.strip() for name in query.tools if name.strip())),
            domain=query.domain.strip().lower() if query.domain.strip().lower() in DOMAINS else "others",
            split=split_of(batch),
            seed_queries=tuple(seed.id for seed in shown),
            # The tokens of the call are those of the whole batch; the first of it carries them.
            provenance={STAGE: provenance if number == 0 else {**provenance, "shared_with": f"{batch}-0"}},
        )
        for number, query in enumerate(written)
    ]


def check_query(candidate: Candidate, toolbox: Iterable[Tool], duplicate_of: str | None = None) -> Candidate:
    """Keep a query that a user could have written and that needs our tools.

    Args:
        candidate ([`Candidate`]): with a query and the tools that the teacher expects.
        toolbox (`Iterable[Tool]`): tools of the agent.
        duplicate_of (`str`, *optional*): the earlier query that it is too near to, see [`NearDuplicates`].

    Returns:
        [`Candidate`]: with the expected tools that are in the toolbox, and the verdict.

    Raises:
        Rejected: with the reason.
    """
    names = {tool.name for tool in toolbox}
    known = tuple(name for name in candidate.expected_tools if name in names)
    query = candidate.query
    reason = None
    if duplicate_of is not None:
        reason = f"near duplicate of: {duplicate_of}"
    elif len(query.split()) < _MIN_WORDS or len(query) > _MAX_CHARS:
        reason = f"the query has {len(query.split())} words and {len(query)} characters"
    elif not known:
        reason = "none of the expected tools is in the toolbox"
    elif named := _names_in(query, names):
        reason = f"the query names a tool: {named}"
    elif named := _FILE_NAME.search(query) or _PLACEHOLDER.search(query):
        reason = f"the query holds `{named.group(0)}`, a file name or placeholder"
    verdict = Verdict(STAGE, reason is None, reason or "a user could ask this")
    judged = candidate.add(
        STAGE, candidate.provenance.get(STAGE, {}), expected_tools=known, verdicts=(*candidate.verdicts, verdict)
    )
    if reason:
        raise Rejected(STAGE, reason, judged)
    return judged


def _names_in(query: str, names: Collection[str]) -> str | None:
    return next((name for name in sorted(names) if "_" in name and name in query), None)


class NearDuplicates:
    """Queries so far, and which of them a new one is too near to.

    Decisions depend on the order of the queries: add them in the order of their batches.

    Args:
        threshold (`float`): cosine similarity of the embeddings from which on two queries count as the same.
        embed ([`TextEmbedding`]): gives unit vectors, shape `(texts, width)`.
    """

    def __init__(self, threshold: float, embed: TextEmbedding):
        if not 0 < threshold <= 1:
            raise InputError(f"The threshold of near duplicates is {threshold}: give a number above 0, at most 1.")
        self.threshold = threshold
        self.embed = embed
        self._queries: list[str] = []
        # Rows for more queries than there are: growing by one would copy the whole matrix every time.
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self._lock = threading.Lock()

    def add(self, queries: Sequence[str]) -> list[str | None]:
        """Take queries in, except those that are too near to an earlier one.

        Returns:
            `list[str | None]`: for each the earlier query that it is too near to, or `None`.
        """
        vectors = self.embed(queries)
        found: list[str | None] = []
        with self._lock:
            for start in range(0, len(queries), _BLOCK):
                block = slice(start, start + _BLOCK)
                found += self._add(queries[block], vectors[block])
        return found

    def _add(self, queries: Sequence[str], vectors: np.ndarray) -> list[str | None]:
        # Two products for a whole block: one by one, memory would be read again for every query.
        count, found = len(self._queries), []
        earlier = vectors @ self._vectors[:count].T if count else np.zeros((len(vectors), 1))
        within = vectors @ vectors.T
        taken: list[int] = []
        for number in range(len(queries)):
            nearest = int(earlier[number].argmax())
            near = next((other for other in taken if within[number, other] >= self.threshold), None)
            if earlier[number, nearest] >= self.threshold:
                found.append(self._queries[nearest])
            elif near is not None:
                found.append(queries[near])
            else:
                found.append(None)
                taken.append(number)
        self._take(vectors[taken])
        self._queries += [queries[number] for number in taken]
        return found

    def _take(self, vectors: np.ndarray) -> None:
        count, needed = len(self._queries), len(self._queries) + len(vectors)
        if needed > len(self._vectors):
            grown = np.zeros((max(256, 2 * needed), vectors.shape[1]), dtype=np.float32)
            grown[:count] = self._vectors[:count] if count else 0
            self._vectors = grown
        self._vectors[count:needed] = vectors
