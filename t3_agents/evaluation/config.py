"""Options that all benchmarks share: of a run, and of how it is scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from ..agent.config import AgentOptions
from ..errors import InputError
from ..options import Positional, check_options


# What does not decide the rows of a run: it may be started or scored again with other values.
_NOT_PINNED = ("output", "num_workers", "scoring", "embedding_model", "input_price", "output_price", "trace")


@dataclass(kw_only=True)
class ScoreConfig:
    """Score a run again, without running it.

    Args:
        run (`str`): folder of the run.
        scoring (`str`, *optional*): the benchmark's own rules by default; for a GTA run also `paper`, the looser rules
            of Multi-Modal Agent Tuning (substrings, no blacklist, open answers left out).
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for GTA's open answers, `embedded` for an offline one, `none` to leave them unscored.
        input_price (`float`, *optional*): price of a million input tokens.
        output_price (`float`, *optional*): price of a million output tokens.
    """

    run: Positional[str]
    scoring: str | None = None
    embedding_model: str = "sentence-transformers/all-mpnet-base-v2"
    input_price: NonNegativeFloat | None = None
    output_price: NonNegativeFloat | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the option and what it may be.
        """
        check_options(self)
        if (self.input_price is None) != (self.output_price is None):
            raise InputError("The cost needs both prices: give `--input-price` and `--output-price`.")

    @property
    def prices(self) -> dict[str, float] | None:
        """Prices of a million `input` and `output` tokens, where they are given."""
        return None if self.input_price is None else {"input": self.input_price, "output": self.output_price}


@dataclass(kw_only=True)
class RunConfig(AgentOptions):
    """What all benchmarks have in common.

    Args:
        output (`str`): folder of the run; the same command on it resumes a stopped run.
        num_workers (`int`, *optional*, defaults to 16): tasks at the same time; they share batches of the model.
        max_consecutive_errors (`int`, *optional*, defaults to 5): failed steps in a row that end a task.
        token_budget (`int`, *optional*): input plus output tokens per task.
        temperature (`float`, *optional*): sample at this temperature; greedy by default.
        seeds (`list[int]`, *optional*, defaults to `[0]`): run once with each; several need a temperature and give
            pass@k.
        limit (`int`, *optional*): only the first tasks.
        skip_bad_rows (`bool`, *optional*, defaults to `False`): leave out rows that cannot be used, and count them.
        input_price (`float`, *optional*): price of a million input tokens.
        output_price (`float`, *optional*): price of a million output tokens.
        trace (`str`, *optional*): file for OpenTelemetry spans, or URL of an OTLP collector.
    """

    benchmark: ClassVar[str]

    output: str
    num_workers: PositiveInt = 16
    max_steps: PositiveInt = 6
    max_consecutive_errors: PositiveInt = 5
    token_budget: PositiveInt | None = None
    temperature: PositiveFloat | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    limit: PositiveInt | None = None
    skip_bad_rows: bool = False
    input_price: NonNegativeFloat | None = None
    output_price: NonNegativeFloat | None = None
    trace: str | None = None

    def settings(self) -> dict[str, Any]:
        """What decides the rows of a run."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_PINNED}
        return {"command": "eval", "benchmark": self.benchmark, **values}

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the option and what it may be.
        """
        super().check()
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError("The seeds must differ, and there must be one at least: for example `--seeds 0 1 2`.")

    def arguments(self) -> dict[str, Any]:
        names = ("max_consecutive_errors", "token_budget")
        return {**super().arguments(), **{name: getattr(self, name) for name in names}}

    def score_config(self) -> ScoreConfig:
        """How the run is scored when it is done."""
        return ScoreConfig(run=self.output, input_price=self.input_price, output_price=self.output_price)
