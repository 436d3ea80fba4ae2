"""Talk to an agent in the browser: questions with files, its steps as they are done, the answer."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..agent.config import AgentOptions
from ..errors import MissingExtraError, T3Error, needs_extra
from ..task import File, Task
from ..trajectory import Trajectory
from .guard import Guard
from .run import DEFAULT_AGENT, load


if TYPE_CHECKING:
    import gradio

    from ..agent.agent import T3Agent
    from ..turns import Step


@dataclass(kw_only=True)
class ChatConfig(AgentOptions):
    """Talk to an agent in the browser. Every message is a task of its own.

    Args:
        agent (`str`, *optional*, defaults to `"runs/quickstart/train/agent"`): folder or Hub id of a saved agent, or
            of a bare controller; by default the agent that `t3 quickstart` tuned.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): address to listen at; another one lets others run the
            agent.
        port (`int`, *optional*, defaults to 7860): port to listen at.
    """

    agent: str = DEFAULT_AGENT
    host: str = "127.0.0.1"
    port: int = 7860


def build_app(agent: T3Agent | str) -> gradio.Blocks:
    """The app: a question with files goes in, the steps and the answer come out. One run at a time.

    Args:
        agent ([`T3Agent`] or `str`): an agent, or the folder or Hub id of a saved one.

    Raises:
        InputError: when there is no such agent.
        MissingExtraError: when Gradio is not installed.
    """
    with needs_extra("gradio", "app", "The app"):
        import gradio
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


def main(config: ChatConfig) -> int:
    """`t3 chat`: load the agent and serve the app until it is interrupted."""
    if importlib.util.find_spec("gradio") is None:  # said before an agent is loaded
        raise MissingExtraError("gradio", "app", "The app")
    app = build_app(load(config))
    from starlette.middleware import Middleware

    guarded = {"middleware": [Middleware(Guard, host=config.host)]}
    app.launch(server_name=config.host, server_port=config.port, share=False, app_kwargs=guarded)
    return 0
