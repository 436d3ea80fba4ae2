"""The stages of the paper put together for a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from t3_agents.models.endpoint import Endpoint

from ..config import SynthConfig
from ..pipeline import Pipeline, Stage, Stages
from ..progress import Ledger, Prices, Progress
from ..teacher import Teacher, TeacherModel


def endpoint_teacher(config: SynthConfig, ledger: Ledger) -> Teacher:
    """The teacher behind the endpoint of a config.

    Args:
        config ([`SynthConfig`]): with `teacher` and `model`.
        ledger ([`Ledger`]): where usage is counted.
    """
    endpoint = Endpoint(
        config.teacher,
        request_time_limit=config.request_time_limit,
        max_concurrency=config.concurrency,
        max_retries=config.max_retries,
    )
    return Teacher(
        endpoint,
        config.model or "",
        config.other_models or (),
        config.temperature,
        config.reply_tokens,
        ledger,
        Prices(config.input_price, config.output_price),
    )


def paper_stages(config: SynthConfig, teacher: Teacher) -> Stages:
    """Queries, plan, files, verifier, trajectory, verifier.

    Args:
        config ([`SynthConfig`]): settings.
        teacher ([`Teacher`]): who is asked, and solves.

    Raises:
        InputError: when a toolbox, a corpus or an executor does not exist.
        MissingExtraError: when a package is missing.
    """
    from t3_agents.agent.loop import check_executor
    from t3_agents.hub.wheel_weights import cache_dir
    from t3_agents.sandbox import require_sandbox
    from t3_agents.tools.toolbox import make_toolbox

    from ..corpus.embedding import TextEmbedding
    from ..corpus.image_corpus import ImageCorpus
    from .files import make_files
    from .planning import plan_files
    from .queries import NearDuplicates, check_query, generate_queries, load_seeds
    from .solving import STAGE as SOLVE
    from .solving import AgentPool
    from .verification import verify_query_files, verify_trajectory

    check_executor(config.executor)
    require_sandbox()
    toolbox = make_toolbox(config.toolbox)
    embed = TextEmbedding(config.embedding)
    corpus = ImageCorpus.load(
        config.image_corpus, embed, cache_dir() / "synthesis", config.image_column, config.caption_column
    )
    seeds = load_seeds()
    agents = AgentPool(config, partial(TeacherModel, teacher, SOLVE))
    return Stages(
        generate=lambda batch: generate_queries(teacher, config, seeds, toolbox, batch),
        check=lambda candidate, duplicate_of: check_query(candidate, toolbox, duplicate_of),
        duplicates=NearDuplicates(config.duplicate_threshold, embed).add,
        stages=(
            Stage("plan_files", lambda candidate: plan_files(candidate, teacher, config.max_files)),
            Stage("make_files", lambda candidate: make_files(candidate, teacher, corpus)),
            Stage("verify_files", lambda candidate: verify_query_files(candidate, teacher)),
            Stage(SOLVE, agents.solve),
            Stage("verify_trajectory", lambda candidate: verify_trajectory(candidate, teacher)),
        ),
        queries_per_batch=config.queries_per_batch,
    )


def make_pipeline(
    config: SynthConfig,
    folder: Path,
    teacher: Teacher,
    stages: Stages | None = None,
    name: str | None = None,
    journal: Path | None = None,
) -> Pipeline:
    """The run of a config, its ledger filled with what earlier processes used.

    Args:
        config ([`SynthConfig`]): settings.
        folder (`Path`): folder of the run, held by the caller.
        teacher ([`Teacher`]): who is asked.
        stages ([`Stages`], *optional*): what to do; by default the stages of the paper.
        name (`str`, *optional*, defaults to the flavor): name in the shards.
        journal (`Path`, *optional*, defaults to `folder`): see [`RunFolderStore`].
    """
    pipeline = Pipeline(
        stages or paper_stages(config, teacher),
        folder,
        name or config.flavor,
        config.num_tasks,
        config.concurrency,
        Progress(config.num_tasks),
        journal,
    )
    for stage, usage in pipeline.progress.usage().items():
        teacher.ledger.add(stage, usage)
    return pipeline
