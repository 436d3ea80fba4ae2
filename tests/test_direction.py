"""Imports lead from the outer packages to the inner ones, and never in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.helpers import ROOT


ROOMS = ["nouns", "hub", "models", "sandbox", "tools", "agent", "evaluation", "reports", "commands"]
"""Packages of `t3_agents`, each of which imports from those before it only; the nouns are its modules at the top."""
PACKAGES = {"hub_cards": {"t3_agents"}, "dataset_builder": {"t3_agents", "hub_cards"}}
PACKAGES["trainers"] = PACKAGES["dataset_builder"]
"""What each of the other packages may import."""


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for package in ["t3_agents", *PACKAGES] for file in (ROOT / package).rglob("*.py")}
for root in ["t3_agents", *PACKAGES]:
    del FILES[root]  # hands out names of all rooms, each when it is first used


@cache
def imports(module: str) -> set[str]:
    """Own modules that a module imports, at its top, in its functions and for its annotations."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (module if FILES[module].stem == "__init__" else module.rpartition(".")[0]).split(".")
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{source}.{alias.name}" if f"{source}.{alias.name}" in FILES else source)
    return {name for name in found if name in FILES} - {module}


def test_no_import_is_part_of_a_circle():
    """Neither those in functions: none of them is there to break one."""
    TopologicalSorter({module: imports(module) for module in FILES}).prepare()


def test_imports_lead_inwards():
    def room(module: str) -> int:
        part = module.split(".")[1:2]
        return ROOMS.index(part[0]) if part and part[0] in ROOMS else 0

    upwards = []
    for module in FILES:
        package = module.partition(".")[0]
        for other in imports(module):
            target = other.partition(".")[0]
            inner = room(other) <= room(module) if package == "t3_agents" else True
            if not (inner if target == package else target in PACKAGES.get(package, set())):
                upwards.append(f"{module} imports {other}")
    assert sorted(upwards) == []
