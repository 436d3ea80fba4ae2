"""Finding and replacing what should not leave a machine: secrets, paths of the machine, e-mail addresses.

Rules find what has a known form; a secret without one is found when it is the value of an environment variable that is
named like one. A report counts what was replaced, by kind, and never says the values.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..verifiers import MACHINE_PATHS


SECRETS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)),
    ("Hugging Face token", re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{16,}\b")),
    ("GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})\b")),
    ("OpenAI or Anthropic key", re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")),
    ("AWS key", re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|(?i:aws_secret_access_key)\W{1,4}[A-Za-z0-9/+=]{40}")),
    ("Google key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("JSON web token", re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")),
)
LIKELY: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("bearer token", re.compile(r"(?i:\bbearer)\s+[A-Za-z0-9._~+/-]{16,}=*")),
    ("password", re.compile(r"(?i:\b(password|passwd|api_?key|secret_?key))[\"']?\s*[=:]\s*[\"']?[^\s\"',;]{8,}")),
)
PERSONAL: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail address", re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+\b")),
    *MACHINE_PATHS.items(),
)
_NAMES = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL)", re.I)


class Redactor:
    """Replaces what the rules find and counts it.

    Args:
        environment (`Mapping[str, str]`, *optional*): variables whose values are secrets when their names say so; by
            default those of the process, and the token that `hf auth login` stored.
        personal (`bool`, *optional*, defaults to `True`): paths and e-mail addresses too, and words after
            `password` and the like, which are not always secrets.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, personal: bool = True):
        self.rules = (*SECRETS, *LIKELY, *PERSONAL) if personal else SECRETS
        self.counts: Counter[str] = Counter()
        if environment is None:
            from huggingface_hub import get_token

            environment = {**os.environ, "STORED_TOKEN": get_token() or ""}
        values = {value for name, value in environment.items() if _NAMES.search(name) and len(value) >= 8}
        self._values = sorted(values, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text with `[kind]` in place of what was found."""
        for value in self._values:
            if value in text:
                self.counts["secret of the environment"] += text.count(value)
                text = text.replace(value, "[secret of the environment]")
        for kind, pattern in self.rules:
            text, number = pattern.subn(f"[{kind}]", text)
            self.counts[kind] += number
        self.counts += Counter()  # drops zeros
        return text

    def record(self, value: Any) -> Any:
        """JSON-safe data with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.record(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.record(inner) for inner in value]
        return value

    def found_in(self, path: Path) -> str | None:
        """The kind of the first thing that the rules find in a file: text, or the texts of a Parquet file."""
        before = self.counts
        self.counts = Counter()
        try:
            for text in _texts_of(path):
                self.text(text)
                if self.counts:
                    return next(iter(self.counts))
        finally:
            self.counts = before
        return None


def _texts_of(path: Path) -> Any:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(path)
        for number in range(file.num_row_groups):
            # Pictures are the bulk of a row and hold no text that can be looked at.
            columns = [name for name in file.schema_arrow.names if name != "images"]
            for row in file.read_row_group(number, columns=columns).to_pylist():
                yield "\n".join(_strings(row))
        return
    data = path.read_bytes() if path.suffix != ".safetensors" else b""
    if b"\0" not in data[:8192]:
        yield data.decode("utf-8", errors="replace")


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for entry in inner for text in _strings(entry)]
