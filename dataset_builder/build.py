"""Build the MM-Traj dataset with the offline teacher: make tasks, solve, verify, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt, restricted_number_type

from t3_agents.agent.config import load_prompt
from t3_agents.errors import InputError, suggestion
from t3_agents.options import check_options
from t3_agents.progress import WorkProgress
from t3_agents.storage import BlobStore, RunFolder, Shard

from .export import export_run
from .workers import run_jobs


if TYPE_CHECKING:
    from .scenarios import Scenario

FIRST_INDEX = {"test": 0, "validation": 1_000_000, "train": 2_000_000}
"""Number of the first task of a split within its family: no number is in two splits, whatever their sizes are. The
order is the order of the work: of two equal tasks the one in the test split stays."""
ROW_SECONDS = 0.4
"""What a task takes about, by one core."""
NumTasks = restricted_number_type(
    "NumTasks", int, [(">=", 0), ("<=", 1_000_000)], docstring="int restricted to be from 0 to 1,000,000"
)


@dataclass
class BuildConfig:
    """Build a dataset with the offline teacher: so many tasks of each family.

    Args:
        output (`str`): folder of the run; the finished dataset is `<output>/dataset`. The same command on it resumes
            a stopped run. Without it the command says what it would do.
        families (`list[str]`, *optional*): names of scenario families; all of them when empty.
        train (`int`, *optional*, defaults to 100): tasks per family for the train split. A family that is kept unseen
            has none.
        validation (`int`, *optional*, defaults to 10): tasks per family for the validation split, seen families only.
        test (`int`, *optional*, defaults to 10): tasks per family for the test split.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of the agent that solves the tasks, and so of one
            that is tuned on the rows: `compact` (the names of the tools) or `paper` (with worked examples).
        seed (`int`, *optional*, defaults to 0): seed of the collection.
        num_workers (`int`, *optional*, defaults to 1): processes; the result does not depend on their number.
    """

    output: str | None = None
    families: list[str] = field(default_factory=list)
    train: NumTasks = 100
    validation: NumTasks = 10
    test: NumTasks = 10
    prompt: str = "compact"
    seed: int = 0
    num_workers: PositiveInt = 1

    def check(self) -> None:
        """Check the values that do not depend on the scenarios.

        Raises:
            InputError: naming the option and what it takes.
        """
        check_options(self)
        load_prompt(self.prompt)
        if not self.train + self.validation + self.test:
            raise InputError("All splits have 0 tasks: give `train`, `validation` or `test` a number.")


def build_dataset(config: BuildConfig, output: str | Path | None = None) -> Path:
    """Make, solve and verify the tasks of a config and export what passed.

    Finished rows are on disk one by one: after a crash the same call resumes, and gives the same dataset.

    Args:
        config ([`BuildConfig`]): what to build.
        output (`str` or `Path`, *optional*, defaults to `config.output`): folder of the run.

    Returns:
        `Path`: the dataset, `<output>/dataset`.

    Raises:
        InputError: when an option cannot be used, or no row passed the verifiers.
        RunFolderError: when the folder holds a run with other settings, or another process works in it.
    """
    config.check()
    plan = _plan(config)
    if not (output or config.output):
        rows, minutes = sum(plan.values()), sum(plan.values()) * ROW_SECONDS / config.num_workers / 60
        raise InputError(
            f"This would make {rows:,} tasks of {len(plan)} families in about {minutes:,.0f} minutes: name the folder "
            "with `--output`, and smaller numbers or `--families` where that is too much."
        )
    folder = Path(output or config.output)
    # Not the words "all families": a later release may have more of them.
    settings = {"command": "build", **asdict(config), "families": list(plan)}
    del settings["output"], settings["num_workers"]
    jobs = [(config, folder, name) for name in plan]
    return run_to_dataset(folder, settings, _build_job, lambda: jobs, sum(plan.values()), config.num_workers)


def run_to_dataset(
    folder: Path,
    settings: dict[str, Any],
    work: Callable[[Any, Callable[[], None]], None],
    make_jobs: Callable[[], Sequence[Any]],
    num_tasks: int,
    num_workers: int,
) -> Path:
    """Let workers append the rows of a run with these `settings` to its shards, and export them to `<folder>/dataset`.

    `make_jobs` gives the jobs of [`run_jobs`] where there is work left, `num_tasks` is what they report.
    """
    dataset = folder / "dataset"
    with RunFolder(folder, settings):
        if not dataset.exists():
            jobs = make_jobs()
            with WorkProgress() as progress:
                bar = progress.add_task("Tasks", total=num_tasks)
                run_jobs(work, jobs, num_workers, lambda: progress.advance(bar))
            export_run(folder)
    return dataset


def _plan(config: BuildConfig) -> dict[str, int]:
    """Number of tasks by family."""
    families = _families()
    unknown = sorted(set(config.families) - set(families))
    if unknown:
        raise InputError(f"There is no scenario family `{unknown[0]}`; {suggestion(unknown[0], sorted(families))}")
    names = sorted(set(config.families) or families)
    plan = {name: sum(getattr(config, split) for split in splits_of(families[name])) for name in names}
    if not sum(plan.values()):
        raise InputError("These families are kept unseen, so they have test tasks only: give `test` a number.")
    return plan


def _families() -> dict[str, Scenario]:
    from .scenarios import SCENARIOS

    return {scenario.name: scenario for scenario in SCENARIOS}


def splits_of(scenario: Scenario) -> list[str]:
    """The splits that a family is in: one that is never trained on is in no other split than its own."""
    from .scenarios import split_of

    split = split_of(scenario)
    return list(FIRST_INDEX) if split == "train" else [split]


def build_family(config: BuildConfig, folder: Path, scenario: Scenario, on_row: Callable[[], None]) -> None:
    """Append the missing rows of one family to its shards, in the order of their numbers.

    Args:
        config ([`BuildConfig`]): what to build.
        folder (`Path`): folder of the run.
        scenario ([`~dataset_builder.scenarios.Scenario`]): the family.
        on_row (`Callable`): called for each task, also for those that were finished before.
    """
    blobs = BlobStore(folder / "blobs")
    split_of_id: dict[str, str] = {}
    for split in splits_of(scenario):
        number = getattr(config, split)
        if not number:
            continue
        file_name = f"{split}-{scenario.name}.jsonl"
        with Shard(folder / "shards" / file_name) as kept, Shard(folder / "rejected" / file_name) as rejected:
            split_of_id.update((row["task"]["id"], split) for row in kept.rows)
            done = {row["task"]["origin"]["index"] for row in kept.rows} | {row["index"] for row in rejected.rows}
            for index in range(FIRST_INDEX[split], FIRST_INDEX[split] + number):
                if index not in done:
                    record, reasons = solve_task(scenario, config, index, blobs, split_of_id)
                    if reasons:
                        rejected.append(
                            {"family": scenario.name, "index": index, "reasons": reasons, "trajectory": record}
                        )
                    else:
                        kept.append(record)
                        split_of_id[record["task"]["id"]] = split
                on_row()


def solve_task(
    scenario: Scenario, config: BuildConfig, index: int, blobs: BlobStore, split_of_id: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Make one task, let the teacher solve it, and judge the result.

    Returns:
        `tuple[dict, list[str]]`: the trajectory's record, and why it cannot be kept (empty when it can).
    """
    from .scenarios import make_task
    from .scenarios.solving import solve_made

    record, reasons = solve_made(lambda files: make_task(scenario, config.seed, index, files), blobs, config.prompt)
    if record["task"]["id"] in split_of_id:
        reasons.append(f"build: the same task is in the {split_of_id[record['task']['id']]} split already.")
    return record, reasons


