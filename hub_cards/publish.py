"""Push agents, datasets, results, reports and Spaces to the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import requires
from pathlib import Path
from typing import Any, ClassVar, Literal

from packaging.requirements import Requirement

import t3_agents
from t3_agents.errors import InputError
from t3_agents.hub.repos import AGENT_FILE, AGENT_FILES, MODEL_FILES, has_file, hub_errors
from t3_agents.hub.upload import Push, describe
from t3_agents.options import Positional
from t3_agents.reports.markdown import Markdown, render
from t3_agents.storage import scratch_folder, write_atomic


@dataclass(kw_only=True)
class PushConfig:
    """Push a Space, or the redacted trajectories of a run, to the Hub.

    Args:
        source (`str`): folder of the agent, run or dataset; for a Space, the repo that its agent was pushed to.
        repo (`str`): `user/name`.
        private (`bool`, *optional*): visibility of a new repo.
        revision (`str`, *optional*): branch, made when missing.
        create_pr (`bool`, *optional*, defaults to `False`): open a pull request; results for a repo that is not yours
            always do.
        dry_run (`bool`, *optional*, defaults to `False`): list what would travel and stop.
        message (`str`, *optional*): commit message.
        collection (`str`, *optional*): title of a collection of yours that gets the repo, the dataset and the paper.
    """

    dataset: ClassVar[str | None] = None

    source: Positional[str]
    repo: Positional[str]
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    dry_run: bool = False
    message: str | None = None
    collection: str | None = None

    def settings(self, what: str) -> dict[str, Any]:
        """The settings of a [`Push`] that come from the command line."""
        return {
            "repo_id": self.repo,
            "private": self.private,
            "revision": self.revision,
            "create_pr": self.create_pr,
            "message": self.message or f"Upload {what}",
        }


@dataclass(kw_only=True)
class PushAgentConfig(PushConfig):
    """Push a tuned agent with its card to the Hub.

    Args:
        dataset (`str`, *optional*): Hub id of the dataset that it was tuned on.
        results (`list[str]`, *optional*): folders of finished evaluations, for the card.
        untuned (`list[str]`, *optional*): the same for the controller before tuning.
        license (`str`, *optional*): Hub id of the license.
    """

    dataset: str | None = None
    results: list[str] = field(default_factory=list)
    untuned: list[str] = field(default_factory=list)
    license: str | None = None


@dataclass(kw_only=True)
class PushResultsConfig(PushConfig):
    """Push the results of an evaluation to the repo of an agent.

    Args:
        dataset (`str`, *optional*): Hub id of the benchmark.
    """

    dataset: str | None = None


def push_agent(config: PushAgentConfig, folder: Path) -> Push:
    """A saved agent with its card, and under `run/` the files that the card's numbers are from."""
    from .eval_results import make_entries, to_yaml
    from .model_card import make_model_card, read_run

    push = Push(folder, marker=AGENT_FILE, owned=[*AGENT_FILES, "run/*"], **config.settings("agent"))
    run = read_run(config.source, [Path(p) for p in config.results], [Path(p) for p in config.untuned])
    for name in {path.name for pattern in MODEL_FILES for path in run.agent.glob(pattern)}:
        (folder / name).symlink_to(run.agent / name)
    for path, record in run.facts.files.items():
        if path.startswith("run/"):
            write_atomic(folder / path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    for path, plot in run.plots.items():
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(plot, folder / path)
    for label, path in run.evaluations:
        results = run.facts.files[path]
        if label == "this agent" and "/" in str(config.dataset or results["dataset"].get("name")):
            entries = make_entries(results, None, _page(config.repo, path))
            write_atomic(folder / ".eval_results" / f"{results['benchmark']}.yaml", to_yaml(entries))
    report_url = _page(config.repo, "run/results")
    make_model_card(run, config.repo, config.dataset, config.license, report_url).save(folder / "README.md")
    return push


def push_results(config: PushResultsConfig, folder: Path) -> Push:
    """Results of a finished evaluation into the repo of the agent; a pull request when it is not yours."""
    from huggingface_hub import ModelCard, hf_hub_download, model_info, whoami
    from huggingface_hub.errors import EntryNotFoundError

    from .eval_results import make_entries, make_model_index, read_results, to_yaml
    from .model_card import without_machine

    results = without_machine(read_results(config.source))
    place = f"run/results/{results['benchmark']}.json"
    url = _page(config.repo, place)
    entries = make_entries(results, config.dataset, url)
    push = Push(folder, **config.settings(f"{results['benchmark'].upper()} results"))
    with hub_errors(config.repo):
        user = whoami()
        model_info(config.repo)
        try:
            card = ModelCard.load(hf_hub_download(config.repo, "README.md", revision=config.revision))
        except EntryNotFoundError:
            card = ModelCard("---\n{}\n---\n")
    yours = {user["name"], *(entry["name"] for entry in user.get("orgs", []))}
    if config.repo.split("/")[0] not in yours:
        push.create_pr = True
    benchmark = results["benchmark"].upper()
    others = [r for r in card.data.eval_results or [] if r.dataset_name != benchmark]
    card.data.eval_results = [*others, *make_model_index(results, config.dataset, url)]
    card.data.model_name = card.data.get("model_name") or config.repo.partition("/")[2]
    write_atomic(folder / "README.md", str(card))
    write_atomic(folder / place, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / ".eval_results" / f"{results['benchmark']}.yaml", to_yaml(entries))
    for report in ("report.md", "report.html"):
        if (Path(config.source) / report).is_file():
            name = f"run/results/{results['benchmark']}_{report}"
            write_atomic(folder / name, (Path(config.source) / report).read_bytes())
    return push


def push_report(config: PushConfig, folder: Path) -> Push:
    """The trajectories of a run, redacted, with its scores and report, into a dataset repo."""
    from .trace_card import REDACTION, export_traces, make_trace_card

    push = Push(
        folder,
        repo_type="dataset",
        marker=REDACTION,
        owned=["blobs/*", "*_files/*", "*.jsonl", "report.*", "scores.*", "results.json"],
        **config.settings("traces"),
    )
    found = export_traces(config.source, folder)
    make_trace_card(found, config.repo).save(folder / "README.md")
    replaced = ", ".join(f"{count} x {kind}" for kind, count in found["replaced"].items()) or "nothing"
    unseen = sum(found["not_looked_into"].values())
    print(f"Redacted: {replaced}. Not looked into: {unseen} pictures and other binary files.")
    return push


def push_space(config: PushConfig, folder: Path) -> Push:
    """A Gradio Space that runs an agent of the Hub.

    Raises:
        InputError: when the source holds no agent.
    """
    if not has_file(config.source, AGENT_FILE):
        raise InputError(f"`{config.source}` holds no agent on the Hub: push the agent there first.")
    write_space(folder, config.source, title=config.repo.partition("/")[2])
    settings = config.settings(f"a Space for {config.source}")
    return Push(folder, repo_type="space", marker="app.py", space_sdk="gradio", **settings)


def write_space(folder: Path, agent_repo: str, title: str) -> None:
    """Write the files of a Space: a README with its metadata, an app of three lines, this package and its needs."""
    readme = render("hub_cards", "space.md", title=Markdown(title), agent=Markdown(agent_repo))
    write_atomic(folder / "README.md", readme)
    app = f'from t3_agents.commands.chat import build_app\n\n\nbuild_app("{agent_repo}").launch()\n'
    write_atomic(folder / "app.py", app)
    # The package comes along: no index may have this version of it.
    package = Path(t3_agents.__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    wanted = [Requirement(text) for text in requires("t3-agents") or []]
    extras = [{"extra": extra} for extra in ("", "app", "tools")]
    needed = [one for one in wanted if one.marker is None or any(one.marker.evaluate(extra) for extra in extras)]
    lines = sorted({f"{one.name}{one.specifier}" for one in needed})
    write_atomic(folder / "requirements.txt", "\n".join(lines) + "\n")


def collect(title: str, repo: str, repo_type: str, dataset: str | None) -> str:
    """Put a repo, its dataset and the paper into a collection of the user; made when missing.

    Returns:
        `str`: address of the collection.

    Raises:
        InputError: when the Hub refuses it.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(repo):
        collection = api.create_collection(title=title, exists_ok=True)
        items = [(repo, repo_type), ("2412.15606", "paper"), *([(dataset, "dataset")] if dataset else [])]
        for name, kind in items:
            api.add_collection_item(collection.slug, item_id=name, item_type=kind, exists_ok=True)
    return collection.url


def push(kind: Literal["agent", "report", "results", "space"], source: str | Path, repo: str, **options: Any) -> str:
    """Push to the Hub what `t3 push KIND SOURCE REPO` pushes.

    Args:
        kind (`str`): what the source is.
        source (`str` or `Path`), repo (`str`), options: as on the command line, see [`PushConfig`],
            [`PushAgentConfig`] and [`PushResultsConfig`].

    Returns:
        `str`: address of the commit or pull request; of the repo when nothing traveled.

    Raises:
        InputError: when there is nothing to push, or the Hub refuses it.
    """
    kinds = {
        "agent": (push_agent, PushAgentConfig),
        "report": (push_report, PushConfig),
        "results": (push_results, PushResultsConfig),
        "space": (push_space, PushConfig),
    }
    prepare, config = kinds[kind]
    return run_push(prepare, config(source=str(source), repo=repo, **options))


def run_push(prepare: Callable[[PushConfig, Path], Push], config: PushConfig) -> str:
    """Prepare a push in a scratch folder, list it, and carry it out unless it is a dry run.

    Args:
        prepare (`Callable`): fills a scratch folder and says where it goes, such as [`push_agent`].
        config ([`PushConfig`]): what to push where.

    Returns:
        `str`: see [`push`].

    Raises:
        InputError: see [`push`].
    """
    with scratch_folder() as scratch:
        push = prepare(config, Path(scratch))
        changes = push.plan()
        if config.dry_run:
            print(describe(changes))
            return f"{config.repo} (nothing was sent)"
        print(describe(changes).splitlines()[-1].replace(" would travel", ""))
        address = push.send(changes)
        if config.collection:
            print(collect(config.collection, config.repo, push.repo_type, config.dataset))
    return address


def _page(repo: str, path: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}/blob/main/{path}"


def agent(config: PushAgentConfig) -> int:
    """`t3 push agent SOURCE REPO`."""
    return _main(push_agent, config)


def report(config: PushConfig) -> int:
    """`t3 push report SOURCE REPO`."""
    return _main(push_report, config)


def results(config: PushResultsConfig) -> int:
    """`t3 push results SOURCE REPO`."""
    return _main(push_results, config)


def space(config: PushConfig) -> int:
    """`t3 push space SOURCE REPO`."""
    return _main(push_space, config)


def _main(prepare: Callable[[PushConfig, Path], Push], config: PushConfig) -> int:
    print(run_push(prepare, config))
    return 0
