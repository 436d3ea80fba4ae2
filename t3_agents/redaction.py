"""Finding and replacing what should not leave a machine: secrets, paths of the machine, personal data.

Forms of tokens are in `secret_rules.toml`: own ones, and the rules of gitleaks. What has no known form is found by the
words before it, by its entropy, or as the value of an environment variable that is named like a secret. A report
counts what was replaced, by kind, and never says the values.
"""

from __future__ import annotations

import codecs
import functools
import importlib.resources
import math
import os
import re
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .verifiers import MACHINE_PATHS


RULES_FILE = "secret_rules.toml"
_NAME = (
    r"(?:pass(?:w(?:or)?d|wd|phrase)?|pwd|secret|token|credentials?|auth|api[_-]?key|"
    r"(?:access|account|auth|client|encryption|master|private|secret|shared|signing)[_-]?key)"
)
# What comes between such a name and its value in code, JSON, YAML, headers and shells.
_IS = r"[\"']?\s*(?:=>|:=|[=:])\s*"


class Rule(NamedTuple):
    """A form of what should not leave a machine.

    Args:
        kind (`str`): what it is, for the report.
        pattern (`re.Pattern`): its form. The first group that matched, or else the whole match, is what is replaced.
        keywords (`tuple[str, ...]`): a text without any of these, in lower case, is not searched.
        is_secret (`Callable`): looks at what matched: the entropy of a key, the check digit of a card.
    """

    kind: str
    pattern: re.Pattern[str]
    keywords: tuple[str, ...] = ()
    is_secret: Callable[[str], bool] = bool

    def replace(self, text: str) -> tuple[str, int]:
        """The text with `[kind]` in place of what was found, and how often."""
        count = 0

        def mark(match: re.Match[str]) -> str:
            nonlocal count
            group = next((n for n, value in enumerate(match.groups(), 1) if value), 0)
            if not self.is_secret(match[group]):
                return match[0]
            count += 1
            start, end = match.start(group) - match.start(), match.end(group) - match.start()
            return f"{match[0][:start]}[{self.kind}]{match[0][end:]}"

        return self.pattern.sub(mark, text), count


