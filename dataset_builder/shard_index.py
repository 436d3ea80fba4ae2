"""Which rows are in which Parquet file of an exported dataset: a grown run adds files and leaves the others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from t3_agents.errors import InputError
from t3_agents.hub.safe_loading import strict_json
from t3_agents.storage import require


INDEX_FILE = "shards.json"
FORMAT = "t3-shards/1"
_PATH = re.compile(r"(data|tasks)/(train|validation|test)-\d{5}-[0-9a-f]{16}\.parquet")


@dataclass
class IndexedShard:
    """One Parquet file.

    Args:
        config (`str`), split (`str`): what it belongs to.
        path (`str`): in the repository.
        sha256 (`str`): of its content.
        size (`int`): bytes of the file.
        num_bytes (`int`): bytes of its rows before compression.
        rows (`list[tuple[str, str]]`): id of each row and the digest of its record, see [`digest_of`].
    """

    config: str
    split: str
    path: str = ""
    sha256: str = ""
    size: int = 0
    num_bytes: int = 0
    rows: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class ShardIndex:
    """What `shards.json` says.

    Args:
        shards (`list[IndexedShard]`): in the order in which they are read.
    """

    shards: list[IndexedShard] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, "shards": [asdict(shard) for shard in self.shards]}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ShardIndex:
        """Read the content of `shards.json`.

        Raises:
            InputError: when it is not such an index.
        """
        record = strict_json(text, INDEX_FILE)
        if require(record, "format", str, INDEX_FILE) != FORMAT:
            raise InputError(f"{INDEX_FILE} has format `{record['format']}`; this version reads `{FORMAT}`.")
        kinds = {"config": str, "split": str, "path": str, "sha256": str, "size": int, "num_bytes": int, "rows": list}
        shards = []
        for entry in require(record, "shards", list, INDEX_FILE):
            values = {name: require(entry, name, kind, INDEX_FILE) for name, kind in kinds.items()}
            values["rows"] = [(str(name), str(digest)) for name, digest in values["rows"]]
            if not _PATH.fullmatch(values["path"]):
                raise InputError(f"{INDEX_FILE} names `{values['path'][:80]}`, which is no file of such a dataset.")
            shards.append(IndexedShard(**values))
        return cls(shards)

    def only(self, digests: Container[tuple[str, str]]) -> ShardIndex:
        """The index without files that are not (any more) in the repository.

        Args:
            digests (`Container[tuple[str, str]]`): path and SHA-256 of the files that are there.
        """
        return ShardIndex([shard for shard in self.shards if (shard.path, shard.sha256) in digests])

    def kept(self, config: str, split: str, there: Mapping[str, str]) -> list[IndexedShard]:
        """Files of a split whose rows are all still there, unchanged.

        Args:
            config (`str`), split (`str`): which files.
            there (`Mapping[str, str]`): digest of the record by id.
        """
        return [
            shard
            for shard in self.shards
            if (shard.config, shard.split) == (config, split)
            and all(there.get(name) == digest for name, digest in shard.rows)
        ]

    def next_number(self, config: str, split: str) -> int:
        """A running number that no file of a split has had in this index."""
        names = [shard.path for shard in self.shards if (shard.config, shard.split) == (config, split)]
        return 1 + max((int(name.rsplit("-", 2)[1]) for name in names), default=-1)


def digest_of(record: dict[str, Any]) -> str:
    """A short digest of a trajectory record, which names its files by their digests."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
