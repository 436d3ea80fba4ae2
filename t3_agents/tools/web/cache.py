"""What the search tool got from the web, kept on disk, so that a run can be repeated without a network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError
from t3_agents.storage import sha256_of, write_atomic


_FORMAT = "t3-web/1"


class WebCache:
    """JSON values by key, one file each. A file that cannot be read counts as missing.

    Args:
        folder (`str` or `Path`): where the files lie; made at the first entry.
        max_age (`float`, *optional*, defaults to 86400): seconds after which a value is fetched again.
        cache_only (`bool`, *optional*, defaults to `False`): fetch nothing; kept values do not age.
    """

    def __init__(self, folder: str | Path, max_age: float = 86400, cache_only: bool = False):
        self.folder = Path(folder).expanduser()
        self.max_age = max_age
        self.cache_only = cache_only

    def get(self, key: tuple[str, ...], fetch: Callable[[], Any]) -> Any:
        """The value kept for a key, else that of `fetch()`, which is then kept.

        Args:
            key (`tuple[str, ...]`): for example `("page", url)`. It must not hold a secret: it is written to the file.
            fetch (`Callable`): returns a JSON-safe value; what it raises reaches the caller and nothing is kept.

        Raises:
            InputError: when nothing is kept and `cache_only` is set.
        """
        path = self.folder / f"{sha256_of(json.dumps(key).encode())}.json"
        entry = self._read(path, key)
        # An entry of the future was written before the clock was set back: its age is not known.
        if entry is not None and (self.cache_only or 0 <= time.time() - entry["created"] < self.max_age):
            return entry["value"]
        if self.cache_only:
            raise InputError(f"{key[-1]!r} is not in the cache, and this run fetches nothing from the web.")
        value = fetch()
        entry = {"format": _FORMAT, "key": list(key), "created": time.time(), "value": value}
        write_atomic(path, json.dumps(entry, ensure_ascii=False))
        return value

    def _read(self, path: Path, key: tuple[str, ...]) -> dict[str, Any] | None:
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = isinstance(entry, dict) and entry.get("format") == _FORMAT and entry.get("key") == list(key)
        return entry if known and isinstance(entry.get("created"), (int, float)) and "value" in entry else None
