"""Rounds of rejection sampling: an agent solves tasks whose answers are known, and is tuned on what it got right.

Source: the rounds of ReST-EM (A. Singh et al., "Beyond Human Data", TMLR 2024, arXiv 2312.06585). Each round samples
with the agent of the round before and tunes the first agent on all that was verified so far, so that mistakes of
tuning do not add up.

Tasks come from the `tasks` config of a dataset, so nothing of the code that made them is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t3_agents.errors import InputError
from t3_agents.hub.safe_loading import check_source
from t3_agents.options import parse_options
from t3_agents.storage import RunFolder, Shard


if TYPE_CHECKING:
    from t3_agents.evaluation.scenarios import EvalConfig
    from t3_agents.trajectory import Trajectory

    from .config import TrajectoryConfig

ROUNDS_FILE = "rounds.jsonl"


@dataclass
class ImproveConfig:
    """Improve an agent on its own verified attempts at tasks with known answers.

    Args:
        agent (`str`): folder or Hub id of the saved agent to begin with.
        dataset (`str`): folder or Hub id of a dataset with tasks, as `t3 build` makes it.
        output (`str`): folder of the run; run the same command to resume.
        recipe (`str`): recipe of the tuning, a name or a YAML file, see `t3 train`.
        rounds (`int`, *optional*, defaults to 2): rounds at most. A round that does not raise AnsAcc is the last one.
        samples (`int`, *optional*, defaults to 4): attempts at each task in a round.
        temperature (`float`, *optional*, defaults to 0.8): of the attempts. Evaluations are greedy.
        split (`str`, *optional*, defaults to `"train"`): split of the tasks that are attempted.
        eval_split (`str`, *optional*, defaults to `"validation"`): split of the held-out tasks. The best round is
            chosen by them, so measure the chosen agent on `test` for a number to report.
        max_steps (`int`, *optional*, defaults to 6): steps per task.
        max_consecutive_errors (`int`, *optional*, defaults to 2): failed steps in a row that end a task.
        num_workers (`int`, *optional*, defaults to 16): tasks at the same time; they share batches of the model.
        executor (`str`, *optional*, defaults to `"sandbox"`): where code runs, see [`T3Agent`].
        seed (`int`, *optional*, defaults to 0): of sampling and tuning.
    """

    agent: str
    dataset: str
    output: str
    recipe: str
    rounds: int = 2
    samples: int = 4
    temperature: float = 0.8
    split: str = "train"
    eval_split: str = "validation"
    max_steps: int = 6
    max_consecutive_errors: int = 2
    num_workers: int = 16
    executor: str = "sandbox"
    seed: int = 0

    def __post_init__(self):
        for name in ("rounds", "samples", "temperature", "max_steps", "num_workers"):
            if getattr(self, name) <= 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}.")
        if self.split == self.eval_split:
            raise InputError("`split` and `eval_split` must differ: an agent is not measured on what it was tuned on.")

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run."""
        values = {name: value for name, value in asdict(self).items() if name not in ("output", "num_workers")}
        return {"command": "improve", **values}

    def seeds(self, number: int) -> list[int]:
        """Seeds of the attempts in a round; no two rounds share one."""
        first = self.seed * self.rounds * self.samples + (number - 1) * self.samples
        return list(range(first, first + self.samples))

    def evaluation(self, agent: str | Path, output: Path, **options: Any) -> EvalConfig:
        """The evaluation of an agent with the limits of this run."""
        from t3_agents.evaluation.scenarios import EvalConfig

        shared = ("dataset", "max_steps", "max_consecutive_errors", "num_workers", "executor")
        options |= {name: getattr(self, name) for name in shared}
        return EvalConfig(agent=str(agent), output=str(output), **options)

    def tuning(self, dataset: Path, output: Path) -> TrajectoryConfig:
        """The recipe, applied to the rows of a round."""
        from .config import TrajectoryConfig

        options = {"model_name_or_path": self.agent, "dataset_name": dataset, "output_dir": output, "seed": self.seed}
        argv = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return parse_options(TrajectoryConfig, ["--config", self.recipe, *argv], prog="t3 train")


