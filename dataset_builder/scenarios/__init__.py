"""The offline teacher: families of tasks with known answers and programs that solve them."""

from importlib import import_module
from pathlib import Path

import yaml

from .base import ProgramStep, Scenario, ScenarioTask, make_task, split_of


__all__ = ["SCENARIOS", "ProgramStep", "Scenario", "ScenarioTask", "make_task", "split_of"]


def _family(name: str, made_by: str, **words: object) -> Scenario:
    module, shape = made_by.split(".")
    return getattr(import_module(f".families.{module}", __name__), shape)(name=name, **words)


_CATALOG = yaml.safe_load(Path(__file__).with_name("families.yaml").read_text(encoding="utf-8"))

SCENARIOS: tuple[Scenario, ...] = tuple(_family(name, **entry) for name, entry in _CATALOG.items())
"""All families, as `families.yaml` lists them."""
