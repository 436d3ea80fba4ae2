"""Talk to an agent in the browser: questions with files, its steps as they are done, the answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, T3Error
from ..options import parse_options
from ..task import File, Task
from ..trajectory import Trajectory
from .run import agent_or_default


if TYPE_CHECKING:
    import gradio

    from ..agent.agent import T3Agent
    from ..turns import Step


@dataclass
class ChatConfig:
    """Talk to an agent in the browser. Every message is a task of its own.

    Args:
        agent (`str`, *optional*): folder or Hub id of a saved agent or of a controller; by default the agent that
            `t3 quickstart` tuned.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): address to listen at; another one lets others run the
            agent.
        port (`int`, *optional*, defaults to 7860): port to listen at.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`.
        api_model (`str`, *optional*): the controller's name there, where the server lists several.
        toolbox (`str`, *optional*, defaults to `"embedded"`): tools of a bare controller.
        prompt (`str`, *optional*, defaults to `"compact"`): prompt of a bare controller.
        max_steps (`int`, *optional*, defaults to 8): steps.
        time_budget (`float`, *optional*): seconds of a task.
        executor (`str`, *optional*, defaults to `"sandbox"`): where code runs, see `t3 run --help`.
    """

    agent: str | None = None
    host: str = "127.0.0.1"
    port: int = 7860
    api_base: str | None = None
    api_model: str | None = None
    toolbox: str = "embedded"
    prompt: str = "compact"
    max_steps: int = 8
    time_budget: float | None = None
    executor: str = "sandbox"


def build_app(agent: T3Agent | str) -> gradio.Blocks:
    """The app: a question with files goes in, the steps and the answer come out. One run at a time.

    Args:
        agent ([`T3Agent`] or `str`): an agent, or the folder or Hub id of a saved one.

    Raises:
        InputError: when there is no such agent.
        MissingExtraError: when Gradio is not installed.
    """
    try:
        import gradio
    except ImportError:
        raise MissingExtraError("gradio", "app", "The app") from None
    from ..agent.agent import T3Agent

    title = agent if isinstance(agent, str) else agent.model.model_id or "T3-Agent"
    runner = T3Agent.from_pretrained(agent) if isinstance(agent, str) else agent
    lock = threading.Lock()

    def answer(message: dict[str, Any], history: list[Any]) -> Iterator[list[Any]]:
        with lock:
            for messages in solve(runner, message["text"], message["files"]):
                yield [m if isinstance(m, str) else gradio.Image(m.open_image(), label=m.path) for m in messages]

    return gradio.ChatInterface(
        answer,
        multimodal=True,
        title=title,
        description="Ask about pictures and documents: attach them to the question.",
    )


def solve(agent: T3Agent, question: str, files: list[str]) -> Iterator[list[str | File]]:
    """Run a task and show it. Closing the iterator ends the run.

    Args:
        agent ([`T3Agent`]): the agent.
        question (`str`): the user's words.
        files (`list[str]`): paths of attached files.

    Yields:
        `list[str | File]`: all messages until now: one for each step; at the end also the pictures that steps brought,
            and the answer.
    """
    events: queue.SimpleQueue[Step | Trajectory | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            task = Task.create(question, [File.from_path(path, f"files/{Path(path).name}") for path in files])
            events.put(agent.run_task(task, on_step=events.put))
        except Exception as error:  # shown to the user
            events.put(error)

    thread = threading.Thread(target=work, name="chat", daemon=True)
    thread.start()
    messages: list[str | File] = []
    try:
        while not isinstance(event := events.get(), (Trajectory, Exception)):
            messages.append(_shown(len(messages) + 1, event))
            yield list(messages)
    finally:
        if thread.is_alive():
            agent.interrupt()
            thread.join()
    if isinstance(event, Exception):
        yield [*messages, str(event) if isinstance(event, T3Error) else f"{type(event).__name__}: {event}"]
        return
    pictures = event.images[len(event.task.images) :]
    ending = {"max_steps": "its steps were used up", "max_errors": "too many steps in a row failed"}
    reason = ending.get(event.end_reason, event.end_reason)
    yield [*messages, *pictures, event.answer or f"There is no answer: {reason}."]


def _shown(number: int, step: Step) -> str:
    seen = "" if step.is_final else step.observation_text()
    shown = f"**Step {number}.** {step.thought}\n\n```py\n{step.code}\n```"
    return f"{shown}\n\n```\n{seen}\n```" if seen else shown


def main(argv: list[str]) -> int:
    """`t3 chat`: load the agent and serve the app until it is interrupted."""
    config = parse_options(ChatConfig, argv, prog="t3 chat")
    name = agent_or_default(config.agent)
    from ..agent.agent import load_agent
    from ..agent.loop import check_executor
    from ..models.vlm import use_fastest_num_threads

    check_executor(config.executor)
    use_fastest_num_threads()
    limits = {"max_steps": config.max_steps, "time_budget": config.time_budget}
    server = {"api_base": config.api_base, "api_model": config.api_model}
    agent = load_agent(
        name, toolbox=config.toolbox, prompt=config.prompt, executor_type=config.executor, **server, **limits
    )
    build_app(agent).launch(server_name=config.host, server_port=config.port)
    return 0
