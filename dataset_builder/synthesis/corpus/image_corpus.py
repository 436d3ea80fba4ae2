"""Pictures by what they show: the nearest caption of a captioned image corpus."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from t3_agents.errors import InputError, MissingExtraError
from t3_agents.media import PICTURES, HugePicture, decode_image, encode_image, kind_of, open_picture
from t3_agents.storage import scratch_folder, write_atomic


if TYPE_CHECKING:
    import datasets

    from .embedding import TextEmbedding

FORMAT = "t3-image-corpus/1"
MAX_PIXELS = 2**24
"""Larger pictures of a corpus are passed over."""

_BATCH = 256
_NEIGHBORS = 8
_INDEX = "captions"


@dataclass(frozen=True)
class FoundPicture:
    """A picture of the corpus.

    Args:
        data (`bytes`): its content, in the format that was asked for.
        caption (`str`): its caption.
        row (`int`): its row in the corpus.
        likeness (`float`): cosine similarity of the caption and what was asked for.
    """

    data: bytes
    caption: str
    row: int
    likeness: float


class ImageCorpus:
    """A dataset of captioned pictures with an index of the captions, see [`load`]. Safe to use from many threads.

    Args:
        name (`str`): what a record says of where a picture comes from.
        pictures ([`~datasets.Dataset`]): the corpus, pictures not decoded.
        image_column (`str`): its column of pictures.
        captions ([`~datasets.Dataset`]): columns `row` and `caption`, with the FAISS index `captions`.
        embed ([`TextEmbedding`]): the embedding that the index was built with.
        skipped (`dict[str, int]`): rows that cannot be used, by reason.
    """

    def __init__(
        self,
        name: str,
        pictures: datasets.Dataset,
        image_column: str,
        captions: datasets.Dataset,
        embed: TextEmbedding,
        skipped: dict[str, int],
    ):
        self.name = name
        self.skipped = skipped
        self._pictures = pictures
        self._image_column = image_column
        self._captions = captions
        self._embed = embed

    def __len__(self) -> int:
        return len(self._captions)

    @classmethod
    def load(
        cls,
        place: str | None,
        embed: TextEmbedding,
        cache: str | Path,
        image_column: str = "image",
        caption_column: str = "caption",
    ) -> ImageCorpus:
        """Load a corpus with its index, which is built at the first call and kept in `cache`.

        Args:
            place (`str`, *optional*): folder of [`~datasets.Dataset.save_to_disk`], or what `datasets.load_dataset`
                takes. By default a small corpus that this package draws, which needs no network.
            embed ([`TextEmbedding`]): embedding of captions and descriptions.
            cache (`str` or `Path`): folder for indexes.
            image_column (`str`, *optional*, defaults to `"image"`): column with pictures.
            caption_column (`str`, *optional*, defaults to `"caption"`): column with captions.

        Raises:
            MissingExtraError: when FAISS is not installed.
            InputError: when the dataset cannot be loaded, lacks a column, or no row of it can be used.
        """
        if place is None:
            from .drawn_pictures import drawn_corpus

            with _without_bars():
                drawn = drawn_corpus(Path(cache))
            return cls.from_dataset(drawn, "drawn", embed, cache)
        return cls.from_dataset(_load(place), Path(place).name, embed, cache, image_column, caption_column)

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        name: str,
        embed: TextEmbedding,
        cache: str | Path,
        image_column: str = "image",
        caption_column: str = "caption",
    ) -> ImageCorpus:
        """The same for a dataset that is loaded already."""
        if importlib.util.find_spec("faiss") is None:
            raise MissingExtraError("faiss-cpu", "synthesis", "Finding pictures by their captions")
        import datasets

        for column in (image_column, caption_column):
            if column not in dataset.column_names:
                raise InputError(
                    f"The image corpus has no column `{column}`; it has {', '.join(dataset.column_names)}: say which "
                    "to use."
                )
        if not isinstance(dataset.features[image_column], datasets.Image):
            raise InputError(f"The column `{image_column}` of the image corpus holds no pictures.")
        pictures = dataset.cast_column(image_column, datasets.Image(decode=False))
        key = f"{FORMAT}\0{dataset._fingerprint}\0{len(dataset)}\0{image_column}\0{caption_column}\0{embed.name}"
        folder = Path(cache) / f"images-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if not folder.is_dir():
            with _without_bars():
                _build(pictures, image_column, caption_column, embed, folder)
        captions = datasets.load_from_disk(str(folder / "captions"))
        captions.load_faiss_index(_INDEX, str(folder / "captions.faiss"))
        skipped = json.loads((folder / "skipped.json").read_text(encoding="utf-8"))
        return cls(name, pictures, image_column, captions, embed, skipped)

    def nearest(self, description: str, kind: str) -> FoundPicture | None:
        """The picture with the nearest caption that can be opened.

        Args:
            description (`str`): what it should show.
            kind (`str`): `jpg` or `png`; a picture of another format is saved anew.

        Returns:
            [`FoundPicture`], or `None` when none of the nearest can be opened.
        """
        query = self._embed([description])[0]
        scores, found = self._captions.search(_INDEX, query, k=min(_NEIGHBORS, len(self)))
        for likeness, index in zip(scores, found, strict=True):
            entry = self._captions[int(index)]
            stored = self._pictures[entry["row"]][self._image_column]
            try:
                data = _as_kind(_bytes_of(stored), kind)
            except InputError:  # damaged behind a sound header: the next nearest takes its place
                continue
            return FoundPicture(data, entry["caption"], entry["row"], float(likeness))
        return None


@contextmanager
def _without_bars() -> Iterator[None]:
    """A run shows its own progress, which the bars of `datasets` would break up."""
    import datasets

    were_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.enable_progress_bars()


def _load(place: str) -> datasets.Dataset:
    import datasets

    try:
        if (Path(place) / "dataset_info.json").is_file():
            return datasets.load_from_disk(place)
        return datasets.load_dataset(place, split="train")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"The image corpus `{place}` cannot be loaded: {str(error).splitlines()[0]}") from error


def _build(pictures: Any, image_column: str, caption_column: str, embed: TextEmbedding, folder: Path) -> None:
    """Check every row, embed the captions and save the index beside a list of the rows that are in it."""
    import datasets
    import faiss

    Image.init()  # registers the formats that rows are opened with
    rows: list[int] = []
    captions: list[str] = []
    vectors: list[np.ndarray] = []
    skipped: Counter[str] = Counter()
    for start in range(0, len(pictures), _BATCH):
        batch = pictures[start : start + _BATCH]
        usable = []
        for number, (stored, caption) in enumerate(zip(batch[image_column], batch[caption_column], strict=True)):
            problem = _problem(stored, caption)
            if problem:
                skipped[problem] += 1
            else:
                usable.append((start + number, " ".join(caption.split())))
        if usable:
            rows += [row for row, _ in usable]
            captions += [caption for _, caption in usable]
            vectors.append(embed([caption for _, caption in usable]))
    if not rows:
        raise InputError(f"No row of the image corpus can be used: {dict(skipped) or 'it is empty'}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent, ".building-") as building:
        index = datasets.Dataset.from_dict({"row": rows, "caption": captions})
        index.save_to_disk(str(Path(building, "captions")))
        # Vectors have length 1, so the inner product is the cosine.
        index.add_faiss_index_from_external_arrays(
            np.concatenate(vectors), _INDEX, metric_type=faiss.METRIC_INNER_PRODUCT
        )
        index.save_faiss_index(_INDEX, str(Path(building, "captions.faiss")))
        write_atomic(Path(building, "skipped.json"), json.dumps(dict(skipped)))
        try:
            os.rename(building, folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
        else:
            # What the context manager is to delete.
            Path(building).mkdir()


def _problem(stored: Any, caption: Any) -> str | None:
    """Why a row cannot be used; the picture's header is read, its pixels are not."""
    if not isinstance(caption, str) or len(caption.split()) < 2:
        return "no caption"
    try:
        data = _bytes_of(stored)
        if kind_of(data) not in PICTURES:
            return "broken picture"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            open_picture(data, "picture", MAX_PIXELS)
    except HugePicture:
        return "huge picture"
    except (InputError, OSError):
        return "broken picture"
    return None


def _bytes_of(stored: Any) -> bytes:
    if not isinstance(stored, dict):
        raise InputError("The row has no picture.")
    if stored.get("bytes"):
        return stored["bytes"]
    path = Path(stored.get("path") or "")
    if not path.is_file():
        raise InputError("The picture of the row is missing.")
    return path.read_bytes()


def _as_kind(data: bytes, kind: str) -> bytes:
    """The same picture as JPEG or PNG; its bytes as they are where they fit."""
    image = decode_image(data, "picture", MAX_PIXELS)
    if kind_of(data) == kind:
        return data
    return encode_image(image, "JPEG", quality=92) if kind == "jpg" else encode_image(image)
