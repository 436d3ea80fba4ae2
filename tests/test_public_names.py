"""The names that users import: each is there, is what type checkers see, and costs nothing before it is used."""

import ast
import importlib
import subprocess
import sys

import pytest

from tests.helpers import ROOT


PACKAGES = ["t3_agents", "dataset_builder", "trainers", "hub_cards"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_defined_where_the_table_says(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__module__.startswith(package)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package):
    (block,) = [
        node for node in ast.parse((ROOT / package / "__init__.py").read_text()).body if isinstance(node, ast.If)
    ]
    seen = {alias.asname for node in block.body for alias in node.names}
    assert seen == set(importlib.import_module(package).__all__)
    assert (ROOT / package / "py.typed").exists()


def test_importing_the_packages_imports_nothing_heavy():
    heavy = {"torch", "transformers", "PIL", "numpy", "jinja2", "yaml"}
    code = f"import sys, {', '.join(PACKAGES)}; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "set()\n"
