"""Run smolagents' own tests that make a `CodeAgent`, with `T3Agent` in its place.

`python tests/smolagents_tests.py CHECKOUT --executor local` takes a checkout of the installed release of smolagents
(`git clone --branch v1.26.0 https://github.com/huggingface/smolagents`). Without `--executor` the tests run with
`CodeAgent` itself. It prints a line for each test and, at the end, how many passed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path


EXECUTOR = "T3_EXECUTOR"
"""Variable that tells the plugin below which executor to use; empty for `CodeAgent` itself."""


class Recorder:
    """The plugin: counts the tests during which a code agent was made."""

    def __init__(self) -> None:
        self.made = False
        self.results: dict[str, bool] = {}
        self.reasons: dict[str, str] = {}

    def pytest_runtest_setup(self) -> None:
        self.made = False

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" and self.made and not report.skipped:
            name = report.nodeid.removeprefix("tests/")
            self.results[name] = report.passed
            self.reasons[name] = "" if report.passed else str(report.longrepr.reprcrash.message).split("\n")[0][:150]

    def pytest_terminal_summary(self, terminalreporter) -> None:
        for name, passed in sorted(self.results.items()):
            terminalreporter.write_line(f"{'passed' if passed else 'FAILED'} {name} {self.reasons[name]}".strip())
        terminalreporter.write_line(f"{sum(self.results.values())} of {len(self.results)} passed")


def stand_in(recorder: Recorder, executor: str) -> type:
    """The class that the tests find under the name `CodeAgent`."""
    import smolagents

    if executor:
        from t3_agents.agent.agent import T3Agent as Base
    else:
        Base = smolagents.CodeAgent

    class Agent(Base):
        def __init__(self, *args, **kwargs):
            recorder.made = True
            if executor:
                # The scripts of the tests write these tags.
                kwargs = {"executor_type": executor, "code_block_tags": ("<code>", "</code>"), **kwargs}
            super().__init__(*args, **kwargs)

    Agent.__name__ = Agent.__qualname__ = Base.__name__
    return Agent


def pytest_configure(config) -> None:
    """Put the class in place before a test module is imported: some name it in their parameters."""
    import smolagents

    recorder = Recorder()
    agent = stand_in(recorder, os.environ.get(EXECUTOR, ""))
    smolagents.CodeAgent = smolagents.agents.CodeAgent = agent
    smolagents.agents.AGENT_REGISTRY[agent.__name__] = agent
    config.pluginmanager.register(recorder)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="folder of smolagents' repository")
    parser.add_argument("--executor", choices=("local", "sandbox"), default="", help="of T3Agent")
    parser.add_argument("pytest", nargs="*", help="further arguments of pytest, such as -k run")
    options = parser.parse_args(argv)
    if not (options.checkout / "tests" / "test_agents.py").is_file():
        parser.error(f"{options.checkout} is no checkout of smolagents: it has no tests/test_agents.py.")
    here = Path(__file__).resolve()
    paths = [str(here.parents[1]), str(here.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, EXECUTOR: options.executor, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # The other modules make none, or put a stand-in of their own in its place.
    tests = [f"tests/{name}.py" for name in ("test_agents", "test_monitoring")]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rN", "--no-header", "-p", here.stem, *tests]
    command += ["-o", "addopts="]
    return subprocess.run([*command, *options.pytest], cwd=options.checkout, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
