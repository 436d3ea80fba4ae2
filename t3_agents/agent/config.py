"""Everything in `t3_agent.json`, the file that makes a folder or Hub repo an agent."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from jsonargparse.typing import PositiveFloat, PositiveInt

from ..errors import InputError, suggestion
from ..hub.repos import AGENT_FILE
from ..hub.safe_loading import (
    GENERATION_SETTINGS,
    SAFE_IMPORTS,
    check_repo_id,
    check_source,
    check_template,
    read_json,
    strict_json,
)
from ..options import check_options
from ..storage import from_record, require
from ..turns import CODE_CLOSE, CODE_OPEN


FORMAT = "t3-agent/1"


Executor = Literal["sandbox", "local", "docker", "e2b", "modal", "blaxel"]
Toolbox = Literal["embedded", "paper", "gta", "gta-embedded", "gaia", "gaia-embedded"]
"""Names of `tools/toolbox.py`, here so that a wrong one is found before anything is imported."""


@dataclass(kw_only=True)
class AgentOptions:
    """How a command runs an agent.

    Args:
        agent (`str`): folder or Hub id of a saved agent, or of a bare controller (`embedded`, any vision-language
            model).
        toolbox (`str`, *optional*): tools of a bare controller; by default those that fit the command.
        prompt (`str`, *optional*): prompt of a bare controller; by default the one that fits the command.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server that runs the controller, see `t3 serve`; its
            key is taken from `OPENAI_API_KEY`.
        api_model (`str`, *optional*): the controller's name there, where the server lists several.
        executor (`str`, *optional*, defaults to `"sandbox"`): where model-written code runs: `sandbox`, `docker`,
            `e2b`, `modal`, `blaxel`, or `local`, which is no security boundary.
        max_steps (`int`, *optional*, defaults to 8): steps of a task.
        max_new_tokens (`int`, *optional*): tokens per turn; the agent's own setting by default.
        time_limit (`float`, *optional*): seconds of a task.
    """

    bare: ClassVar[tuple[str, str]] = ("embedded", "compact")

    agent: str
    toolbox: Toolbox | None = None
    prompt: str | None = None
    api_base: str | None = None
    api_model: str | None = None
    executor: Executor = "sandbox"
    max_steps: PositiveInt = 8
    max_new_tokens: PositiveInt | None = None
    time_limit: PositiveFloat | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the option and what it may be.
        """
        check_options(self)
        if self.prompt:
            load_prompt(self.prompt)
        check_source(self.agent, "--agent")
        if self.api_model and not self.api_base:
            raise InputError("`--api-model` is a name at a server: give `--api-base` too.")

    def arguments(self) -> dict[str, Any]:
        """What [`load_agent`] is told, besides the name."""
        names = ("toolbox", "prompt", "api_base", "api_model", "max_steps", "time_limit")
        return {"executor_type": self.executor, "bare": self.bare, **{name: getattr(self, name) for name in names}}


def load_prompt(name: str) -> dict[str, Any]:
    """Prompt templates that come with the package (smolagents' `PromptTemplates` form).

    Args:
        name (`str`): `paper` (with worked examples) or `compact` (for tuned controllers).

    Raises:
        InputError: when there is no prompt of that name.
    """
    folder = importlib.resources.files("t3_agents.agent.prompts")
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name not in names:
        raise InputError(f"There is no prompt `{name}`; {suggestion(name, names)}")
    return copy.deepcopy(_read_prompt(name))


@functools.cache
def _read_prompt(name: str) -> dict[str, Any]:
    """Read once: parsing the examples takes longer than all else that makes an agent."""
    text = importlib.resources.files("t3_agents.agent.prompts").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@dataclass
