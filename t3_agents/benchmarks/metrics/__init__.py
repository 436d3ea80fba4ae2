"""The three measures as `evaluate` modules: `evaluate.load(metric_path("ans_acc"))`."""

from pathlib import Path

from ...errors import InputError
from ..scoring import METRICS


def metric_path(name: str) -> str:
    """Folder of a metric module, as `evaluate.load` takes it.

    Args:
        name (`str`): `ans_acc`, `tool_acc` or `code_exec`.

    Raises:
        InputError: when there is no metric of that name.
    """
    if name not in METRICS:
        raise InputError(f"There is no metric `{name}`; choose from {', '.join(METRICS)}.")
    return str(Path(__file__).parent / name)
