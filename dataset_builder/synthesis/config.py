"""Settings of `t3 synth`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from t3_agents.errors import InputError


SCENARIOS = "scenarios"
"""Name of the offline teacher."""
_ANYTIME = {
    "output",
    "num_tasks",
    "concurrency",
    "timeout",
    "max_retries",
    "token_budget",
    "money_budget",
    "input_price",
    "output_price",
    "num_workers",
    "executor",
    "gta",
    "gaia",
}
"""Options that may be another when a run goes on: they change how much is done and how, not what comes out."""


@dataclass
class SynthConfig:
    """Synthesise tasks, files and trajectories with a teacher.

    Args:
        output (`str`, *optional*, defaults to `"synth"`): folder of the run. The same command on the same folder goes
            on where it was stopped; a larger `num_tasks` adds to it, but not with the offline teacher.
        teacher (`str`, *optional*, defaults to `"scenarios"`): URL of an OpenAI-compatible endpoint, whose key is in
            the environment variable `OPENAI_API_KEY`; or `scenarios`, the offline teacher.
        model (`str`, *optional*): name of the model at the endpoint.
        other_models (`list[str]`, *optional*): further names under which the endpoint may answer; replies of others
            are refused.
        num_tasks (`int`, *optional*, defaults to 100): candidates, of which those that pass all stages are kept.
        flavour (`str`, *optional*, defaults to `"gta"`): `gta` (pictures and perception tools) or `gaia` (documents
            and search).
        seed (`int`, *optional*, defaults to 0): which seed queries a batch is shown, or which tasks
            the offline teacher makes.
        seeds_per_batch (`int`, *optional*, defaults to 20): seed queries that the teacher is shown at a time.
        queries_per_batch (`int`, *optional*, defaults to 10): queries that it is asked for at a time.
        duplicate_threshold (`float`, *optional*, defaults to 0.9): cosine similarity from which a query is a duplicate
            of an earlier one.
        embedding (`str`, *optional*, defaults to `"embedded"`): how texts are compared: `embedded` (the sentence
            encoder of the extra `eval`) or `words` (hashed words, no model).
        image_corpus (`str`, *optional*): captioned pictures, a folder or Hub id that `datasets` loads; by default
            pictures that this package draws.
        image_column (`str`, *optional*, defaults to `"image"`), caption_column (`str`, *optional*, defaults to
            `"caption"`): its columns.
        max_files (`int`, *optional*, defaults to 3): files of a task.
        toolbox (`str`, *optional*, defaults to `"embedded"`): tools of the solving agent.
        prompt (`str`, *optional*, defaults to `"compact"`): its system prompt.
        max_steps (`int`, *optional*, defaults to 8): steps of a trajectory.
        code_executor (`str`, *optional*, defaults to `"sandbox"`): where the agent's code runs, see `T3Agent`.
        temperature (`float`, *optional*, defaults to 0): of the teacher.
        reply_tokens (`int`, *optional*, defaults to 2048): tokens of one reply.
        concurrency (`int`, *optional*, defaults to 16): candidates, and so calls, under way at a time; fewer while the
            endpoint is overloaded.
        timeout (`float`, *optional*, defaults to 300): seconds without a word from the endpoint before a call is
            repeated.
        max_retries (`int`, *optional*, defaults to 8): times that a call is repeated.
        token_budget (`int`, *optional*): tokens, read and written, after which the run stops.
        money_budget (`float`, *optional*): money after which the run stops.
        input_price (`float`, *optional*, defaults to 0), output_price (`float`, *optional*, defaults to 0): money per
            million tokens read and written.
        gta (`str`, *optional*), gaia (`str`, *optional*): folders or Hub ids of the benchmarks; queries that are near
            to one of their questions are then listed in the report.
        executor (`str`, *optional*, defaults to `"threads"`): `threads`, or `ray` for several machines.
        num_workers (`int`, *optional*, defaults to 2): processes of the offline teacher or of Ray.
    """

    output: str = "synth"
    teacher: str = SCENARIOS
    model: str | None = None
    other_models: list[str] | None = None
    num_tasks: int = 100
    flavour: str = "gta"
    seed: int = 0
    seeds_per_batch: int = 20
    queries_per_batch: int = 10
    duplicate_threshold: float = 0.9
    embedding: str = "embedded"
    image_corpus: str | None = None
    image_column: str = "image"
    caption_column: str = "caption"
    max_files: int = 3
    toolbox: str = "embedded"
    prompt: str = "compact"
    max_steps: int = 8
    code_executor: str = "sandbox"
    temperature: float = 0.0
    reply_tokens: int = 2048
    concurrency: int = 16
    timeout: float = 300.0
    max_retries: int = 8
    token_budget: int | None = None
    money_budget: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    gta: str | None = None
    gaia: str | None = None
    executor: str = "threads"
    num_workers: int = 2

    def check(self) -> None:
        """Check what does not depend on other parts.

        Raises:
            InputError: naming the option and what it takes.
        """
        for name in ("num_tasks", "seeds_per_batch", "queries_per_batch", "max_steps", "reply_tokens", "concurrency"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "a number from 1")
        _check("num_workers", self.num_workers, self.num_workers >= 1, "a number from 1")
        _check("max_files", self.max_files, self.max_files >= 0, "a number from 0")
        _check("max_retries", self.max_retries, self.max_retries >= 0, "a number from 0")
        _check("timeout", self.timeout, self.timeout > 0, "seconds above 0")
        _check("duplicate_threshold", self.duplicate_threshold, 0 < self.duplicate_threshold <= 1, "0 to 1")
        _check("temperature", self.temperature, self.temperature >= 0, "a number from 0")
        for name in ("input_price", "output_price"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "a price from 0")
        for name in ("token_budget", "money_budget"):
            value = getattr(self, name)
            _check(name, value, value is None or value > 0, "a budget above 0")
        if self.money_budget is not None and not self.input_price + self.output_price:
            raise InputError("`money_budget` needs prices: give `input_price` and `output_price` per million tokens.")
        _check("executor", self.executor, self.executor in ("threads", "ray"), "threads or ray")
        if self.teacher == SCENARIOS:
            return
        if not self.teacher.startswith(("http://", "https://")):
            raise InputError(f"There is no teacher `{self.teacher}`: give the URL of an endpoint, or `{SCENARIOS}`.")
        if not self.model:
            raise InputError("An endpoint has many models: name the teacher's with `--model`.")

    def settings(self) -> dict[str, Any]:
        """What decides the content of a run; it is pinned in its folder."""
        pinned = {name: value for name, value in asdict(self).items() if name not in _ANYTIME}
        if self.executor == "ray":
            pinned |= {"executor": "ray", "num_workers": self.num_workers}  # each worker has its part of the batches
        if self.teacher != SCENARIOS:
            pinned["teacher"] = "endpoint"  # it may move to another address
        return {"command": "synth", **pinned}


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise InputError(f"`{name}` is {value}: give {wanted}.")
