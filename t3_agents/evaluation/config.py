"""Options of `t3 eval`, a class for each benchmark and command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from ..errors import InputError
from .embedding import OFFICIAL
from .gaia import benchmark as gaia
from .gta import benchmark as gta
from .gta.scoring import check_scoring


MODES = ("end_to_end", "step_by_step")
# What does not decide the rows of a run: it may be started or scored again with other values.
_NOT_PINNED = ("output", "num_workers", "scoring", "embedding_model", "input_price", "output_price", "trace")


@dataclass(kw_only=True)
class ScoreConfig:
    """Score a run again, without running it: `t3 eval score RUN`.

    Args:
        run (`str`): folder of the run.
        scoring (`str`, *optional*, defaults to `"official"`): of a GTA run: the benchmark's own rules, or `paper` for
            the looser ones of Multi-Modal Agent Tuning (substrings, no blacklist, open answers left out).
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for GTA's open answers, `embedded` for an offline one, `none` to leave them unscored.
        input_price (`float`, *optional*), output_price (`float`, *optional*): of a million tokens.
    """

    run: str
    scoring: str = "official"
    embedding_model: str = OFFICIAL
    input_price: float | None = None
    output_price: float | None = None


@dataclass(kw_only=True)
class CompareConfig:
    """Compare two scored runs on the same tasks: `t3 eval compare FIRST SECOND`.

    Args:
        first (`str`): folder of a scored run.
        second (`str`): folder of another one.
    """

    first: str
    second: str


@dataclass(kw_only=True)
class ReportConfig:
    """Write the report of a scored run into its folder: `t3 eval report RUN [OTHER ...]`.

    Args:
        run (`str`): folder of the run.
        compare_with (`list[str]`, *optional*): folders of further runs, to be shown beside it.
        questions (`bool`, *optional*): show questions, files, answers and steps; by default for all benchmarks but
            GAIA, whose rules keep them out of what is published.
    """

    run: str
    compare_with: list[str] = field(default_factory=list)
    questions: bool | None = None


@dataclass(kw_only=True)
class ExportConfig:
    """Write a scored run as a log of inspect_ai: `t3 eval export RUN FILE.eval`.

    Args:
        run (`str`): folder of the run.
        output (`str`): the file, `<name>.eval`.
        questions (`bool`, *optional*): write questions, pictures, answers and conversations; by default for all
            benchmarks but GAIA.
    """

    run: str
    output: str
    questions: bool | None = None


@dataclass(kw_only=True)
class RunConfig:
    """What all benchmarks have in common.

    Args:
        agent (`str`): folder or Hub id of a saved agent, or of a bare controller (`embedded`, any vision-language
            model).
        output (`str`): folder of the run; the same command on it goes on where it was stopped.
        toolbox (`str`, *optional*): tools of a bare controller.
        prompt (`str`, *optional*): prompt of a bare controller.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`; its
            key is taken from `OPENAI_API_KEY`.
        api_model (`str`, *optional*): the controller's name there, where the server lists several.
        executor (`str`, *optional*, defaults to `"sandbox"`): where code runs, see [`T3Agent`].
        num_workers (`int`, *optional*, defaults to 16): tasks at the same time; they share batches of the model.
        max_steps (`int`, *optional*): steps per task.
        max_consecutive_errors (`int`, *optional*, defaults to 5): failed steps in a row per task.
        max_new_tokens (`int`, *optional*): tokens per turn; the agent's own setting by default.
        token_budget (`int`, *optional*): input plus output tokens per task.
        time_budget (`float`, *optional*): seconds per task.
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

    agent: str
    output: str
    toolbox: str = "embedded"
    prompt: str = "compact"
    api_base: str | None = None
    api_model: str | None = None
    executor: str = "sandbox"
    num_workers: int = 16
    max_steps: int = 6
    max_consecutive_errors: int = 5
    max_new_tokens: int | None = None
    token_budget: int | None = None
    time_budget: float | None = None
    temperature: float | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    limit: int | None = None
    skip_bad_rows: bool = False
    input_price: float | None = None
    output_price: float | None = None
    trace: str | None = None

    def settings(self) -> dict[str, Any]:
        """What decides the rows of a run."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_PINNED}
        return {"command": "eval", "benchmark": self.benchmark, **values}

    def check(self) -> None:
        """Check values that the types allow.

        Raises:
            InputError: naming the option and what it may be.
        """
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError("The seeds must differ, and there must be one at least: for example `--seeds [0,1,2]`.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"The limit must be at least 1, not {self.limit}.")

    def score_config(self) -> ScoreConfig:
        """How the run is scored when it is done."""
        return ScoreConfig(run=self.output, input_price=self.input_price, output_price=self.output_price)


@dataclass(kw_only=True)
class EvalConfig(RunConfig):
    """Evaluate an agent on held-out tasks of a dataset: `t3 eval scenarios --agent ... --dataset ... --output ...`.

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
    subset: str = "all"
    blank: bool = False


@dataclass(kw_only=True)
class GTAConfig(RunConfig):
    """Evaluate an agent on GTA: `t3 eval gta --agent ... --output ...`.

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

    dataset: str = gta.HUB_ID
    revision: str | None = None
    mode: str = "end_to_end"
    scoring: str = "official"
    embedding_model: str = OFFICIAL
    toolbox: str = "gta"
    prompt: str = "paper"
    max_steps: int = 10

    def check(self) -> None:
        super().check()
        check_scoring(self.scoring)
        if self.mode not in MODES:
            raise InputError(f"There is no mode `{self.mode}`; choose one of: {', '.join(MODES)}.")
        if self.mode == "step_by_step" and self.scoring == "paper":
            raise InputError("The paper's scoring is of whole runs: use it with `--mode end_to_end`.")

    def score_config(self) -> ScoreConfig:
        config = super().score_config()
        config.scoring, config.embedding_model = self.scoring, self.embedding_model
        return config


@dataclass(kw_only=True)
class GAIAConfig(RunConfig):
    """Evaluate an agent on GAIA: `t3 eval gaia --agent ... --output ...`.

    Args:
        dataset (`str`, *optional*, defaults to `"gaia-benchmark/GAIA"`): folder or Hub id of the benchmark; the Hub's
            copy is gated.
        revision (`str`, *optional*): commit of the Hub copy.
        split (`str`, *optional*, defaults to `"validation"`): `validation`, or `test`, whose answers are not public:
            such a run writes the leaderboard's `submission.jsonl`.
        levels (`list[str]`, *optional*, defaults to all three): levels of difficulty, for example `["1"]`.
        format_answers (`bool`, *optional*, defaults to `False`): let the controller bring each answer into the
            leaderboard's form, in one more call.
    """

    benchmark: ClassVar[str] = "gaia"

    dataset: str = gaia.HUB_ID
    revision: str | None = None
    split: str = "validation"
    levels: list[str] = field(default_factory=lambda: list(gaia.LEVELS))
    format_answers: bool = False
    toolbox: str = "gaia"
    prompt: str = "paper"
    max_steps: int = 10