class T3AgentConfig:
    """Settings of a [`T3Agent`] as they are saved.

    Args:
        prompt (`str`): name of the prompt.
        prompt_templates (`dict`): its templates, so that a saved agent does not change with the package.
        tools (`list[dict]`): tool records `{"name", "version", "settings"}`, see `tools/toolbox.py`.
        controller (`dict`): `{"base": Hub id or null, "revision": commit or null, "adapter": bool}`; without a base
            the weights lie beside this file.
        generation (`dict`): keyword arguments of the controller's `generate`, such as `max_new_tokens`.
        additional_authorized_imports (`list[str]`): modules that code may import besides smolagents' base modules.
        code_block_tags (`list[str]`): opening and closing tag of the code in a turn.
        instructions (`str`, *optional*): text added to the system prompt.
        max_steps (`int`): steps before the run ends without an answer.
        max_consecutive_errors (`int`): failed steps in a row before the run ends.
        token_budget (`int`, *optional*): input plus output tokens of all steps before the run ends.
        time_limit (`float`, *optional*): seconds before the run ends, also in the middle of a turn.
        max_images_per_step (`int`): pictures that one step may show to the controller.
        max_observation_length (`int`): characters of an observation; the middle is cut.
        code_time_limit (`float`): seconds that one code step may take.
        planning_interval (`int`, *optional*): steps between smolagents' planning turns.
        max_print_outputs_length (`int`, *optional*): characters of what a step prints.
        name (`str`, *optional*), description (`str`, *optional*): by which another agent calls this one.
        provide_run_summary (`bool`): report the steps to that agent too.
        tuned_for (`dict`): what the rows were about that it was tuned on, see [`~t3_agents.agent.scope.scope_of`].
    """

    prompt: str = "paper"
    prompt_templates: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    controller: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    additional_authorized_imports: list[str] = field(default_factory=list)
    code_block_tags: list[str] = field(default_factory=lambda: [CODE_OPEN, CODE_CLOSE])
    instructions: str | None = None
    max_steps: int = 10
    max_consecutive_errors: int = 5
    token_budget: int | None = None
    time_limit: float | None = None
    max_images_per_step: int = 2
    max_observation_length: int = 4000
    code_time_limit: float = 60
    planning_interval: int | None = None
    max_print_outputs_length: int | None = None
    name: str | None = None
    description: str | None = None
    provide_run_summary: bool = False
    tuned_for: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> T3AgentConfig:
        """Read the content of `t3_agent.json`.

        Raises:
            InputError: when it is no JSON object, of another format version, or has an unknown field or a wrong type.
        """
        return cls.from_record(strict_json(text, AGENT_FILE))

    @classmethod
    def from_record(cls, record: Any) -> T3AgentConfig:
        """The settings in the parsed content of `t3_agent.json`, see [`from_json`]."""
        config = from_record(cls, record, AGENT_FILE, FORMAT)
        if len(config.code_block_tags) != 2:
            raise InputError(f"Field `code_block_tags` of the {AGENT_FILE} must be an opening and a closing tag.")
        missing = sorted(set(load_prompt(cls.prompt)) - set(config.prompt_templates))
        if config.prompt_templates and missing:
            raise InputError(f"Field `prompt_templates` of the {AGENT_FILE} has no `{missing[0]}`.")
        return config

    @classmethod
    def from_folder(cls, folder: Path) -> T3AgentConfig:
        """Read the configuration of a saved agent.

        Raises:
            InputError: when the folder is no saved agent.
        """
        path = Path(folder) / AGENT_FILE
        if not path.is_file():
            raise InputError(f"{folder} is not a saved agent: it has no {AGENT_FILE}.")
        return cls.from_record(read_json(path))

    def check_strangers(self, check_imports: bool) -> None:
        """Refuse settings that reach out of the agent: a stranger could have written them.

        Args:
            check_imports (`bool`): also refuse modules that reach beyond the workspace, for an executor that is no
                boundary; in a sandbox they reach nothing.

        Raises:
            InputError: naming the setting and how to allow it.
        """
        unsafe = "pass trust_remote_code=True if you trust whoever made the agent"
        for module in self.additional_authorized_imports if check_imports else ():
            if str(module).removesuffix(".*") not in SAFE_IMPORTS:
                raise InputError(
                    f"This agent lets code import `{module}`, which reaches beyond its workspace: pass "
                    f"additional_authorized_imports yourself, or {unsafe}."
                )
        for name, value in self.generation.items():
            values = value if isinstance(value, list) else [value]
            plain = all(isinstance(entry, (bool, int, float, type(None))) for entry in values)
            if name not in GENERATION_SETTINGS or not plain:
                raise InputError(f"This agent sets `{name}` of `generate`, which is no plain number: {unsafe}.")
        if self.controller.get("base") is not None:
            check_repo_id(self.controller["base"], f"The controller in {AGENT_FILE}")
        for record in self.tools:
            settings = require(record, "settings", dict, "tool record", default={})
            for name, value in settings.items():
                if "://" in json.dumps(value):
                    raise InputError(
                        f"The tool `{record.get('name')}` of this agent would talk to a server (`{name}`): {unsafe}."
                    )
        for name, text in self._templates():
            check_template(name, text)

    def _templates(self) -> list[tuple[str, Any]]:
        """Prompt templates by name; those of smolagents lie one level deep."""
        found = []
        for name, value in self.prompt_templates.items():
            inner = value.items() if isinstance(value, dict) else [(None, value)]
            found += [(f"{name}.{key}" if key else name, text) for key, text in inner]
        return found
