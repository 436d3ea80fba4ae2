"""Numbers out of scored tasks: pooled metrics, bootstrap intervals, pass@k and paired tests.

A metric is kept as a row of counts per task, so that it can be pooled and resampled by task: two counts (what was
right, out of what) are a share, three (found, predicted, expected) an F1 score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError


RESAMPLES = 10_000
"""Resamples of a bootstrap interval."""
F1_EPSILON = 1e-5
"""Added to denominators by GTA's evaluator, which keeps the score of a category without calls at 0."""


def pool(counts: np.ndarray) -> np.ndarray:
    """Value of a metric from summed counts.

    Args:
        counts (`np.ndarray`): shape `(..., 2)` for a share or `(..., 3)` for an F1 score.

    Returns:
        `np.ndarray`: shape `(...)`; not-a-number where nothing was counted.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if counts.shape[-1] == 2:
            return counts[..., 0] / counts[..., 1]
        found, predicted, expected = counts[..., 0], counts[..., 1], counts[..., 2]
        precision, recall = found / (predicted + F1_EPSILON), found / expected
        return 2 * precision * recall / (precision + recall + F1_EPSILON)


def _resample(rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """2.5 and 97.5 percentile of a statistic of summed rows, over resamples of the rows."""
    rng = np.random.default_rng(0)
    shares = np.full(len(rows), 1 / len(rows))
    values = []
    for start in range(0, RESAMPLES, 1000):  # in parts, so that many tasks need little memory
        weights = rng.multinomial(len(rows), shares, size=min(1000, RESAMPLES - start))
        values.append(statistic(weights @ rows))
    drawn = np.concatenate(values)
    drawn = drawn[~np.isnan(drawn)]
    return [float(bound) for bound in np.percentile(drawn, [2.5, 97.5])]


def bootstrap_interval(counts: np.ndarray) -> list[float | None]:
    """95 % interval of a pooled metric: percentiles over `RESAMPLES` resamples of the tasks.

    Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife", The Annals of Statistics 7 (1979). Tasks are
    drawn whole, so calls, turns and seeds of one task need not be independent. A share of 0 or 1 in all tasks, which
    resampling cannot vary, has its [`wilson_interval`] over tasks.

    Args:
        counts (`np.ndarray`): shape `(tasks, 2 or 3)`, see [`pool`].

    Returns:
        `list`: lower and upper bound; two `None` when nothing was counted.
    """
    if not len(counts) or math.isnan(value := float(pool(counts.sum(axis=0)))):
        return [None, None]
    if counts.shape[1] == 2 and value in (0, 1):
        tasks = int((counts[:, 1] > 0).sum())
        return wilson_interval(int(value) * tasks, tasks)
    return _resample(counts.astype(float), pool)


def wilson_interval(successes: int, n: int) -> list[float | None]:
    """95 % score interval of a share.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the
    American Statistical Association 22 (1927). It takes the trials for independent; calls and turns of one trajectory
    are not quite, so the intervals of ToolAcc and CodeExec are somewhat too narrow.

    Args:
        successes (`int`): how many trials succeeded.
        n (`int`): how many there were.

    Returns:
        `list`: lower and upper bound in 0..1; two `None` without trials.
    """
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes out of {n} trials are not possible.")
    if n == 0:
        return [None, None]
    z = 1.959963984540054
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the bound is exact; rounding would leave 1e-17.
    return [0.0 if successes == 0 else center - half, 1.0 if successes == n else center + half]


def rate(name: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    """Share of successes as a metric gives it.

    Returns:
        `dict`: the share under `name` (`None` without outcomes), `n` outcomes, and `ci95`, see [`wilson_interval`].
    """
    right, n = sum(outcomes), len(outcomes)
    return {name: right / n if n else None, "n": n, "ci95": wilson_interval(right, n)}


def pass_at_k(num_runs: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` runs is right.

    Source: M. Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374 (2021), equation 1.

    Args:
        num_runs (`int`): runs of a task.
        num_right (`int`): how many were right.
        k (`int`): runs that one may pick from, at most `num_runs`.

    Raises:
        InputError: when the numbers are not possible.
    """
    if not 0 <= num_right <= num_runs or not 1 <= k <= num_runs:
        raise InputError(f"pass@{k} of {num_right} right out of {num_runs} runs is not possible.")
    return 1 - math.comb(num_runs - num_right, k) / math.comb(num_runs, k)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value that two runs are equally good, from the tasks that only one of them got right.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the exact binomial distribution.

    Args:
        only_first (`int`), only_second (`int`): tasks that only the first or only the second run got right.
    """
    total, least = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, i) for i in range(least + 1))
    return min(1.0, 2 * tail / 2**total)


def paired_interval(first: np.ndarray, second: np.ndarray) -> list[float]:
    """95 % bootstrap interval of `second - first` for one metric of two runs on the same tasks.

    Args:
        first (`np.ndarray`), second (`np.ndarray`): counts of the same tasks in the same order, see [`pool`].
    """
    width = first.shape[1]
    rows = np.concatenate([first, second], axis=1).astype(float)
    return _resample(rows, lambda sums: pool(sums[:, width:]) - pool(sums[:, :width]))


def summed(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows of counts as an array, shape `(rows, 2 or 3)`."""
    return np.array(rows, dtype=float).reshape(len(rows), -1)
