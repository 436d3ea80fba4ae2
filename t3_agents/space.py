"""A Gradio Space that runs an agent: the files of its repo, and the app that they start."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .storage import write_atomic
from .task import File, Task


if TYPE_CHECKING:
    import gradio

    from .agent import T3Agent

GRADIO = "6.0"
"""Lowest release of Gradio that the app is written for."""
_README = """---
title: {title}
emoji: 🧰
colorFrom: blue
colorTo: yellow
sdk: gradio
app_file: app.py
pinned: false
license: apache-2.0
models:
- {agent_repo}
---

Runs the agent [{agent_repo}](https://huggingface.co/{agent_repo}). Its code steps run in this Space; files that you
attach go to a folder of their own and are deleted with the run.
"""
_APP = """from t3_agents.space import build_app


build_app("{agent_repo}").launch()
"""


def write_space(folder: Path, agent_repo: str, title: str) -> None:
    """Write the files of a Space: a README with its metadata, an app of three lines, and requirements.

    Args:
        folder (`Path`): where to write.
        agent_repo (`str`): repo of the agent that it runs.
        title (`str`): title of the Space.
    """
    write_atomic(folder / "README.md", _README.format(title=title, agent_repo=agent_repo))
    write_atomic(folder / "app.py", _APP.format(agent_repo=agent_repo))
    write_atomic(folder / "requirements.txt", f"t3-agents[app,tools]=={version('t3-agents')}\n")


def build_app(agent_repo: str) -> gradio.Blocks:
    """The app: a question with files goes in, the steps and the answer come out. One run at a time.

    Args:
        agent_repo (`str`): folder or Hub id of a saved agent.

    Raises:
        InputError: when there is no such agent.
        MissingExtraError: when Gradio is not installed.
    """
    try:
        import gradio
    except ImportError:
        raise MissingExtraError("gradio", "app", "The app") from None
    from .agent import T3Agent

    agent = T3Agent.from_pretrained(agent_repo)
    lock = threading.Lock()

    def answer(message: dict[str, Any], history: list[Any]) -> list[Any]:
        with lock:
            return solve(agent, message["text"], message["files"])

    return gradio.ChatInterface(
        answer,
        multimodal=True,
        title=agent_repo,
        description="Ask about pictures and documents: attach them to the question.",
    )


def solve(agent: T3Agent, question: str, files: list[str]) -> list[str]:
    """Messages that show a run: one for each step, the answer last.

    Args:
        agent ([`T3Agent`]): the agent.
        question (`str`): the user's words.
        files (`list[str]`): paths of attached files.
    """
    task = Task.create(question, [File.from_path(path, f"files/{Path(path).name}") for path in files])
    trajectory = agent.run_task(task)
    messages = []
    for number, step in enumerate(trajectory.steps, start=1):
        seen = step.observation_text()
        shown = f"**Step {number}.** {step.thought}\n\n```py\n{step.code}\n```"
        messages.append(f"{shown}\n\n```\n{seen}\n```" if seen else shown)
    ending = {"max_steps": "its steps were used up", "max_errors": "too many steps in a row failed"}
    reason = ending.get(trajectory.end_reason, trajectory.end_reason)
    return [*messages, trajectory.answer or f"There is no answer: {reason}."]
