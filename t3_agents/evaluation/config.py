"""Options of `t3 eval`, a class for each benchmark and command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

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
class CompareConfig:
    """Compare two scored runs on the same tasks.

    Args:
        first (`str`): folder of a scored run.
        second (`str`): folder of another one.
    """

    first: Positional[str]
    second: Positional[str]


@dataclass(kw_only=True)
class ReportConfig:
    """Write the report of a scored run into its folder.

    Args:
        run (`str`): folder of the run.
        others (`list[str]`, *optional*): folders of further runs, to be shown beside it.
        questions (`bool`, *optional*): show questions, files, answers and steps; by default for all benchmarks but
            GAIA, whose rules keep them out of what is published.
    """

    run: Positional[str]
    others: Positional[list[str]] = field(default_factory=list)
    questions: bool | None = None


@dataclass(kw_only=True)
class ExportConfig:
    """Write a scored run as a log of inspect_ai, which datasets reads too.

    Args:
        run (`str`): folder of the run.
        output (`str`): the file, `<name>.eval`.
        questions (`bool`, *optional*): write questions, pictures, answers and conversations; by default for all
            benchmarks but GAIA.
    """

    run: Positional[str]
    output: str
    questions: bool | None = None


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
        check_options(self)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError("The seeds must differ, and there must be one at least: for example `--seeds 0 1 2`.")

    def score_config(self) -> ScoreConfig:
        """How the run is scored when it is done."""
        return ScoreConfig(run=self.output, input_price=self.input_price, output_price=self.output_price)


@dataclass(kw_only=True)
class EvalConfig(RunConfig):
    """Measure an agent on held-out tasks of a dataset.

    Args:
        dataset (`str`): folder or Hub id of the dataset with the tasks.
        split (`str`, *optional*, defaults to `"test"`): split of the tasks.
        subset (`str`, *optional*, defaults to `"all"`): `all`, `seen`, `unseen` or `vision` families.
        blank (`bool`, *optional*, defaults to `False`): replace every picture by a plain one, to see what the pictures
            bring.
    """

    benchmark: ClassVar[str] = "scenarios"

    dataset: str
    split: str = "test"
    subset: Literal["all", "seen", "unseen", "vision"] = "all"
    blank: bool = False


@dataclass(kw_only=True)
class GTAConfig(RunConfig):
    """Measure an agent on GTA, by the benchmark's own rules.

    Args:
        dataset (`str`, *optional*, defaults to `"Jize1/GTA"`): folder, zip or Hub id of the benchmark.
        revision (`str`, *optional*): commit of the Hub copy.
        mode (`str`, *optional*, defaults to `"end_to_end"`): `end_to_end`, or `step_by_step` to predict each turn of
            the solution from those before it.
        scoring (`str`, *optional*, defaults to `"official"`): the benchmark's own rules, or `paper` for the looser
            ones of Multi-Modal Agent Tuning (substrings, no blacklist, open answers left out).
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for open answers, `embedded` for an offline one, `none` to leave them unscored.
    """

    benchmark: ClassVar[str] = "gta"

    dataset: str = "Jize1/GTA"
    revision: str | None = None
    mode: Literal["end_to_end", "step_by_step"] = "end_to_end"
    scoring: Literal["official", "paper"] = "official"
    embedding_model: str = ScoreConfig.embedding_model
    toolbox: str = "gta"
    prompt: str = "paper"
    max_steps: PositiveInt = 10

    def check(self) -> None:
        super().check()
        if self.mode == "step_by_step" and self.scoring == "paper":
            raise InputError("The paper's scoring is of whole runs: use it with `--mode end_to_end`.")

    def score_config(self) -> ScoreConfig:
        config = super().score_config()
        config.scoring, config.embedding_model = self.scoring, self.embedding_model
        return config


@dataclass(kw_only=True)
class GAIAConfig(RunConfig):
    """Measure an agent on GAIA, by the rules of its leaderboard.

    Args:
        dataset (`str`, *optional*, defaults to `"gaia-benchmark/GAIA"`): folder or Hub id of the benchmark; the Hub's
            copy is gated.
        revision (`str`, *optional*): commit of the Hub copy.
        split (`str`, *optional*, defaults to `"validation"`): `validation`, or `test`, whose answers are not public:
            such a run writes the leaderboard's `submission.jsonl`.
        levels (`list[str]`, *optional*, defaults to all three): levels of difficulty, for example `--levels 1 2`.
        format_answers (`bool`, *optional*, defaults to `False`): let the controller bring each answer into the
            leaderboard's form, in one more call.
    """

    benchmark: ClassVar[str] = "gaia"

    dataset: str = "gaia-benchmark/GAIA"
    revision: str | None = None
    split: Literal["validation", "test"] = "validation"
    levels: list[Literal["1", "2", "3"]] = field(default_factory=lambda: ["1", "2", "3"])
    format_answers: bool = False
    toolbox: str = "gaia"
    prompt: str = "paper"
    max_steps: PositiveInt = 10