def improve(config: ImproveConfig) -> dict[str, Any]:
    """Run the rounds; a stopped run resumes, also after `kill -9`.

    Round `n` leaves in `<output>/round-n`: `samples` (a run of `t3 eval`), `kept` (the rows that it was tuned on, and
    a verdict on every sample), `pairs` (for `t3 dpo`), `train` with the `agent`, and `eval`.

    Args:
        config ([`ImproveConfig`]): what to run.

    Returns:
        `dict`: the content of `improve.json`.

    Raises:
        InputError: when agent, dataset or recipe cannot be used.
        RunFolderError: when the output folder holds another run.
    """
    from .report import write_rounds_report

    for name in ("agent", "dataset"):
        check_source(getattr(config, name), name)
    folder = Path(config.output)
    config.tuning(folder, folder)  # a mistake in the recipe would come up after the first round's samples
    with RunFolder(folder, config.settings()), Shard(folder / ROUNDS_FILE) as rounds:
        if not rounds.rows:
            # A record holds no path of a machine.
            name = Path(config.agent).resolve().name if Path(config.agent).is_dir() else config.agent
            rounds.append({"round": 0, "agent": name, "ans_acc": _measure(config, config.agent, 0)})
        while (reason := why_stop(rounds.rows, config.rounds)) is None:
            rounds.append(_run_round(config, len(rounds.rows)))
        return write_rounds_report(folder, config.settings(), rounds.rows, reason)


def why_stop(rounds: Sequence[dict[str, Any]], limit: int) -> str | None:
    """Why there is no further round; `None` when there is one."""
    last, before = rounds[-1], [row["ans_acc"]["value"] for row in rounds[:-1]]
    if last["ans_acc"] is None:
        return f"No sample of round {last['round']} was verified, so there was nothing to tune on."
    if before and last["ans_acc"]["value"] <= max(before):
        return f"Round {last['round']} did not raise AnsAcc."
    return f"All {limit} rounds were done." if len(rounds) > limit else None


def _run_round(config: ImproveConfig, number: int) -> dict[str, Any]:
    from t3_agents.evaluation.run import evaluate

    from .loading import saved_agent
    from .rejection_sampling import select, step_pairs, write_pairs, write_trajectories
    from .sft import train

    folder = _folder(config, number)
    sampler = config.agent if number == 1 else _folder(config, number - 1) / "train" / "agent"
    evaluate(
        config.evaluation(
            sampler, folder / "samples", split=config.split, temperature=config.temperature, seeds=config.seeds(number)
        )
    )
    earlier, own = list(_samples(config, range(1, number))), list(_samples(config, [number]))
    selection, pairs = select([*earlier, *own]), list(step_pairs(own))
    for name, write, content in (("kept", write_trajectories, selection), ("pairs", write_pairs, pairs)):
        if not (folder / name).is_dir():
            write(folder / name, content)
    row = {
        "round": number,
        "agent": f"round-{number}/train/agent",
        "samples": len(own),
        "verified": sum(verdict["passed"] for verdict in selection.verdicts[len(earlier) :]),
        "kept": len(selection.kept),
        "pairs": len(pairs),
    }
    if not selection.kept:
        return {**row, "agent": None, "ans_acc": None}
    agent = train(config.tuning(folder / "kept", folder / "train"), saved_agent)
    return {**row, "ans_acc": _measure(config, agent, number)}


def _folder(config: ImproveConfig, number: int) -> Path:
    return Path(config.output) / f"round-{number}"


def _samples(config: ImproveConfig, rounds: Sequence[int]) -> Iterator[Trajectory]:
    """Attempts of some rounds, by task and seed: the order in which they ended must not matter."""
    from t3_agents.evaluation.results import read_trajectories

    for number in rounds:
        samples = read_trajectories(_folder(config, number) / "samples")
        yield from sorted(samples, key=lambda sample: (sample.task.id, sample.provenance.get("seed", 0)))


def _measure(config: ImproveConfig, agent: str | Path, number: int) -> dict[str, Any]:
    """AnsAcc on the held-out tasks with its interval."""
    from t3_agents.evaluation.run import evaluate

    results = evaluate(config.evaluation(agent, _folder(config, number) / "eval", split=config.eval_split))
    if "ans_acc" not in results["metrics"]:
        raise InputError(f"The tasks of split `{config.eval_split}` have no known answers to measure by.")
    return results["metrics"]["ans_acc"]


def main(config: ImproveConfig) -> int:
    """`t3 improve`: run the rounds, print a table."""
    from t3_agents.models.device import use_fastest_num_threads

    from .report import print_rounds

    use_fastest_num_threads()
    print_rounds(improve(config), config.output)
    return 0
