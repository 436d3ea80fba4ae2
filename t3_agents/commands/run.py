"""Ask an agent one question, with files, and watch its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..options import parse_options
from ..task import File, Task
from ..tracing import start_tracing, stop_tracing


if TYPE_CHECKING:
    from ..turns import Step

DEFAULT_AGENT = Path("runs/quickstart/train/agent")
"""The agent that `t3 quickstart` tunes."""


@dataclass
class RunConfig:
    """Ask an agent one question: `t3 run "How much was paid in total?" --file receipt.png`.

    Args:
        agent (`str`, *optional*): folder or Hub id of a saved agent or of a controller; by default the agent that
            `t3 quickstart` tuned.
        file (`list[str]`, *optional*): attachments.
        output (`str`, *optional*): folder for the trajectory and for files that the agent makes.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`.
        api_model (`str`, *optional*): the controller's name there, where the server lists several.
        toolbox (`str`, *optional*, defaults to `"embedded"`): tools of a bare controller.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of a bare controller.
        max_steps (`int`, *optional*, defaults to 8): steps.
        max_new_tokens (`int`, *optional*): tokens per turn; the agent's own setting by default.
        time_budget (`float`, *optional*): seconds.
        executor (`str`, *optional*, defaults to `"sandbox"`): where code runs: `sandbox`, `docker`, `e2b`, `modal`,
            `blaxel`, or `local`, which is no security boundary.
        trace (`str`, *optional*): file for OpenTelemetry spans, or URL of an OTLP collector.
    """

    agent: str | None = None
    file: list[str] = field(default_factory=list)
    output: str | None = None
    api_base: str | None = None
    api_model: str | None = None
    toolbox: str = "embedded"
    prompt: str = "compact"
    max_steps: int = 8
    max_new_tokens: int | None = None
    time_budget: float | None = None
    executor: str = "sandbox"
    trace: str | None = None


def main(argv: list[str]) -> int:
    """`t3 run QUESTION`: prints every step as it is done, then the answer. Status 1 when there is no answer."""
    question, argv = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else ("", argv)
    config = parse_options(RunConfig, _list_files(argv), prog='t3 run "QUESTION"')
    # What the user gave is checked before any model is loaded.
    task = Task.create(question, [File.from_path(path) for path in config.file])
    name = agent_or_default(config.agent)
    if config.output and Path(config.output).exists():
        raise InputError(f"{config.output} exists already: name a new folder for the output.")

    from rich.console import Console

    from ..agent.agent import load_agent
    from ..agent.loop import check_executor
    from ..models.vlm import use_fastest_num_threads

    check_executor(config.executor)
    if config.trace:
        start_tracing(config.trace)
    console = Console()
    use_fastest_num_threads()
    limits = {"max_steps": config.max_steps, "time_budget": config.time_budget}
    server = {"api_base": config.api_base, "api_model": config.api_model}
    agent = load_agent(
        name, toolbox=config.toolbox, prompt=config.prompt, executor_type=config.executor, **server, **limits
    )
    if config.max_new_tokens is not None:
        agent.model.generation["max_new_tokens"] = config.max_new_tokens
    console.print(task.text(), style="bold", markup=False)
    trajectory = agent.run_task(task, on_step=lambda step: _show(step, console))
    stop_tracing()
    if config.output:
        _save(trajectory, agent, Path(config.output))
    if trajectory.answer is None:
        console.print(f"No answer: the run ended by {trajectory.end_reason}.", style="bold red")
        return 1
    console.print(f"Answer: {trajectory.answer}", style="bold green", markup=False)
    return 0


def agent_or_default(name: str | None) -> str:
    """The agent that the user named, or the one that `t3 quickstart` tuned.

    Raises:
        InputError: when none is named and there is none of the quickstart.
    """
    if name is None and not DEFAULT_AGENT.is_dir():
        raise InputError(f"There is no agent in {DEFAULT_AGENT}: run `t3 quickstart` first, or name one with --agent.")
    return name or str(DEFAULT_AGENT)


def _list_files(argv: list[str]) -> list[str]:
    """`--file a --file b` gives both."""
    return ["--file+" if argument == "--file" else argument.replace("--file=", "--file+=", 1) for argument in argv]


def _show(step: Step, console) -> None:
    from rich.syntax import Syntax

    console.print(f"\nThought: {step.thought or step.model_output}", markup=False)
    if step.code:
        console.print(Syntax(step.code, "python", background_color="default"))
    if not step.is_final:
        console.print(step.observation_text(), style="dim", markup=False)


def _save(trajectory, agent, folder: Path) -> None:
    import json

    from ..storage import BlobStore, write_atomic

    stored = trajectory.stored_in(BlobStore(folder / "blobs"))
    write_atomic(folder / "trajectory.json", json.dumps(stored.to_dict(), indent=2, ensure_ascii=False) + "\n")
    agent.workspace.copy_outputs(folder / "outputs")
