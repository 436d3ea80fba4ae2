"""Speech to text: recordings are cut into chunks at quiet places, and each chunk is recognized."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from t3_agents.errors import InputError, needs_extra

from ..hub_models.shared_models import HubModel, load_once
from ..readers.media import SAMPLE_RATE, clock
from ..readers.records import Line


CHUNK_SECONDS = 30
"""Longest chunk; what Whisper hears at once."""

# The decoder of pocketsphinx hears words in silence.
_SILENCE = 0.003

WITHOUT_WHEELS = ((3, 12), (3, 14))
"""Releases of Python that pocketsphinx has no wheels for; `setup.cfg` leaves it out there."""

# One decoder serves the agents of all threads.
_sphinx = threading.Lock()

Recognizer = Callable[[Any], str]


def transcript(path: str | Path, seconds: float, recognize: Recognizer) -> Iterator[Line]:
    """Lines of what is said in a recording, with the time of each chunk where there are several.

    Args:
        path (`str` or `Path`): samples, 16-bit little-endian mono at 16 kHz.
        seconds (`float`): length of the whole recording, of which the samples may be the start.
        recognize (`Callable`): text of a chunk, a float array in [-1, 1].
    """
    import numpy as np

    samples = np.fromfile(path, dtype="<i2").astype(np.float32) / 32767
    chunks = list(split(samples))
    texts = [(start, recognize(chunk).strip()) for start, chunk in chunks if np.abs(chunk).max() >= _SILENCE]
    spoken = [(start, text) for start, text in texts if text]
    if not spoken:
        yield Line("No speech was recognised in it.")
    elif len(chunks) == 1:
        yield Line(f"Transcript (may hold mistakes): {spoken[0][1]}")
    else:
        yield Line("Transcript (may hold mistakes), each part with the minute and second of its start:")
        for start, text in spoken:
            yield Line(f"[{clock(start)}] {text}")
    read = len(samples) / SAMPLE_RATE
    if seconds > read + 1:
        yield Line(f"[only the first {read:.0f} of {seconds:.0f} seconds were transcribed]", is_note=True)


def split(samples: Any) -> Iterator[tuple[float, Any]]:
    """Chunks of at most `CHUNK_SECONDS` with their starts in seconds, cut where the last third is quietest."""
    import numpy as np

    start, size, step = 0, CHUNK_SECONDS * SAMPLE_RATE, SAMPLE_RATE // 10
    while len(samples) - start > size:
        late = start + 2 * size // 3
        window = samples[late : start + size]
        loudness = np.abs(window[: len(window) // step * step]).reshape(-1, step).mean(axis=1)
        end = late + int(loudness.argmin()) * step + step // 2
        yield start / SAMPLE_RATE, samples[start:end]
        start = end
    if len(samples) > start:
        yield start / SAMPLE_RATE, samples[start:]


def pocketsphinx_recognizer() -> Recognizer:
    """English speech with the model inside the pocketsphinx package.

    Raises:
        MissingExtraError: when it is not installed.
    """
    if sys.version_info[:2] in WITHOUT_WHEELS and find_spec("pocketsphinx") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise InputError(
            f"Transcribing speech needs `pocketsphinx`, which has no wheel for Python {version}: run `pip install "
            "pocketsphinx` where there is a C compiler, or take Python 3.11 or 3.13."
        )
    with needs_extra("pocketsphinx", "tools", "Transcribing speech"):
        from pocketsphinx import Decoder
    decoder = load_once(("pocketsphinx",), lambda: Decoder(samprate=SAMPLE_RATE, loglevel="FATAL"))

    def recognize(samples: Any) -> str:
        import numpy as np

        with _sphinx:
            decoder.start_utt()
            decoder.process_raw((samples / np.abs(samples).max() * 30000).astype("<i2").tobytes(), full_utt=True)
            decoder.end_utt()
            hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return recognize


def whisper_recognizer(hub: HubModel) -> Recognizer:
    """Speech with Whisper or another model of transformers that turns sound features into text."""

    def recognize(samples: Any) -> str:
        import torch

        inputs = hub.processor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)
        try:
            with hub.lock, torch.inference_mode():
                ids = hub.model.generate(**inputs.to(hub.model.device, dtype=hub.model.dtype))
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"The speech model of this tool failed: {reason}") from error
        return hub.processor.batch_decode(ids, skip_special_tokens=True)[0]

    return recognize
