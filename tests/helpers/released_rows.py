"""The released sample, with small pictures where its rows say they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers import DATA


SAMPLE = DATA / "mat_released_sample.json"


def released_rows() -> list[dict[str, Any]]:
    return json.loads(SAMPLE.read_text(encoding="utf-8"))


def picture_paths(row: dict[str, Any]) -> list[str]:
    return [row["image"]] if isinstance(row["image"], str) else list(row["image"].values())


def write_pictures(folder: Path) -> Path:
    """One picture for every path of the sample, each of its own."""
    for number, path in enumerate(path for row in released_rows() for path in picture_paths(row)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), (number, 9, 9)).save(target, format="PNG")
    return folder


def pack(folder: Path, archive: Path, skip: int = 0) -> Path:
    """A zip archive of a folder, whose names begin `skip` folders further down."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target.write(path, "/".join(path.relative_to(folder).parts[skip:]))
    return archive
