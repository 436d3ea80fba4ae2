"""Ask an agent one question, with files, and watch its steps."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.syntax import Syntax

from ..agent.config import AgentOptions
from ..errors import InputError, T3Error
from ..examples import EXAMPLES, example_file
from ..hub.repos import download_model
from ..models.embedded import EMBEDDED
from ..options import Positional
from ..reports.markdown import visible
from ..task import File, Task
from ..tracing import start_tracing, stop_tracing


if TYPE_CHECKING:
    from ..agent.agent import T3Agent
    from ..turns import Step

DEFAULT_AGENT = "runs/quickstart/train/agent"
"""The agent that `t3 quickstart` tunes."""


@dataclass(kw_only=True)
class RunConfig(AgentOptions):
    """Ask an agent one question, with files, and watch its steps.

    Args:
        question (`str`): the question.
        agent (`str`, *optional*, defaults to `"runs/quickstart/train/agent"`): folder or Hub id of a saved agent, or
            of a bare controller; by default the agent that `t3 quickstart` tuned.
        file (`list[str]`, *optional*): attachments; `receipt.png`, `invoice.pdf` and `scores.csv` come with the
            package, where there is no file of that name.
        output (`str`, *optional*): folder for the trajectory and for files that the agent makes.
        trace (`str`, *optional*): file for OpenTelemetry spans, or URL of an OTLP collector.
    """

    question: Positional[str]
    agent: str = DEFAULT_AGENT
    file: list[str] = field(default_factory=list)
    output: str | None = None
    trace: str | None = None


def main(config: RunConfig) -> int:
    """`t3 run`: print every step as it is done, then the answer. Status 1 when there is no answer."""
    # What the user gave is checked before any model is loaded.
    task = Task.create(config.question, [File.from_path(found(path)) for path in config.file])
    if config.output and Path(config.output).exists():
        raise InputError(f"{config.output} exists already: name a new folder for the output.")
    if config.trace:
        start_tracing(config.trace)
    agent = load(config)

    console = Console()
    console.print(visible(task.text()), style="bold", markup=False)
    from ..agent.scope import outside

    if note := outside(agent.tuned_for, task):
        console.print(f"Note: {visible(note)} Check what it answers.", style="yellow", markup=False)
    warm = threading.Thread(target=prepare_tools, args=(agent, task), daemon=True)
    warm.start()
    trajectory = agent.run_task(task, on_step=lambda step: _show(step, console))
    stop_tracing()
    if trajectory.answer is None:
        console.print(f"No answer: the run ended by {trajectory.end_reason}.", style="bold red")
    else:
        console.print(f"Answer: {visible(trajectory.answer)}", style="bold green", markup=False)
    if config.output:
        # Behind the answer, which has cost more than the place for it.
        _save(trajectory, agent, Path(config.output))
    return int(trajectory.answer is None)


def found(path: str) -> str | Path:
    """The path of an attachment: the user's file, or the example of this name."""
    return example_file(path) if path in EXAMPLES and not Path(path).exists() else path


def prepare_tools(agent: T3Agent, task: Task) -> None:
    """Load what reads text in pictures while the controller writes its first turn, if there is a picture to read."""
    from ..tools.ocr import warm_up
    from ..tools.visualizer import Visualizer

    if task.images and isinstance(agent.tools.get(Visualizer.name), Visualizer):
        with suppress(T3Error):  # the tool says it when it is called
            warm_up()


def check_default(agent: str) -> None:
    """Refuse the agent of the quickstart while there is none.

    Raises:
        InputError: saying how to make it.
    """
    if agent == DEFAULT_AGENT and not Path(agent).is_dir():
        raise InputError(f"There is no agent in {agent}: run `t3 quickstart` first, or name one with --agent.")


def load(config: AgentOptions) -> T3Agent:
    """The agent that the options name, with their limits.

    Raises:
        InputError: when it is that of the quickstart, which has not run, or nothing can be loaded under the name.
    """
    if config.agent == DEFAULT_AGENT and not Path(DEFAULT_AGENT).is_dir():
        if not config.api_base:
            check_default(config.agent)
        from ..models.server import SERVED_NAME

        config = replace(config, agent=SERVED_NAME)  # what the server has, with tools and prompt of a bare controller
    config.check()
    if config.executor == "sandbox":
        from ..sandbox import require_sandbox

        require_sandbox()
    if not (Path(config.agent).is_dir() or config.agent == EMBEDDED or config.api_base):
        download_model(config.agent)  # before anything that takes long to import
    with Console(stderr=True).status(f"Loading {config.agent}"):
        from ..agent.agent import load_agent
        from ..models.device import use_fastest_num_threads

        use_fastest_num_threads()
        agent = load_agent(config.agent, **config.arguments())
    if config.max_new_tokens is not None:
        agent.model.generation["max_new_tokens"] = config.max_new_tokens
    return agent


def _show(step: Step, console) -> None:
    # Escape codes of a model or a file would reach the terminal.
    console.print(f"\nThought: {visible(step.thought or step.model_output)}", markup=False)
    if step.code:
        console.print(Syntax(visible(step.code), "python", background_color="default"))
    if not step.is_final:
        console.print(visible(step.observation_text()), style="dim", markup=False)


def _save(trajectory, agent, folder: Path) -> None:
    import json

    from ..storage import BlobStore, write_atomic

    stored = trajectory.stored_in(BlobStore(folder / "blobs"))
    write_atomic(folder / "trajectory.json", json.dumps(stored.to_dict(), indent=2, ensure_ascii=False) + "\n")
    agent.workspace.copy_outputs(folder / "outputs")
