"""What is counted while a dataset is exported: plain data, from which its card is written."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from t3_agents.evaluation.published import beside_paper
from t3_agents.media import decode_image, encode_image
from t3_agents.storage import write_atomic


STATISTICS_FILE = "statistics.json"
NUM_EXAMPLES = 3
EXAMPLE_PIXELS = 512
# Quoted words, lists and numbers in a reason: without them the same reason reads the same in every row.
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|\d[\d.,]*")


def without_values(reason: str) -> str:
    """A reason as it can be counted: what differs from row to row is replaced by an ellipsis."""
    return _VALUE.sub("…", reason)


class Statistics:
    """Counts for a dataset card, gathered row by row. All of them are plain data."""

    def __init__(self):
        self.rows = 0
        self._configs: dict[str, dict[str, Any]] = {}
        self._splits: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("file_types", "tools", "domains", "steps", "images", "origins", "teachers")
        }
        self._counts |= {name: Counter() for name in ("controllers", "prompts", "packages", "licenses", "reasons")}
        self._families: dict[str, Counter[str]] = {}
        self._verdicts: dict[str, Counter[str]] = {}
        self._characters: Counter[str] = Counter()
        self._actions: Counter[str] = Counter()
        self._rejected = 0
        self._sources: dict[str, Counter[str]] = {}
        self._seen: dict[str, dict[str, set[bytes]]] = {"queries": {}, "pictures": {}}
        self._examples: list[dict[str, Any]] = []
        self._example_pictures: list[bytes] = []

    def add(self, split: str, row: dict[str, Any], task: dict[str, Any]) -> None:
        """Count a kept row.

        Args:
            split (`str`): its split.
            row (`dict`): a row of the config `default`.
            task (`dict`): the record of its task.
        """
        self.rows += 1
        self._splits[split] += 1
        counts, provenance, origin = self._counts, row["provenance"], task["origin"]
        counts["file_types"].update(file_type(file["path"]) for file in task["files"])
        counts["tools"].update(tool for step in row["steps"] for tool in step["tools"])
        counts["domains"][row["domain"] or "others"] += 1
        counts["steps"][str(row["num_steps"])] += 1
        counts["images"][str(len(row["images"]))] += 1
        if "family" in origin:
            self._families.setdefault(str(origin["family"]), Counter())[split] += 1
        for column, key, where in (
            ("origins", "source", origin),
            ("licenses", "license", origin),
            ("teachers", "teacher", provenance),
            ("controllers", "controller", provenance),
            ("prompts", "prompt", provenance),
            ("packages", "package_version", provenance),
        ):
            if where.get(key):
                counts[column][_label(where[key])] += 1
        source = _label(origin.get("source") or origin.get("family") or "not named")
        if row["images"]:
            license = _label(origin.get("license") or "not named")
            self._sources.setdefault(source, Counter())[license] += len(row["images"])
        self._add_content(split, row)
        self._add_example(split, row, source)
        self._add_verdicts(row["verification"])
        for step in row["steps"]:
            self._actions["failed" if step["error"] else "ran"] += 1
        for message in row["messages"]:
            kind = "system" if message["role"] == "system" else "rest"
            self._characters[kind] += sum(len(part.get("text") or "") for part in message["content"])

    def add_rejected(self, rejected: dict[str, Any]) -> None:
        """Count a row that was not kept: `{"reasons": list[str], "trajectory": record}`."""
        self._rejected += 1
        self._counts["reasons"].update({without_values(reason) for reason in rejected["reasons"]})
        self._add_verdicts((rejected.get("trajectory") or {}).get("verification") or {})

    def add_files(self, config: str, split: str, shards: Sequence[Any]) -> None:
        """Note the Parquet files of a split, as the export indexes them; a split without rows has none."""
        if shards:
            self._configs.setdefault(config, {})[split] = {
                "rows": self._splits[split],
                "bytes": sum(shard.num_bytes for shard in shards),
                "download_bytes": sum(shard.size for shard in shards),
                "files": [shard.path for shard in shards],
            }

    def write_examples(self, folder: Path) -> None:
        """Write the pictures of the examples, made small, to `examples/`."""
        for example, picture in zip(self._examples, self._example_pictures, strict=True):
            write_atomic(folder / example["picture"], picture)

    def _add_content(self, split: str, row: dict[str, Any]) -> None:
        """Remember what a row asks and shows, to find it again in other splits."""
        query = " ".join(row["query"].lower().split()).encode()
        content = {"queries": [query], "pictures": [image["bytes"] for image in row["images"]]}
        for name, values in content.items():
            digests = self._seen[name].setdefault(split, set())
            digests.update(hashlib.sha256(value).digest()[:16] for value in values)

    def _overlaps(self) -> dict[str, dict[str, dict[str, int]]]:
        """For each split but train: how many different queries and pictures it has, and how many train has too."""
        return {
            name: {
                split: {"all": len(digests), "in_train": len(digests & splits.get("train", set()))}
                for split, digests in splits.items()
                if split != "train"
            }
            for name, splits in self._seen.items()
        }

    def _add_example(self, split: str, row: dict[str, Any], source: str) -> None:
        """The first rows with a picture, of different sources."""
        known = {example["source"] for example in self._examples}
        if split != "train" or not row["images"] or source in known or len(self._examples) == NUM_EXAMPLES:
            return
        picture = decode_image(row["images"][0]["bytes"], f"a picture of row {row['id']}")
        picture.thumbnail((EXAMPLE_PIXELS, EXAMPLE_PIXELS))
        self._example_pictures.append(encode_image(picture))
        self._examples.append({
            "id": row["id"],
            "source": source,
            "picture": f"examples/{len(self._examples)}.png",
            "query": row["query"],
            "answer": row["answer"],
            "steps": [{key: step[key] for key in ("thought", "code", "observation")} for step in row["steps"]],
        })  # fmt: skip

    def _add_verdicts(self, verification: dict[str, Any]) -> None:
        for name, verdict in verification.items():
            passed = isinstance(verdict, dict) and verdict.get("passed")
            self._verdicts.setdefault(name, Counter())["passed" if passed else "failed"] += 1

    def to_dict(self) -> dict[str, Any]:
        """The statistics as they are written to `statistics.json`."""
        from .mm_traj import CITATION, make_features

        return {
            "format": "t3-dataset-statistics/1",
            "rows": self.rows,
            "rejected": self._rejected,
            "splits": dict(self._splits),
            "configs": self._configs,
            "hub_configs": [
                {
                    "config_name": name,
                    "data_files": [{"split": split, "path": part["files"]} for split, part in splits.items()],
                    **({"default": True} if name == "default" else {}),
                }
                for name, splits in self._configs.items()
            ],
            "dataset_info": [self._info(name, splits) for name, splits in self._configs.items()],
            "sources": {name: dict(counts) for name, counts in sorted(self._sources.items())},
            "overlaps": self._overlaps(),
            "examples": self._examples,
            "columns": {name: {c: _type_name(f) for c, f in make_features(name).items()} for name in self._configs},
            # Most frequent first, so that a card can show the head of a long list.
            **{
                name: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
                for name, counts in self._counts.items()
            },
            "families": {name: dict(counts) for name, counts in sorted(self._families.items())},
            "verdicts": {
                name: {"passed": verdict["passed"], "failed": verdict["failed"]}
                for name, verdict in sorted(self._verdicts.items())
            },
            "distances": {
                axis: found.distance and round(found.distance, 4) for axis, found in beside_paper(self._counts).items()
            },
            "actions": {"ran": self._actions["ran"], "failed": self._actions["failed"]},
            "characters": {name: self._characters[name] / max(self.rows, 1) for name in ("system", "rest")},
            "citation": CITATION,
        }

    def _info(self, config: str, splits: dict[str, Any]) -> dict[str, Any]:
        """The Hub's `dataset_info` of a config: columns, and rows and bytes of its splits."""
        from datasets import DatasetInfo, SplitDict, SplitInfo

        from .mm_traj import make_features

        info = DatasetInfo(
            features=make_features(config),
            config_name=config,
            splits=SplitDict({name: SplitInfo(name, part["bytes"], part["rows"]) for name, part in splits.items()}),
            download_size=sum(part["download_bytes"] for part in splits.values()),
            dataset_size=sum(part["bytes"] for part in splits.values()),
        )
        return dict(info._to_yaml_dict())


def file_type(path: str) -> str:
    """The type of a file as the counts name it: its suffix, `jpg` for every JPEG."""
    suffix = PurePosixPath(path).suffix.lower()[1:]
    return {"jpeg": "jpg", "": "none"}.get(suffix, suffix)


def _label(value: Any) -> str:
    """A provenance value in one line: a controller may be a name or an object."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_label(entry)}" for key, entry in sorted(value.items()) if entry is not None)
    return str(value)


def _type_name(feature: Any) -> str:
    """A feature as one writes it in prose, such as `list<{path: string, bytes: binary}>`."""
    if isinstance(feature, dict):
        return "{" + ", ".join(f"{name}: {_type_name(inner)}" for name, inner in feature.items()) + "}"
    if type(feature).__name__ == "Value":
        return feature.dtype
    if type(feature).__name__ in ("List", "Sequence"):
        return f"list<{_type_name(feature.feature)}>"
    return type(feature).__name__.lower()
