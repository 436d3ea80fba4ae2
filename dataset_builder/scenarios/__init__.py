"""The offline teacher: families of tasks with known answers and programs that solve them."""

from types import ModuleType

from .base import Move, Scenario, ScenarioTask, make_task, split_of
from .families import comparisons, documents, drawings, lookups, origins, pictures, recordings, reports, tables
from .families import vision_only as by_look


__all__ = ["SCENARIOS", "Move", "Scenario", "ScenarioTask", "make_task", "split_of"]

_MODULES = (pictures, documents, tables, lookups, by_look, comparisons, drawings, origins, recordings, reports)


def _families_of(module: ModuleType) -> list[Scenario]:
    """The families that a module defines, in its order; classes without a name are what families share."""
    classes = [found for found in vars(module).values() if isinstance(found, type) and issubclass(found, Scenario)]
    return [found() for found in classes if found.__module__ == module.__name__ and "name" in vars(found)]


SCENARIOS: tuple[Scenario, ...] = tuple(family for module in _MODULES for family in _families_of(module))
"""All families."""