def entropy(text: str) -> float:
    """Shannon entropy of the letters of a text, bits a letter."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _is_random(text: str) -> bool:
    """Whether a value after the name of a secret is one: neither a word, a name nor code."""
    return len(text) >= 8 and entropy(text) > 2.8 and (bool(re.search(r"\d", text)) or entropy(text) > 3.5)


def _is_unknown_key(text: str) -> bool:
    """Whether letters are as mixed as those of a key: digests and ids of one case are not."""
    kinds = (r"[a-z]", r"[A-Z]", r"\d")
    return all(len(re.findall(kind, text)) > len(text) / 12 for kind in kinds) and entropy(text) > 4.3


def _is_card(text: str) -> bool:
    """Luhn's check of the digits (ISO/IEC 7812)."""
    digits = [int(d) for d in text if d.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """The check digits of an IBAN (ISO 13616)."""
    letters = text.replace(" ", "")
    return 15 <= len(letters) <= 34 and int("".join(str(int(c, 36)) for c in letters[4:] + letters[:4])) % 97 == 1


LIKELY = (
    Rule(
        "authorization",
        re.compile(r"(?i:\b(?:bearer|basic|token|digest|apikey))\s+([A-Za-z0-9._~+/-]{16,}=*)"),
        is_secret=_is_random,
    ),
    Rule(
        "cookie",
        re.compile(r"(?i:\b(?:set-)?cookie)[\"']?\s*[:=]\s*[\"']?([^\s\"']+(?:;\s*[\w.-]+=[^\s;\"']+)*)"),
    ),
    Rule(
        "password", re.compile(rf"(?i:[\w.-]*(?:password|passwd|passphrase)){_IS}[\"']?([^\s\"',;()\[\]{{}}]{{8,}})")
    ),
    Rule(
        "secret",
        re.compile(rf"(?i:[\w.-]*{_NAME}[\w.-]*){_IS}[\"']([^\"'\n]{{8,}})[\"']"),
        is_secret=_is_random,
    ),
    Rule(
        "secret",
        re.compile(rf"(?i:[\w.-]*{_NAME}){_IS}([^\s\"',;()\[\]{{}}]{{8,}})"),
        is_secret=_is_random,
    ),
    Rule(
        "unknown key",
        re.compile(r"(?<![\w+/=.%-])([A-Za-z0-9_-]{32,}|[A-Za-z0-9+/]{32,}={0,2})(?![\w+/-])"),
        is_secret=_is_unknown_key,
    ),
)
PERSONAL = (
    Rule("e-mail address", re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\b")),
    Rule("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), (), _is_iban),
    Rule("card number", re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d){10,15}(?![\w.-])"), (), _is_card),
    Rule(
        "phone number",
        re.compile(r"(?<![\w+])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){2,4}(?!\w)"),
    ),
    Rule("social security number", re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")),
    *(Rule(kind, pattern) for kind, pattern in MACHINE_PATHS.items()),
)


@functools.cache
def _forms_of_tokens() -> tuple[Rule, ...]:
    """The rules of `secret_rules.toml`, own ones first."""
    text = importlib.resources.files("t3_agents").joinpath(RULES_FILE).read_text(encoding="utf-8")
    found = tomllib.loads(text)
    rules = [Rule(rule["id"], re.compile(rule["regex"])) for rule in found["own"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `[[` within a set of letters
        for rule in found["rules"]:
            least = rule.get("entropy", 0)
            pattern = re.compile(rule["regex"])
            rules.append(
                Rule(rule["id"], pattern, tuple(rule["keywords"]), lambda found, least=least: entropy(found) >= least)
            )
    return tuple(rules)


_NAMES = re.compile(
    r"TOKEN|SECRET|PASS(WORD|WD|PHRASE)?(_|$)|PWD(_|$)|_KEY(_|$)|APIKEY|CREDENTIAL|COOKIE|AUTH(_|$)|(_|^)PAT$|_URL$|_DSN$",
    re.I,
)


class Redactor:
    """Replaces what the rules find and counts it.

    Args:
        environment (`Mapping[str, str]`, *optional*): variables whose values are secrets when their names say so; by
            default those of the process, and the token that `hf auth login` stored.
        personal (`bool`, *optional*, defaults to `True`): paths and e-mail addresses too, and words after
            `password` and the like, which are not always secrets.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, personal: bool = True):
        self.rules = (*_forms_of_tokens(), *((*LIKELY, *PERSONAL) if personal else ()))
        self.counts: Counter[str] = Counter()
        if environment is None:
            from huggingface_hub import get_token

            environment = {**os.environ, "STORED_TOKEN": get_token() or ""}
        values = {value for name, value in environment.items() if _NAMES.search(name) and len(value) >= 8}
        # The address of a server is no secret without a password in it; a folder or a plain word is none either.
        values = {value for value in values if "/" not in value or "@" in value or entropy(value) > 4}
        self._values = sorted(values, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text with `[kind]` in place of what was found."""
        for value in self._values:
            if value in text:
                self.counts["secret of the environment"] += text.count(value)
                text = text.replace(value, "[secret of the environment]")
        lowered = text.lower()
        for rule in self.rules:
            if not rule.keywords or any(word in lowered for word in rule.keywords):
                text, number = rule.replace(text)
                self.counts[rule.kind] += number
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
    if (charset := charset_of(data)) is not None:
        yield data.decode(charset, errors="replace")


def charset_of(data: bytes) -> str | None:
    """Charset of a text: UTF-8, UTF-16 or UTF-32; `None` for bytes that are no text."""
    for mark, charset in (
        *((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
        *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
    ):
        if data.startswith(mark):
            return charset
    head = data[:8192]
    if b"\0" not in head:
        return "utf-8"
    for first, charset in ((0, "utf-16-be"), (1, "utf-16-le")):
        if head[first::2].count(0) > 0.4 * len(head) and not head[1 - first :: 2].count(0):
            return charset
    return None


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for entry in inner for text in _strings(entry)]
