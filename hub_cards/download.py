"""Fetch an agent, dataset or report from the Hub into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from t3_agents.errors import InputError, RunFolderError
from t3_agents.hub.repos import hub_errors
from t3_agents.hub.safe_loading import check_listing
from t3_agents.options import Positional


@dataclass
class PullConfig:
    """Fetch a repo from the Hub. Code and pickle files are left there.

    Args:
        repo (`str`): `user/name`.
        folder (`str`): where to put it; a download that was stopped resumes.
        revision (`str`, *optional*): branch, tag or commit.
        type (`str`, *optional*): `model` or `dataset`, when the name is that of both.
    """

    repo: Positional[str]
    folder: Positional[str]
    revision: str | None = None
    type: Literal["model", "dataset"] | None = None


# Everything that this package writes, and nothing that runs.
_FILES = ["*.json", "*.jsonl", "*.safetensors", "*.jinja", "*.txt", "*.md", "*.png", "*.parquet", "*.yaml", "*.html"]
_MARKERS = ("t3_agent.json", "config.json", "adapter_config.json", "statistics.json", "redaction.json")


def pull(config: PullConfig) -> Path:
    """Download a repo.

    Args:
        config ([`PullConfig`]): what to fetch where.

    Raises:
        InputError: when there is no such repo, or a file in it leaves its folder.
        RunFolderError: when the folder holds something else.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    folder = Path(config.folder)
    if (
        folder.exists()
        and any(folder.iterdir())
        and not any((folder / name).exists() for name in (".cache", *_MARKERS))
    ):
        raise RunFolderError(f"{folder} is not empty: choose another folder.")
    with hub_errors(config.repo):
        api = HfApi()
        kinds = [kind for kind in ("model", "dataset") if api.repo_exists(config.repo, repo_type=kind)]
        if config.type:
            kinds = [kind for kind in kinds if kind == config.type]
        if len(kinds) > 1:
            raise InputError(f"`{config.repo}` is a model and a dataset: add `--type model` or `--type dataset`.")
        if not kinds:
            raise InputError(f"There is no repo `{config.repo}`, or it is private and the token may not read it.")
        arguments = {"repo_type": kinds[0], "revision": config.revision}
        files = [f for f in api.list_repo_tree(config.repo, recursive=True, **arguments) if isinstance(f, RepoFile)]
        check_listing(config.repo, {file.path: file.size for file in files})
        patterns = [*_FILES, "blobs/*"]
        snapshot_download(config.repo, local_dir=folder, allow_patterns=patterns, **arguments)
    return folder


def main(config: PullConfig) -> int:
    """`t3 pull`: download, print the folder."""
    print(pull(config))
    return 0
