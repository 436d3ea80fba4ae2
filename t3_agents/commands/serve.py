"""Serve an agent's controller over the OpenAI protocol, by the best server that is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..agent.config import T3AgentConfig
from ..errors import InputError, MissingExtraError
from ..hub.repos import AGENT_FILE, download_model, has_file
from ..hub.safe_loading import check_source
from ..models.device import best_device
from ..models.embedded import EMBEDDED, embedded_controller
from ..models.server import SERVED_NAME
from ..models.vlm import VLMModel
from . import guard
from .run import DEFAULT_AGENT, check_default


Server = Literal["vllm", "sglang", "transformers"]
"""Servers by preference: the first two batch continuously and reuse prefixes."""


@dataclass
class ServeConfig:
    """Serve an agent's controller over the OpenAI protocol.

    Args:
        agent (`str`, *optional*, defaults to `"runs/quickstart/train/agent"`): folder or Hub id of a saved agent or of
            a vision-language model; by default the agent that `t3 quickstart` tuned.
        server (`str`, *optional*): `vllm`, `sglang` or `transformers`; the best one that is installed by default.
        host (`str`, *optional*, defaults to `"localhost"`): address to listen at.
        port (`int`, *optional*, defaults to 8000): port to listen at.
    """

    agent: str = DEFAULT_AGENT
    server: Server | None = None
    host: str = "localhost"
    port: int = 8000


@dataclass(frozen=True)
class Weights:
    """What a server is to load.

    Args:
        model (`str`): folder or Hub id of full weights.
        adapter (`str`, *optional*): folder of an adapter on them.
        revision (`str`, *optional*): commit of `model`.
    """

    model: str
    adapter: str | None = None
    revision: str | None = None


def installed_servers() -> list[Server]:
    """Those that can run here, best first."""
    needs = {"vllm": ["vllm"], "sglang": ["sglang"], "transformers": ["openai", "fastapi", "uvicorn"]}
    return [name for name in get_args(Server) if all(importlib.util.find_spec(module) for module in needs[name])]


def choose_server(wanted: Server | None, installed: list[Server]) -> Server:
    """The server to start.

    Raises:
        InputError: when vLLM or SGLang is wanted, which no extra brings, and is not installed.
        MissingExtraError: when nothing that can serve is installed.
    """
    if wanted in ("vllm", "sglang") and wanted not in installed:
        raise InputError(f"{wanted} is not installed: run `pip install {wanted}`, or choose another server.")
    if not installed or (wanted and wanted not in installed):
        raise MissingExtraError("openai, fastapi and uvicorn", "serve", "`transformers serve`")
    return wanted or installed[0]


def weights_of(agent: str) -> Weights:
    """Where the weights of an agent or of a bare controller lie.

    Raises:
        InputError: when nothing can be loaded under this name.
    """
    if agent == EMBEDDED:
        return Weights(str(embedded_controller()))
    folder = Path(agent)
    if not folder.is_dir() and has_file(agent, AGENT_FILE):
        folder = download_model(agent, None)
    if not folder.is_dir():
        return Weights(agent)
    folder = folder.resolve()
    if not (folder / AGENT_FILE).is_file():
        return Weights(str(folder))
    controller = T3AgentConfig.from_folder(folder).controller
    if not controller.get("adapter"):
        return Weights(str(folder))
    return Weights(controller["base"], str(folder), controller.get("revision"))


def command_of(server: str, weights: Weights, host: str, port: int) -> tuple[list[str], str]:
    """The command line of a server, and the name under which it offers the model.

    Args:
        server (`str`): which one.
        weights ([`Weights`]): what to load; full weights for `transformers`.
        host (`str`), port (`int`): where to listen.
    """
    address = ["--host", host, "--port", str(port)]
    guarded = [sys.executable, "-m", guard.__name__, host]
    if server == "transformers":
        # CPUs without bf16 units run it some 50 times slower than fp32.
        dtype = ["--dtype", "float32"] if best_device() == "cpu" else []
        command = ["transformers.cli.transformers", "serve", weights.model, *dtype]
        return [*guarded, *command, *address], weights.model
    if server == "vllm":
        start, adapters = ["vllm.entrypoints.openai.api_server", "--model"], ["--enable-lora", "--lora-modules"]
        if weights.adapter:
            adapters[1:1] = ["--max-lora-rank", str(_lora_rank(weights.adapter))]
    else:
        start, adapters = ["sglang.launch_server", "--model-path"], ["--lora-paths"]
    revision = ["--revision", weights.revision] if weights.revision else []
    named = ["--served-model-name", SERVED_NAME]
    if weights.adapter:
        named = [*adapters, f"{SERVED_NAME}={weights.adapter}"]
    return [*guarded, *start, weights.model, *revision, *address, *named], SERVED_NAME


def merged(weights: Weights, folder: Path) -> Weights:
    """Full weights in `folder`, for a server that loads no adapters."""
    model = VLMModel.from_pretrained(weights.adapter, base=weights.model, base_revision=weights.revision)
    model.model.merge_and_unload().save_pretrained(folder)
    model.processor.save_pretrained(folder)
    return Weights(str(folder))


def named(weights: Weights, folder: Path) -> Weights:
    """Full weights under the name of [`~models.server.SERVED_NAME`] in `folder`, by which `transformers serve` started
    there offers them."""
    place = folder / SERVED_NAME
    if weights.adapter:
        merged(weights, place)
    else:
        source = Path(weights.model)
        source = source if source.is_dir() else download_model(weights.model, weights.revision)
        place.symlink_to(source.resolve(), target_is_directory=True)
    return Weights(SERVED_NAME)


def instructions(config: ServeConfig, name: str) -> str:
    """How to use the server."""
    url = f"http://{config.host}:{config.port}/v1"
    agent = "" if config.agent == DEFAULT_AGENT else f" --agent {config.agent}"
    return (
        f"Serving {config.agent} at {url} as `{name}`.\n\n"
        f'  t3 run "QUESTION"{agent} --api-base {url}\n\n'
        "or in Python, with any smolagents agent:\n\n"
        "  from smolagents import CodeAgent, OpenAIModel\n"
        f'  model = OpenAIModel("{name}", api_base="{url}", api_key="none")\n'
        "  agent = CodeAgent(tools=[], model=model)\n"
    )


def main(config: ServeConfig) -> int:
    """`t3 serve`: start the server and wait for its end."""
    server = choose_server(config.server, installed_servers())
    check_default(config.agent)
    check_source(config.agent, "--agent")
    weights = weights_of(config.agent)
    scratch, environment = Path(tempfile.mkdtemp(prefix="t3-serve-")), dict(os.environ)
    try:
        if server == "transformers":
            weights = named(weights, scratch)
            # It lists what is in the cache, where the name that it answers to is not.
            environment["HF_HUB_CACHE"] = str(scratch / "hub")
            (scratch / "hub").mkdir()
        command, name = command_of(server, weights, config.host, config.port)
        print(instructions(config, name), flush=True)
        return _run(command, scratch if server == "transformers" else None, environment)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(command: list[str], folder: Path | None, environment: dict[str, str]) -> int:
    """Run a server in a folder until it ends, or until this process is asked to end."""

    def stop(*_: Any) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait()


def _lora_rank(adapter: str) -> int:
    from peft import PeftConfig

    return PeftConfig.from_pretrained(adapter).r
