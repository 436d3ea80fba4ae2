"""Pictures, sound and video, decoded: speech is recognized by the tool, in its own process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import InputError, needs_extra
from ...media import decode_image
from .records import Job, Line, Picture, Record, Sound


SAMPLE_RATE = 16000
"""Samples a second that recognizers of speech take."""

_MAX_SIDE = 1280
_FRAMES = 4
_BLOCK_SECONDS = 30


def read_sound(job: Job) -> Iterator[Record]:
    """The samples of a recording."""
    with needs_extra("soundfile", "tools", "Reading sound"):
        import soundfile
    try:
        opened = soundfile.SoundFile(job.path)
    except soundfile.LibsndfileError:
        if importlib.util.find_spec("av") is None:
            raise
        # Some of what it cannot open is decoded as films are.
        yield from read_video(job)
        return
    with opened as sound:
        rate = sound.samplerate
        blocks = sound.blocks(_BLOCK_SECONDS * rate, dtype="float32", always_2d=True)
        yield _save_sound(job, (resample(mixed(block), rate) for block in blocks), sound.frames / rate)


def read_video(job: Job) -> Iterator[Record]:
    """Length and size of a video, some of its frames as pictures, and its sound."""
    with needs_extra("av", "video", "Reading videos"):
        import av
    with av.open(job.path) as film:
        seconds = (film.duration or 0) / av.time_base
        if film.streams.video:
            stream = film.streams.video[0]
            rate = f", {float(stream.average_rate):.3g} frames a second" if stream.average_rate else ""
            stream.thread_type = "AUTO"
            try:
                first = next(film.decode(stream), None)
            except av.FFmpegError:
                first = None
            turned = first is not None and first.rotation % 180 != 0
            width, height = (stream.height, stream.width) if turned else (stream.width, stream.height)
            yield Line(f"Video: {seconds:.1f} seconds, {width} x {height} pixels{rate}.")
            yield from _frames(job, film, stream, seconds)
        if not film.streams.audio:
            yield Line("It has no sound.")
            return
    # Opened anew, because the frames left it somewhere in the middle.
    with av.open(job.path) as film:
        yield _save_sound(job, _film_sound(film), seconds)


def _frames(job: Job, film: Any, stream: Any, seconds: float) -> Iterator[Record]:
    """Frames at even distances; one that cannot be decoded is left out."""
    import av

    last = -1.0
    for number in range(_FRAMES):
        wanted = seconds * (number + 0.5) / _FRAMES
        try:
            film.seek(int(wanted * av.time_base))
            frame = next(frame for frame in film.decode(stream) if (frame.time or 0) >= wanted - 0.05)
        except (av.FFmpegError, StopIteration):
            continue
        if (frame.time or 0) > last:
            last = frame.time or 0
            # Phones write pictures as the sensor lies, and how to turn them.
            image = frame.to_image().rotate(frame.rotation, expand=True)
            yield save_picture(job, image, f"frame at {clock(last)}")
    if last < 0:
        yield Line("No frame of it can be decoded.")


def _film_sound(film: Any) -> Iterator[Any]:
    """Sound of a film in the form in which speech is recognized; it ends where it cannot be decoded further."""
    import av
    import numpy as np

    block = _BLOCK_SECONDS * SAMPLE_RATE
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE, frame_size=block)
    try:
        for frame in [*film.decode(film.streams.audio[0]), None]:
            for part in resampler.resample(frame):
                yield mixed(part.to_ndarray().T).astype(np.float32)
    except av.FFmpegError:
        return


def mixed(samples: Any) -> Any:
    """One channel of several. In opposite phase they cancel each other, then the loudest counts.

    Args:
        samples (`array`): by time and channel.
    """
    import numpy as np

    mean, loudness = samples.mean(axis=1), np.square(samples).mean(axis=0)
    return mean if np.square(mean).mean() > 0.05 * loudness.max() else samples[:, int(loudness.argmax())]


def _save_sound(job: Job, blocks: Iterable[Any], seconds: float) -> Sound:
    """Write samples to the scratch folder. A header may promise more than there is, so they are counted."""
    import numpy as np

    path, room = job.new_file(".pcm"), job.sound_seconds * SAMPLE_RATE
    written = 0
    with path.open("wb") as out:
        for block in blocks:
            block = block[: room - written]
            out.write((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())
            written += len(block)
            if written >= room:
                return Sound(str(path), max(seconds, written / SAMPLE_RATE))
    if not written:
        raise InputError(f"{job.name} holds no sound: it is damaged or empty.")
    return Sound(str(path), written / SAMPLE_RATE)


def save_picture(job: Job, source: Path | Image.Image, caption: str) -> Picture:
    """Write a picture as PNG to the scratch folder; its longer side gets at most 1280 pixels.

    Raises:
        InputError: when it cannot be decoded.
    """
    image = decode_image(source.read_bytes(), caption) if isinstance(source, Path) else source.convert("RGB")
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    path = job.new_file(".png")
    image.save(path)
    return Picture(str(path), caption)


def resample(samples: Any, rate: int, target: int = SAMPLE_RATE) -> Any:
    """Change the sample rate in the frequency domain, which removes what the new rate cannot hold."""
    import numpy as np

    if rate == target or not len(samples):
        return samples
    length = max(1, round(len(samples) * target / rate))
    spectrum = np.fft.rfft(samples)
    bins = length // 2 + 1
    spectrum = spectrum[:bins] if len(spectrum) >= bins else np.pad(spectrum, (0, bins - len(spectrum)))
    return np.fft.irfft(spectrum, length) * (length / len(samples))


def clock(seconds: float) -> str:
    """A time such as `1:05` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
