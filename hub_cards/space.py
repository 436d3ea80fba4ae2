"""A Gradio Space that runs an agent: the files of its repo, which start the app of `chat.py`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError
from t3_agents.hub.repos import has_agent
from t3_agents.hub.upload import Push
from t3_agents.storage import write_atomic


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
_APP = """from t3_agents.commands.chat import build_app


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


def prepare_space(folder: Path, repo_id: str, agent_repo: str, **settings: Any) -> Push:
    """Write the files of a Space into a folder, to be pushed.

    Args:
        folder (`Path`): where to write.
        repo_id (`str`): `user/name` of the Space.
        agent_repo (`str`): repo of the agent on the Hub.
        settings: further settings of [`Push`].

    Raises:
        InputError: when `agent_repo` holds no agent.
    """
    if not has_agent(agent_repo, token=settings.get("token")):
        raise InputError(f"`{agent_repo}` holds no agent on the Hub: push the agent there first.")
    write_space(folder, agent_repo, title=repo_id.partition("/")[2])
    return Push(folder, repo_id, repo_type="space", marker="app.py", space_sdk="gradio", **settings)