def _build_job(job: tuple[BuildConfig, Path, str], on_row: Callable[[], None]) -> None:
    """A family has one writer, so its shards have the same lines however many processes there are."""
    config, folder, name = job
    build_family(config, folder, _families()[name], on_row)


def print_summary(dataset: Path) -> None:
    """Print a table of what a dataset holds."""
    import json

    from t3_agents.reports.tables import Table, print_tables

    from .export import STATISTICS_FILE

    found = json.loads((dataset / STATISTICS_FILE).read_text(encoding="utf-8"))
    rows = []
    for label, name in (
        ("splits", "splits"),
        ("rejected because", "reasons"),
        ("file types", "file_types"),
        ("tool calls", "tools"),
        ("domains", "domains"),
        ("steps", "steps"),
    ):
        entries = list(found[name].items())
        more = f", and {len(entries) - 12} more" if len(entries) > 12 else ""
        rows.append([label, ", ".join(f"{key} {count}" for key, count in entries[:12]) + more or "none"])
    print_tables(Table(f"{found['rows']} rows, {found['rejected']} rejected", ["", "number of each"], rows))


def main(config: BuildConfig) -> int:
    """The command `t3 build`."""
    dataset = build_dataset(config)
    print_summary(dataset)
    print(dataset)
    return 0
