"""How many tasks each family gives, so that the whole collection comes close to given shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from t3_agents.errors import InputError, needs_extra
from t3_agents.storage import scratch_folder

from .base import Scenario, make_task


SAMPLE_INDEX = 9_000_000
"""Number of the first task that is made to look at a family; no dataset holds these."""
NUM_SAMPLES = 6
_SMALLEST, _LARGEST = 0.003, 0.03
"""Shares that a family may have: none vanishes, none takes over."""


@dataclass(frozen=True)
class FamilyProfile:
    """What a task of a family holds on average.

    Args:
        name (`str`): of the family.
        split (`str`): where its rows go.
        counts (`dict[str, dict[str, float]]`): for the axes `file_types`, `tools`, `domains` and `steps`: mean number
            of each key in a task.
    """

    name: str
    split: str
    counts: dict[str, dict[str, float]]


def profile(scenario: Scenario, split: str, seed: int) -> FamilyProfile:
    """Make some tasks of a family and count what they hold.

    Args:
        scenario ([`Scenario`]): the family.
        split (`str`): where its rows go.
        seed (`int`): seed of the collection.
    """
    counts: dict[str, Counter[str]] = {axis: Counter() for axis in ("file_types", "tools", "domains", "steps")}
    for number in range(NUM_SAMPLES):
        with scratch_folder() as folder:
            made = make_task(scenario, seed, SAMPLE_INDEX + number, Path(folder))
        counts["file_types"].update(PurePosixPath(file.path).suffix[1:] for file in made.task.files)
        counts["tools"].update(made.task.tools)
        counts["domains"][made.task.domain] += 1
        counts["steps"][str(len(made.program))] += 1
    means = {axis: {key: n / NUM_SAMPLES for key, n in found.items()} for axis, found in counts.items()}
    return FamilyProfile(scenario.name, split, means)


def solve_mixture(
    profiles: Sequence[FamilyProfile], shares: Mapping[str, Mapping[str, float]], splits: Mapping[str, float]
) -> dict[str, float]:
    """Weights of families for which the sum over the axes of the total variation to `shares` is smallest.

    A share of files or tool calls is a ratio of two sums over families, so the distance is not linear in the weights;
    with the number of files and calls in a task fixed it is. It is taken from the solution before, three times.

    Args:
        profiles (`Sequence[FamilyProfile]`): the families.
        shares (`Mapping`): wanted shares in per cent, by axis and key. Keys that are not named count as one more key
            that is not wanted, on the axis of file types as `other`.
        splits (`Mapping[str, float]`): share of the rows of each split.

    Returns:
        `dict[str, float]`: weight by name; they add up to 1.

    Raises:
        MissingExtraError: when SciPy is not installed.
        InputError: when a split has too few or too many families for its share.
    """
    with needs_extra("scipy", "scenarios", "Balancing the families"):
        import numpy as np
        from scipy.optimize import linprog

    blocks, sizes = [], []
    for axis, wanted in shares.items():
        table = np.array([_row(p.counts[axis], wanted) for p in profiles]).T
        target = np.array([*(value / 100 for value in wanted.values()), 0.0])
        # Rows of `table - target x total` are what a key has too much, per task.
        blocks.append(table - np.outer(target, table.sum(axis=0)))
        sizes.append(table.sum(axis=0))
    num_families, num_slacks = len(profiles), sum(len(block) for block in blocks)
    in_split = np.array([[p.split == split for p in profiles] for split in splits], dtype=float)
    equal = np.hstack([in_split, np.zeros((len(splits), num_slacks))])
    excess = np.vstack(blocks)
    identity = np.eye(num_slacks)
    bounds = [(_SMALLEST, _LARGEST)] * num_families + [(0, None)] * num_slacks
    weights = np.full(num_families, 1 / num_families)
    for _ in range(3):
        scales = np.concatenate([np.full(len(b), 0.5 / (s @ weights)) for b, s in zip(blocks, sizes, strict=True)])
        solution = linprog(
            np.concatenate([np.zeros(num_families), scales]),
            A_ub=np.vstack([np.hstack([excess, -identity]), np.hstack([-excess, -identity])]),
            b_ub=np.zeros(2 * num_slacks),
            A_eq=equal,
            b_eq=np.array(list(splits.values())),
            bounds=bounds,
        )
        if solution.x is None:
            raise InputError(
                f"These {num_families} families cannot fill the splits: add families, or change the bounds."
            )
        weights = solution.x[:num_families]
    return {p.name: float(weight) for p, weight in zip(profiles, weights, strict=True)}


def _row(counts: Mapping[str, float], wanted: Mapping[str, float]) -> list[float]:
    rest = sum(count for key, count in counts.items() if key not in wanted)
    named = {key: counts.get(key, 0.0) for key in wanted}
    if "other" in named:
        named["other"], rest = named["other"] + rest, 0.0
    return [*named.values(), rest]


def whole_numbers(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Weights as numbers that add up to `total`, by the largest remainders."""
    numbers = {name: int(weight * total) for name, weight in weights.items()}
    order = sorted(weights, key=lambda name: (numbers[name] - weights[name] * total, name))
    for name in order[: total - sum(numbers.values())]:
        numbers[name] += 1
    return numbers
