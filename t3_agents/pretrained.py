"""Saving and loading of agents in the manner of transformers: `save_pretrained`, `from_pretrained`, `push_to_hub`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from smolagents import Tool
from smolagents.models import Model

from .config import AGENT_FILE, T3AgentConfig
from .errors import InputError
from .hub import download_agent
from .models import VLMModel
from .storage import write_atomic
from .tools.toolbox import tool_from_record, tool_record


class PretrainedAgent:
    """The part of [`T3Agent`] that writes an agent to a folder or repo and reads it back."""

    def get_config(self) -> T3AgentConfig:
        """The settings that `save_pretrained` writes.

        Raises:
            InputError: when a part cannot be saved: a tool that is not of this package, a managed agent.
        """
        if self.managed_agents:
            raise InputError(
                "An agent with managed agents cannot be saved: save each agent and put them together after loading."
            )
        settings = {f.name: getattr(self, f.name) for f in fields(T3AgentConfig) if f.name in vars(self)}
        settings.update(
            tools=[tool_record(tool) for tool in self.tools.values() if tool.name != "final_answer"],
            code_block_tags=list(self.code_block_tags),
        )
        return T3AgentConfig(**settings)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the agent to a folder that [`from_pretrained`], `AutoModelForImageTextToText` and PEFT read.

        Args:
            save_directory (`str` or `Path`): the folder, made when missing.

        Raises:
            InputError: when a part cannot be saved, or the controller is not a [`VLMModel`].
        """
        if not isinstance(self.model, VLMModel):
            raise InputError(
                f"A {type(self.model).__name__} has no weights to save: use a VLMModel as the controller."
            )
        config = self.get_config()
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        config.controller = self.model.save_pretrained(folder)
        config.generation = self.model.generation
        write_atomic(folder / AGENT_FILE, config.to_json())

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        model: Model | None = None,
        tools: list[Tool] | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load a saved agent. No code is taken from the folder or repo: tools come by name from the installed package.

        Args:
            pretrained_name_or_path (`str` or `Path`): a folder, or a repo id on the Hub.
            model ([`~smolagents.Model`], *optional*): another controller.
            tools (`list[Tool]`, *optional*): other tools.
            revision (`str`, *optional*): branch, tag or commit of the repo.
            device (`str`, *optional*), dtype (`str`, *optional*): handed to [`VLMModel.from_pretrained`].
            trust_remote_code (`bool`, *optional*, defaults to `False`): whether the code of tools that the agent names
                on the Hub may be downloaded and run.
            kwargs: settings of [`T3Agent`] that override the saved ones.

        Raises:
            InputError: when it is no saved agent, or its configuration cannot be used.
        """
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            folder = download_agent(str(pretrained_name_or_path), revision)
        config = T3AgentConfig.from_folder(folder)
        model = model or VLMModel.from_pretrained(
            folder,
            base=config.controller.get("base"),
            base_revision=config.controller.get("revision"),
            device=device,
            dtype=dtype,
            **config.generation,
        )
        settings = {
            f.name: getattr(config, f.name)
            for f in fields(config)
            if f.name not in ("tools", "controller", "generation", "code_block_tags")
        }
        settings["code_block_tags"] = tuple(config.code_block_tags)
        if tools is None:
            tools = [tool_from_record(record, trust_remote_code) for record in config.tools]
        return cls(tools=tools, model=model, **{**settings, **kwargs})

    def push_to_hub(
        self, repo_id: str, private: bool | None = None, commit_message: str = "Upload agent", **kwargs: Any
    ) -> str:
        """Save the agent and upload it to a model repo; returns the URL of the commit.

        Args:
            repo_id (`str`): `user/name`.
            private (`bool`, *optional*): visibility of a new repo.
            commit_message (`str`, *optional*): message of the commit.
            kwargs: handed to [`~huggingface_hub.HfApi.upload_folder`], such as `revision` or `create_pr`.
        """
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message, **kwargs))
