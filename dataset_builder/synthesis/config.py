"""Settings of `t3 synth`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from t3_agents.agent.config import Executor, load_prompt
from t3_agents.errors import InputError
from t3_agents.options import Positional, check_options


SCENARIOS = "scenarios"
"""Name of the offline teacher."""
_ANYTIME = (
    "output num_tasks concurrency request_time_limit max_retries token_budget money_budget input_price output_price "
    "num_workers backend gta gaia"
).split()
"""Options that may change when a run resumes: they change how much is done and how, not what comes out."""


@dataclass
class SynthConfig:
    """Synthesize tasks, files and trajectories with a teacher.

    Args:
        output (`str`): folder of the run. The same command on it resumes a stopped run; a larger `num_tasks` adds to
            it, but not with the offline teacher. Without it the command says what it would do.
        teacher (`str`, *optional*, defaults to `"scenarios"`): URL of an OpenAI-compatible endpoint, whose key is in
            the environment variable `OPENAI_API_KEY`; or `scenarios`, the offline teacher.
        model (`str`, *optional*): name of the model at the endpoint.
        other_models (`list[str]`, *optional*): further names under which the endpoint may answer; replies of others
            are refused.
        num_tasks (`int`, *optional*, defaults to 100): candidates, of which those that pass all stages are kept.
        flavor (`str`, *optional*, defaults to `"gta"`): `gta` (pictures and perception tools) or `gaia` (documents
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
        image_column (`str`, *optional*, defaults to `"image"`): its column of pictures.
        caption_column (`str`, *optional*, defaults to `"caption"`): its column of captions.
        max_files (`int`, *optional*, defaults to 3): files of a task.
        toolbox (`str`, *optional*, defaults to `"embedded"`): tools of the solving agent.
        prompt (`str`, *optional*, defaults to `"compact"`): its system prompt.
        max_steps (`int`, *optional*, defaults to 8): steps of a trajectory.
        executor (`str`, *optional*, defaults to `"sandbox"`): where model-written code runs: `sandbox`, `docker`,
            `e2b`, `modal`, `blaxel`, or `local`, which is no security boundary.
        temperature (`float`, *optional*, defaults to 0): of the teacher.
        reply_tokens (`int`, *optional*, defaults to 2048): tokens of one reply.
        concurrency (`int`, *optional*, defaults to 16): candidates, and so calls, under way at a time; fewer while the
            endpoint is overloaded.
        request_time_limit (`float`, *optional*, defaults to 300): seconds of silence before a call is
            repeated.
        max_retries (`int`, *optional*, defaults to 8): times that a call is repeated.
        token_budget (`int`, *optional*): tokens, read and written, after which the run stops.
        money_budget (`float`, *optional*): money after which the run stops.
        input_price (`float`, *optional*, defaults to 0): price of a million input tokens.
        output_price (`float`, *optional*, defaults to 0): price of a million output tokens.
        gta (`str`, *optional*): folder, zip or Hub id of GTA; queries that are near to one of its questions are listed
            in the report.
        gaia (`str`, *optional*): the same for GAIA, a folder or Hub id.
        backend (`str`, *optional*, defaults to `"local"`): what works: threads of this process (`local`), or `ray` on
            several machines.
        num_workers (`int`, *optional*, defaults to 2): processes of the offline teacher or of Ray.
    """

    output: str | None = None
    teacher: str = SCENARIOS
    model: str | None = None
    other_models: list[str] | None = None
    num_tasks: PositiveInt = 100
    flavor: Literal["gta", "gaia"] = "gta"
    seed: int = 0
    seeds_per_batch: PositiveInt = 20
    queries_per_batch: PositiveInt = 10
    duplicate_threshold: ClosedUnitInterval = 0.9
    embedding: Literal["embedded", "words"] = "embedded"
    image_corpus: str | None = None
    image_column: str = "image"
    caption_column: str = "caption"
    max_files: NonNegativeInt = 3
    toolbox: str = "embedded"
    prompt: str = "compact"
    max_steps: PositiveInt = 8
    executor: Executor = "sandbox"
    temperature: NonNegativeFloat = 0.0
    reply_tokens: PositiveInt = 2048
    concurrency: PositiveInt = 16
    request_time_limit: PositiveFloat = 300.0
    max_retries: NonNegativeInt = 8
    token_budget: PositiveInt | None = None
    money_budget: PositiveFloat | None = None
    input_price: NonNegativeFloat = 0.0
    output_price: NonNegativeFloat = 0.0
    gta: str | None = None
    gaia: str | None = None
    backend: Literal["local", "ray"] = "local"
    num_workers: PositiveInt = 2

    def check(self) -> None:
        """Check the values, also that each one that is given counts.

        Raises:
            InputError: naming the option and what it takes.
        """
        check_options(self)
        given = {f.name for f in fields(self) if getattr(self, f.name) != f.default}
        if self.teacher == SCENARIOS:
            unused, why = (
                given - {"output", "num_tasks", "prompt", "seed", "num_workers"},
                "the offline teacher does not use it",
            )
        else:
            unused, why = given & {"num_workers"} if self.backend == "local" else set(), "it needs `--backend ray`"
        if unused:
            raise InputError(f"`{sorted(unused)[0]}` has no effect here: {why}.")
        if self.money_budget is not None and not self.input_price + self.output_price:
            raise InputError("`money_budget` needs prices: give `input_price` and `output_price` per million tokens.")
        load_prompt(self.prompt)
        if self.teacher == SCENARIOS:
            self._check_output(
                f"the offline teacher, in about {self.num_tasks * 0.4 / self.num_workers / 60:,.0f} minutes"
            )
            return
        if not self.teacher.startswith(("http://", "https://")):
            raise InputError(f"There is no teacher `{self.teacher}`: give the URL of an endpoint, or `{SCENARIOS}`.")
        if not self.model:
            raise InputError("An endpoint has many models: name the teacher's with `--model`.")
        limits = [f"{self.token_budget:,} tokens"] if self.token_budget else []
        limits += [f"{self.money_budget:g} of money"] if self.money_budget else []
        self._check_output(f"{self.model} at {self.teacher}, up to {' and '.join(limits) or 'no limit of money'}")

    def _check_output(self, how: str) -> None:
        if not self.output:
            raise InputError(f"This would make {self.num_tasks:,} tasks with {how}: name the folder with `--output`.")

    def settings(self) -> dict[str, Any]:
        """What decides the content of a run; it is pinned in its folder."""
        pinned = {name: value for name, value in asdict(self).items() if name not in _ANYTIME}
        if self.backend == "ray":
            pinned |= {"backend": "ray", "num_workers": self.num_workers}  # each worker has its part of the batches
        if self.teacher != SCENARIOS:
            pinned["teacher"] = "endpoint"  # it may move to another address
        return {"command": "synth", **pinned}


@dataclass
class StatusConfig:
    """Show how far a run is, also while it is running.

    Args:
        run (`str`): folder of the run.
    """

    run: Positional[str]


@dataclass
class InspectConfig:
    """Show the whole story of one candidate.

    Args:
        run (`str`): folder of the run.
        id (`str`): id of the candidate.
    """

    run: Positional[str]
    id: Positional[str]
