"""A dataset on its way to the Hub: a finished folder as it is, or a run, of which only new files travel."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from hub_cards.publish import PushConfig, run_push
from t3_agents.errors import InputError
from t3_agents.hub.repos import hub_errors
from t3_agents.hub.upload import Push

from .export import INDEX_FILE, ShardIndex
from .statistics import STATISTICS_FILE


OWNED = ["data/*.parquet", "tasks/*.parquet", "plots/*.png", "examples/*.png"]
"""Files of an earlier push that are deleted when they are no longer part of the dataset; others in the repo stay."""

_LOCAL = re.compile(r'load_dataset\((?:os\.path\.abspath\("[^"]*"\)|"/absolute/path/to/this/folder")')


@dataclass(kw_only=True)
class PushDatasetConfig(PushConfig):
    """Push a run or an exported dataset to the Hub.

    Args:
        license (`str`, *optional*, defaults to `"apache-2.0"`): Hub id of the license, for the card that a run gets.
    """

    license: str = "apache-2.0"


def push_dataset(config: PushDatasetConfig, folder: Path) -> Push:
    """Prepare the push of a dataset.

    A run folder (with `shards/`) is exported beside what the repo has already: files whose rows are unchanged stay,
    rows that are new go to new files, rows that are gone from the run leave the dataset.

    Args:
        config ([`PushDatasetConfig`]): what to push where.
        folder (`Path`): scratch folder.

    Raises:
        InputError: when the source is neither a run nor a dataset.
    """
    from hub_cards.dataset_card import write_card

    source = Path(config.source)
    settings = {"repo_type": "dataset", "marker": STATISTICS_FILE, "owned": OWNED, **config.settings("dataset")}
    push = Push(folder / "dataset", **settings)
    if (source / "shards").is_dir():
        from .export import export_dataset

        previous = _index_in(push)
        name = config.repo.partition("/")[2]
        export_dataset(
            source,
            push.folder,
            finish=lambda place, found: write_card(place, found, config.repo, name=name, license=config.license),
            previous=previous,
        )
        index = ShardIndex.from_json((push.folder / INDEX_FILE).read_text())
        push.kept = {shard.path for shard in index.shards if not (push.folder / shard.path).exists()}
        return push
    for place in (source, source / "dataset"):
        if (place / STATISTICS_FILE).is_file():
            shutil.copytree(place, push.folder)
            # Its card says how it is loaded from where it was made.
            readme = push.folder / "README.md"
            readme.write_text(_LOCAL.sub(f'load_dataset("{config.repo}"', readme.read_text("utf-8")), "utf-8")
            return push
    raise InputError(f"{source} is neither a run (no shards/) nor a dataset (no {STATISTICS_FILE}).")


def _index_in(push: Push) -> ShardIndex:
    """The index in the repo, without files that are not there as it says."""
    from huggingface_hub import hf_hub_download

    remote = push.remote()
    if INDEX_FILE not in remote:
        return ShardIndex()
    with hub_errors(push.repo_id):
        path = hf_hub_download(push.repo_id, INDEX_FILE, repo_type="dataset", revision=push.head, token=push.token)
    index = ShardIndex.from_json(Path(path).read_text())
    return index.only({(name, entry.lfs.sha256) for name, entry in remote.items() if entry.lfs})


def main(config: PushDatasetConfig) -> int:
    """`t3 push dataset`: a command of its own, since the cards do not know the dataset's files."""
    print(run_push(push_dataset, config))
    return 0
