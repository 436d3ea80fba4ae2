"""The measures as `evaluate` modules: `evaluate.load(metric_path("ans_acc"))`."""

from pathlib import Path

from t3_agents.errors import InputError


FOLDER = Path(__file__).parent
METRICS = tuple(sorted(path.parent.name for path in FOLDER.glob("*/*.py") if path.stem == path.parent.name))
"""A metric is a folder with a module of its name."""


def metric_path(name: str) -> str:
    """Folder of a metric module, as `evaluate.load` takes it.

    Args:
        name (`str`): one of `METRICS`.

    Raises:
        InputError: when there is no metric of that name.
    """
    if name not in METRICS:
        raise InputError(f"There is no metric `{name}`; choose from {', '.join(METRICS)}.")
    return str(FOLDER / name)
