"""Talk to an agent in the browser: questions with files, its steps as they are done, the answer."""

from __future__ import annotations

import importlib.util
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolagents.memory import AgentMemory

from ..agent.config import AgentOptions
from ..agent.scope import outside
from ..errors import MissingExtraError, T3Error, needs_extra
from ..examples import EXAMPLES, example_file
from ..task import File, Task
from ..trajectory import Trajectory
from ..workspace import Workspace
from .guard import Guard
from .run import DEFAULT_AGENT, load


if TYPE_CHECKING:
    import gradio

    from ..agent.agent import T3Agent
    from ..turns import Step


KEPT_CONVERSATIONS = 32
"""Conversations whose files and steps are kept; older ones begin anew."""


@dataclass(kw_only=True)
class ChatConfig(AgentOptions):
    """Talk to an agent in the browser: a question with files, and further ones about them.

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


def build_app(agent: T3Agent | str, name: str = "") -> gradio.Blocks:
    """The app: a question with files goes in, the steps and the answer come out. One run at a time.

    Args:
        agent ([`T3Agent`] or `str`): an agent, or the folder or Hub id of a saved one.
        name (`str`, *optional*): what it is called in the title.

    Raises:
        InputError: when there is no such agent.
        MissingExtraError: when Gradio is not installed.
    """
    with needs_extra("gradio", "app", "The app"):
        import gradio
    from ..agent.agent import T3Agent

    name = name or (agent if isinstance(agent, str) else agent.model.model_id or "T3-Agent")
    runner = T3Agent.from_pretrained(agent) if isinstance(agent, str) else agent
    lock, conversations = threading.Lock(), OrderedDict[str, Conversation]()

    def answer(message: dict[str, Any], history: list[Any], request: Any) -> Iterator[list[Any]]:
        with lock:
            if not history:
                conversations.pop(request.session_hash, None)
            conversation = conversations.setdefault(request.session_hash, Conversation(runner))
            conversations.move_to_end(request.session_hash)
            if len(conversations) > KEPT_CONVERSATIONS:
                conversations.popitem(last=False)
            for messages in conversation.ask(message["text"], message["files"]):
                yield [m if isinstance(m, str) else _picture(m) for m in messages]

    # Gradio looks at this one, which is not known by name where annotations are read.
    answer.__annotations__["request"] = gradio.Request

    def _picture(file: File) -> Any:
        return gradio.Image(file.open_image(), label=file.path, elem_id=f"picture-{file.sha256[:8]}")

    def stopped(history: list[Any]) -> list[Any]:
        return [*history, {"role": "assistant", "content": "Stopped: the run was ended before it had an answer."}]

    kinds = runner.tuned_for.get("files")
    about = f"It was tuned on {', '.join(kinds)} files. " if kinds else ""
    app = gradio.ChatInterface(
        answer,
        multimodal=True,
        title=f"T3-Agents: {Path(name).parent.parent.name or name}" if Path(name).is_dir() else f"T3-Agents: {name}",
        description=f"Ask about pictures and documents: attach them to the question. {about}A further question may be "
        "about the same files.",
        examples=[[{"text": question, "files": [str(example_file(file))]}] for file, question in EXAMPLES.items()],
        cache_examples=False,
        stop_btn=True,
    )
    with app:
        app.textbox.stop(stopped, app.chatbot, app.chatbot).then(lambda shown: shown, app.chatbot, app.chatbot_state)
    return app


class Conversation:
    """A chat with an agent that others use too: its record is put back before each question.

    Args:
        agent ([`T3Agent`]): the agent.
    """

    _RECORD = ("steps", "images", "_pictures", "memory")

    def __init__(self, agent: T3Agent):
        self.agent = agent
        self.workspace = Workspace()
        self._record: dict[str, Any] = {}

    def ask(self, question: str, files: Sequence[str] = ()) -> Iterator[list[str | File]]:
        """Run a task, in the conversation so far, and show it. Closing the iterator ends the run.

        Args:
            question (`str`): the user's words.
            files (`Sequence[str]`): paths of attached files; those of earlier questions are there too.

        Yields:
            `list[str | File]`: all messages until now: one for each step, the last one as it is written, with the
                pictures that it brought; at the end the answer.
        """
        agent, follows = self.agent, bool(self._record)
        agent.memory = AgentMemory(agent.system_prompt)
        for name, value in self._record.items():
            setattr(agent, name, value)
        events: queue.SimpleQueue[str | Step | Trajectory | Exception] = queue.SimpleQueue()

        def work() -> None:
            try:
                task = Task.create(question, [File.from_path(path, f"files/{Path(path).name}") for path in files])
                events.put(
                    agent.run_task(task, self.workspace, on_step=events.put, on_text=events.put, reset=not follows)
                )
            except Exception as error:  # shown to the user
                events.put(error)

        thread = threading.Thread(target=work, name="chat", daemon=True)
        thread.start()
        messages: list[str | File] = []
        written, number, begun = "", 1, time.monotonic()
        try:
            while not isinstance(event := events.get(), (Trajectory, Exception)):
                if isinstance(event, str):
                    written += event
                    if events.empty():  # what has come meanwhile is shown at once
                        yield [*messages, f"**Step {number}.** {written}"]
                    continue
                messages += [_shown(number, event), *(agent.images[index] for index in event.images)]
                written, number = "", number + 1
                yield list(messages)
        finally:
            if thread.is_alive():
                agent.interrupt()
                thread.join()
            self._record = {name: getattr(agent, name) for name in self._RECORD}
        if isinstance(event, Exception):
            yield [*messages, str(event) if isinstance(event, T3Error) else f"{type(event).__name__}: {event}"]
            return
        ending = {
            "max_steps": "its steps were used up",
            "max_errors": "too many steps in a row failed",
            "time_limit": "its time was up",
        }
        reason = ending.get(event.end_reason, event.end_reason)
        note = "" if follows else outside(agent.tuned_for, event.task) or ""
        took = f"{time.monotonic() - begun:.1f} s in {number - 1} {'step' if number == 2 else 'steps'}"
        answer = f"**{event.answer}**" if event.answer else f"There is no answer: {reason}."
        yield [*messages, f"{answer}\n\n*{took}.{f' {note} Check the answer.' if note else ''}*"]


def _shown(number: int, step: Step) -> str:
    seen = "" if step.is_final else step.observation_text()
    shown = f"**Step {number}** ({step.seconds:.1f} s). {step.thought}\n\n```py\n{step.code}\n```"
    return f"{shown}\n\n```\n{seen}\n```" if seen else shown


def main(config: ChatConfig) -> int:
    """`t3 chat`: load the agent and serve the app until it is interrupted."""
    if importlib.util.find_spec("gradio") is None:  # said before an agent is loaded
        raise MissingExtraError("gradio", "app", "The app")
    app = build_app(load(config), config.agent)
    from starlette.middleware import Middleware

    guarded = {"middleware": [Middleware(Guard, host=config.host)]}
    app.launch(server_name=config.host, server_port=config.port, share=False, app_kwargs=guarded)
    return 0
