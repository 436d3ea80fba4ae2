"""[`T3Agent`]: an agent that is saved, loaded and pushed in the manner of transformers."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import smolagents
from smolagents import Tool
from smolagents.agents import AGENT_REGISTRY
from smolagents.models import Model

from ..errors import InputError
from ..hub.repos import AGENT_FILE, AGENT_FILES, download_model, has_file
from ..hub.safe_loading import check_folder, check_repo_id, read_json
from ..models.embedded import EMBEDDED
from ..models.vlm import VLMModel
from ..storage import scratch_folder, write_atomic
from ..tools.toolbox import make_toolbox, tool_from_record, tool_record
from .config import T3AgentConfig
from .loop import TaskAgent


_OWN_SETTINGS = (
    "prompt",
    "instructions",
    "max_consecutive_errors",
    "token_budget",
    "time_limit",
    "max_images_per_step",
    "max_observation_length",
    "code_time_limit",
    "provide_run_summary",
)
"""What `to_dict` tells besides what smolagents' does."""


class T3Agent(TaskAgent):
    """A [`TaskAgent`], which says what its arguments are and how it runs, with `save_pretrained`, `from_pretrained`
    and `push_to_hub`.

    Args:
        args, kwargs: see [`TaskAgent`].
        tuned_for (`dict`, *optional*): what it was tuned for, see [`~t3_agents.agent.scope.scope_of`].
    """

    def __init__(self, *args: Any, tuned_for: dict[str, Any] | None = None, **kwargs: Any):
        self.tuned_for = tuned_for or {}
        super().__init__(*args, **kwargs)

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
        token: str | bool | None = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load a saved agent. No code is taken from the folder or repo: tools come by name from the installed package,
        weights are safetensors, and settings that reach out of the agent are refused (see `safe_loading.py`).

        Args:
            pretrained_name_or_path (`str` or `Path`): a folder, or a repo id on the Hub.
            model ([`~smolagents.Model`], *optional*): another controller.
            tools (`list[Tool]`, *optional*): other tools.
            revision (`str`, *optional*): branch, tag or commit of the repo.
            device (`str`, *optional*), dtype (`str`, *optional*): handed to [`VLMModel.from_pretrained`].
            token (`str` or `bool`, *optional*): as in `huggingface_hub`.
            trust_remote_code (`bool`, *optional*, defaults to `False`): run the code of the model's repo and of tools
                that the agent names on the Hub, and take settings that open other Python modules or talk to servers.
                Only for those whose code you would run.
            kwargs: settings of [`T3Agent`] that override the saved ones.

        Raises:
            InputError: when it is no saved agent, or its configuration cannot be used.
        """
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            folder = download_model(str(pretrained_name_or_path), revision, token, code=trust_remote_code)
        config = T3AgentConfig.from_folder(folder)
        check_folder(folder)
        if not trust_remote_code:
            runs_here = kwargs.get("executor_type") == "local"
            config.check_strangers(check_imports=runs_here and kwargs.get("additional_authorized_imports") is None)
        adapter = folder / "adapter_config.json"
        if adapter.is_file() and model is None:
            base = config.controller.get("base") or read_json(adapter).get("base_model_name_or_path")
            check_repo_id(base, f"The controller in {folder.name}")
        name_is_repo = model is None and not Path(pretrained_name_or_path).is_dir()
        model = model or VLMModel.from_pretrained(
            folder,
            base=config.controller.get("base"),
            base_revision=config.controller.get("revision"),
            device=device,
            dtype=dtype,
            token=token,
            trust_remote_code=trust_remote_code,
            **config.generation,
        )
        if name_is_repo and isinstance(model, VLMModel) and config.controller.get("base") is None:
            model.model_id = str(pretrained_name_or_path)  # not the name of a folder in the cache
        settings = {
            f.name: getattr(config, f.name)
            for f in fields(config)
            if f.name not in ("tools", "controller", "generation", "code_block_tags")
        }
        settings["code_block_tags"] = tuple(config.code_block_tags)
        if tools is None:
            tools = [tool_from_record(record, trust_remote_code) for record in config.tools]
        return cls(tools=tools, model=model, **{**settings, **kwargs})

    def to_dict(self) -> dict[str, Any]:
        """The agent as smolagents' `from_dict` reads it; `save` writes the same to a folder, with code of its tools.

        Raises:
            InputError: when the controller has weights, or a setting is no JSON.
        """
        own = {name: getattr(self, name) for name in _OWN_SETTINGS}
        try:
            json.dumps([self.executor_kwargs, own])
        except TypeError as error:
            raise InputError(f"The agent cannot be saved: {error}.") from None
        return {**super().to_dict(), **own, "code_block_tags": self.code_block_tags}

    @classmethod
    def from_dict(cls, agent_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Read what [`to_dict`] gave. Code of tools is run: only for those whose code you would run.

        Args:
            agent_dict (`dict`): the record.
            kwargs: settings that override the saved ones; those of managed agents stay.
        """
        managed = agent_dict.get("managed_agents") or []
        if managed and all(each.get("class") in AGENT_REGISTRY for each in managed):
            # smolagents would hand the settings of the manager to each of them.
            kwargs.setdefault("managed_agents", [AGENT_REGISTRY[each["class"]].from_dict(each) for each in managed])
            agent_dict = {**agent_dict, "managed_agents": []}
        own = {name: agent_dict[name] for name in _OWN_SETTINGS if agent_dict.get(name) is not None}
        return super().from_dict({"max_steps": 20, **agent_dict}, **{**own, **kwargs})

    def save(self, output_dir: str | Path, relative_path: str | None = None) -> None:
        """Write the agent as smolagents does, for `from_folder`; [`save_pretrained`] keeps the weights too."""
        super().save(output_dir, relative_path)
        path = Path(output_dir) / "app.py"
        # The template imports all from smolagents.
        places = {each.__name__: each.__module__ for each in (type(self), type(self.model))}
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.startswith("from smolagents import"):
                ours = [name for name in places if not hasattr(smolagents, name)]
                lines += [f"from {places[name]} import {name}\n" for name in ours]
                for name in ours:
                    line = line.replace(f", {name}", "")
            lines.append(line)
        write_atomic(path, "".join(lines))

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str = "Upload agent",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Save the agent and upload it to a model repo, as one commit.

        `t3 push agent` does the same from a training folder and writes a card from what the run left.

        Args:
            repo_id (`str`): `user/name`.
            commit_message (`str`, *optional*, defaults to `"Upload agent"`): message of the commit.
            private (`bool`, *optional*): visibility of a new repo.
            token (`str` or `bool`, *optional*): as in `huggingface_hub`.
            revision (`str`, *optional*): branch, made when missing.
            create_pr (`bool`, *optional*, defaults to `False`): open a pull request instead.

        Returns:
            `str`: address of the commit or of the pull request.

        Raises:
            InputError: when the agent cannot be saved, or the Hub refuses it.
        """
        from ..hub.upload import Push

        with scratch_folder() as folder:
            self.save_pretrained(folder)
            push = Push(
                Path(folder),
                repo_id,
                marker=AGENT_FILE,
                owned=AGENT_FILES,
                private=private,
                revision=revision,
                create_pr=create_pr,
                message=commit_message,
                token=token,
            )
            return push.send(push.plan())


AGENT_REGISTRY["T3Agent"] = T3Agent


def load_agent(
    name: str | Path,
    model: Model | None = None,
    toolbox: str | None = None,
    prompt: str | None = None,
    revision: str | None = None,
    api_base: str | None = None,
    api_model: str | None = None,
    bare: tuple[str, str] = ("embedded", "compact"),
    **limits: Any,
) -> T3Agent:
    """A saved agent, or a new one around a bare controller.

    Args:
        name (`str` or `Path`): folder or Hub id of an agent or of a vision-language model; `embedded` is the offline
            one.
        model ([`~smolagents.Model`], *optional*): a model that is loaded already.
        toolbox (`str`, *optional*), prompt (`str`, *optional*): of a new agent.
        revision (`str`, *optional*): branch, tag or commit.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`.
        api_model (`str`, *optional*): the controller's name there; by default the only one that the server lists, or
            `name` for a bare controller, unless that is `t3-agent`, which is whatever the server has.
        bare (`tuple[str, str]`, *optional*, defaults to `("embedded", "compact")`): toolbox and prompt of a new agent
            where none is named.
        limits: settings of [`T3Agent`], such as `max_steps` or `executor_type`.

    Raises:
        InputError: when nothing can be loaded under this name, or it has tools and a prompt of its own.
    """
    may_be_repo = not Path(name).is_dir() and api_base is None and str(name) != EMBEDDED
    is_saved = (Path(name) / AGENT_FILE).is_file() or (may_be_repo and has_file(str(name), AGENT_FILE, revision))
    if is_saved and (toolbox or prompt):
        raise InputError(f"{name} is an agent with its own tools and prompt: leave out `--toolbox` and `--prompt`.")
    if api_base is not None and model is None:
        from ..models.server import SERVED_NAME, ServerModel

        generation = T3AgentConfig.from_folder(Path(name)).generation if is_saved else {}
        model = ServerModel(
            api_model or (None if is_saved or name == SERVED_NAME else str(name)), api_base=api_base, **generation
        )
    if is_saved:
        return T3Agent.from_pretrained(name, model=model, revision=revision, **limits)
    model = model or VLMModel.from_pretrained(name, revision=revision)
    return T3Agent(tools=make_toolbox(toolbox or bare[0]), model=model, prompt=prompt or bare[1], **limits)
