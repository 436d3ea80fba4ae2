"""The measures as `evaluate` modules: `evaluate.load(metric_path("ans_acc"))`."""

from pathlib import Path
from typing import Any

from t3_agents.errors import InputError

from ..scoring import METRICS


BENCHMARK_METRICS = ("gta_answer", "gta_end_to_end", "gta_step_by_step", "gaia_answer")
"""Metrics that follow the rules of a benchmark."""

GTA_CITATION = """\
@inproceedings{wang2024gta,
  title     = {GTA: A Benchmark for General Tool Agents},
  author    = {Jize Wang and Zerun Ma and Yining Li and Songyang Zhang and Cailian Chen and Kai Chen and Xinyi Le},
  booktitle = {Advances in Neural Information Processing Systems, Datasets and Benchmarks Track},
  year      = {2024},
  url       = {https://arxiv.org/abs/2407.08713}
}
"""
GTA_URL = "https://arxiv.org/abs/2407.08713"


def metric_path(name: str) -> str:
    """Folder of a metric module, as `evaluate.load` takes it.

    Args:
        name (`str`): one of `METRICS` or `BENCHMARK_METRICS`.

    Raises:
        InputError: when there is no metric of that name.
    """
    names = (*METRICS, *BENCHMARK_METRICS)
    if name not in names:
        raise InputError(f"There is no metric `{name}`; choose from {', '.join(names)}.")
    return str(Path(__file__).parent / name)


def check_rows(predictions: Any, references: Any, kinds: type | tuple[type, ...] = object) -> None:
    """Check that two columns are lists of the same length, the first with entries of these types.

    Raises:
        InputError: saying which argument or entry is wrong.
    """
    for values, name in ((predictions, "predictions"), (references, "references")):
        if not isinstance(values, (list, tuple)):
            raise InputError(f"`{name}` must be a list with one entry per task, not {type(values).__name__}.")
    if len(predictions) != len(references):
        raise InputError(f"There are {len(predictions)} predictions but {len(references)} references: give one each.")
    for index, value in enumerate(predictions):
        if not isinstance(value, kinds):
            raise InputError(f"Entry {index} of `predictions` must not be of type {type(value).__name__}.")
