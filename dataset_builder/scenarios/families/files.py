"""Drawing pictures and writing documents: small, readable by OCR, and byte-identical for the same content. And code
that reads them."""

from __future__ import annotations

import csv
import datetime
import functools
import importlib
import importlib.util
import io
import json
import math
import random
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from t3_agents.errors import MissingExtraError, needs_extra
from t3_agents.media import decode_image
from t3_agents.task import File


# Libraries stamp the time of writing into documents; this one replaces it.
_DATE = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_INK = (20, 20, 30)
# Width and height of pictures without text, in pixels.
_SIDE = 256
_TONES = ((70, 105, 55), (150, 125, 85), (105, 105, 110), (90, 75, 60))

READING_IMPORTS = ("csv", "openpyxl", "pypdf")
"""Modules that [`read_with_python`] needs beside those that every agent may import."""

_READING_CODE = {
    ".xlsx": 'from openpyxl import load_workbook\nfor row in load_workbook("{path}").active.values:\n    print(row)',
    ".pdf": 'from pypdf import PdfReader\nfor page in PdfReader("{path}").pages:\n    print(page.extract_text())',
    ".csv": 'import csv\nfor row in csv.reader(open("{path}")):\n    print(row)',
}

Color = tuple[int, int, int]
Rows = Sequence[tuple[str, str]]

COLORS: dict[str, Color] = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (35, 70, 215),
    "yellow": (245, 215, 30),
    "purple": (130, 40, 170),
    "orange": (240, 130, 20),
}
"""Saturated colors by their English names."""
SHAPES = tuple((color, kind) for color in COLORS for kind in ("circle", "square", "triangle"))
"""Every shape that [`draw_shapes`] draws, as color and kind."""


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that ships inside Pillow, so that pictures do not depend on the system's fonts."""
    return ImageFont.load_default(size)


def attach(folder: Path, path: str) -> File:
    """The file that was written to `folder` under the last part of its workspace path."""
    return File.from_path(folder / Path(path).name, path)


def save_picture(image: Image.Image, folder: Path, path: str) -> File:
    """Save as PNG or JPEG, by the extension of `path`, and attach."""
    options = {"quality": 92} if path.endswith(".jpg") else {"compress_level": 1}
    image.save(folder / Path(path).name, **options)
    return attach(folder, path)


def draw_page(rows: Rows, title: str, paper: Color = (255, 255, 255), width: int = 240) -> Image.Image:
    """A printed slip: a title, then rows of a label with a value at the right edge."""
    step = 38
    image = Image.new("RGB", (width, 66 + step * len(rows)), paper)
    draw = ImageDraw.Draw(image)
    draw.text((width // 2, 26), title, fill=_INK, font=font(21), anchor="mm")
    draw.line((14, 46, width - 14, 46), fill=(150, 150, 150))
    for number, (label, value) in enumerate(rows):
        y = 66 + step * number
        draw.text((16, y), label, fill=_INK, font=font(19), anchor="lm")
        draw.text((width - 16, y), value, fill=_INK, font=font(19), anchor="rm")
    return image


def draw_bars(title: str, values: dict[str, int], unit: str, color: Color) -> Image.Image:
    """A horizontal bar chart; every value stands behind its bar, so that a row of text holds label and value."""
    width, step, left = 320, 40, 92
    image = Image.new("RGB", (width, 60 + step * len(values)), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.text((width // 2, 24), title, fill=_INK, font=font(19), anchor="mm")
    longest = max(values.values())
    for number, (label, value) in enumerate(values.items()):
        y = 64 + step * number
        end = left + max(4, round((width - left - 90) * value / longest))
        draw.rectangle((left, y - 10, end, y + 10), fill=color)
        draw.text((10, y), label, fill=_INK, font=font(18), anchor="lm")
        draw.text((end + 10, y), f"{value} {unit}", fill=_INK, font=font(18), anchor="lm")
    return image


def scatter(rng: random.Random, count: int, columns: int, rows: int, jitter: float) -> list[tuple[float, float]]:
    """Centers of things that do not touch: cells of a grid (unit: one cell), each moved by at most `jitter`."""
    cells = rng.sample([(x, y) for y in range(rows) for x in range(columns)], count)
    return [(x + 0.5 + rng.uniform(-jitter, jitter), y + 0.5 + rng.uniform(-jitter, jitter)) for x, y in cells]


def draw_shapes(rng: random.Random, shapes: Sequence[tuple[str, str]], ground: Color) -> Image.Image:
    """Flat shapes, given as (color, kind), on a plain ground; they do not touch."""
    image = Image.new("RGB", (_SIDE, _SIDE), ground)
    draw = ImageDraw.Draw(image)
    cell = _SIDE / 4
    for (color, kind), (x, y) in zip(shapes, scatter(rng, len(shapes), 4, 4, 0.08), strict=True):
        radius = rng.uniform(0.28, 0.36) * cell
        _draw_shape(draw, kind, x * cell, y * cell, radius, COLORS[color])
    return image


def _draw_shape(draw: ImageDraw.ImageDraw, kind: str, x: float, y: float, radius: float, color: Color) -> None:
    if kind == "circle":
        draw.ellipse((round(x - radius), round(y - radius), round(x + radius), round(y + radius)), fill=color)
    elif kind == "square":
        side = radius * 0.9
        draw.rectangle((round(x - side), round(y - side), round(x + side), round(y + side)), fill=color)
    else:
        corners = [math.radians(angle) for angle in (-90, 30, 150)]
        draw.polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in corners], fill=color)


@functools.cache
def _portrait() -> Image.Image:
    """The public-domain portrait of Grace Hopper that ships with matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise MissingExtraError("matplotlib", "scenarios", "Drawing pictures with faces")
    path = Path(spec.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"
    return decode_image(path.read_bytes(), path.name)


def draw_people(rng: random.Random, count: int) -> Image.Image:
    """A collage of one to four portraits on a ground with the texture of a photo."""
    # Coarse noise in the tones of leaves, sand or stone, enlarged and mixed with fine noise: like an unsharp photo.
    red, green, blue = rng.choice(_TONES)
    cells = bytes(max(0, min(255, tone + rng.randrange(-45, 46))) for _ in range(48) for tone in (red, green, blue))
    coarse = Image.frombytes("RGB", (8, 6), cells).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    fine = Image.frombytes("L", (_SIDE, _SIDE), rng.randbytes(_SIDE**2)).convert("RGB")
    image = Image.blend(coarse, fine, 0.25)
    portrait, cell = _portrait(), _SIDE / 2
    for x, y in scatter(rng, count, 2, 2, 0.04):
        face = portrait.crop((90 + rng.randrange(-25, 26), 10 + rng.randrange(10), 420 + rng.randrange(-25, 26), 400))
        side = round(rng.uniform(0.76, 0.92) * cell)
        face = face.resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            face = ImageOps.mirror(face)
        face = ImageEnhance.Brightness(face).enhance(rng.uniform(0.8, 1.15))
        face = ImageEnhance.Color(face).enhance(rng.uniform(0.2, 1.3))
        image.paste(face, (round(x * cell - side / 2), round(y * cell - side / 2)))
    return image


def write_pdf(folder: Path, path: str, title: str, lines: Sequence[str]) -> File:
    """A one-page PDF: a title and lines of text."""
    pdf = _library("fpdf", "fpdf2").FPDF()
    pdf.set_creation_date(_DATE)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 16)
    pdf.cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=12)
    for line in lines:
        pdf.cell(0, 9, line, new_x="LMARGIN", new_y="NEXT")
    (folder / Path(path).name).write_bytes(pdf.output())
    return attach(folder, path)


def write_docx(folder: Path, path: str, title: str, lines: Sequence[str]) -> File:
    """A Word document: a heading and one paragraph per line."""
    document = _library("docx", "python-docx").Document()
    document.add_heading(title, level=1)
    for line in lines:
        document.add_paragraph(line)
    return _save_office(document, folder, path)


def write_xlsx(folder: Path, path: str, sheet: str, rows: Sequence[Sequence[str | int | float]]) -> File:
    """An Excel workbook with one sheet; the first row is its header."""
    book = _library("openpyxl", "openpyxl").Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(list(row))
    return _save_office(book, folder, path)


def write_pptx(folder: Path, path: str, slides: Sequence[tuple[str, Sequence[str]]]) -> File:
    """A PowerPoint deck: title and lines of every slide."""
    deck = _library("pptx", "python-pptx").Presentation()
    for title, lines in slides:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(lines)
    return _save_office(deck, folder, path)


@functools.cache
def _voice() -> Any:
    return _library("hibari", "hibari-tts").Hibari()


def write_mp3(folder: Path, path: str, text: str) -> File:
    """Speech as MP3."""
    soundfile = _library("soundfile", "soundfile")
    wav = folder / "speech.wav"
    _voice().save(text, str(wav), seed=1)
    samples, rate = soundfile.read(wav)
    wav.unlink()
    soundfile.write(folder / Path(path).name, samples, rate)
    return attach(folder, path)


def write_mp4(folder: Path, path: str, frames: Sequence[Image.Image]) -> File:
    """A silent video that shows each picture for a second; all of one size with even sides."""
    av = _library("av", "av")
    with av.open(str(folder / Path(path).name), "w") as film:
        stream = film.add_stream("libx264", rate=1)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        # One thread: the same pictures give the same bytes.
        stream.options = {"crf": "18", "threads": "1", "preset": "veryfast"}
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_image(frame)))
        film.mux(stream.encode())
    return attach(folder, path)


def write_csv(folder: Path, path: str, rows: Sequence[Sequence[str | int | float]]) -> File:
    """A comma-separated table; the first row is its header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    (folder / Path(path).name).write_text(text.getvalue(), encoding="utf-8")
    return attach(folder, path)


def write_table(folder: Path, path: str, sheet: str, rows: Sequence[Sequence[str | int | float]]) -> File:
    """A comma-separated table or an Excel workbook, by the extension of `path`."""
    return write_csv(folder, path, rows) if path.endswith(".csv") else write_xlsx(folder, path, sheet, rows)


def write_json(folder: Path, path: str, record: dict) -> File:
    """A JSON object."""
    (folder / Path(path).name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return attach(folder, path)


def read_with_python(path: str) -> str:
    """Code that prints everything in a PDF, a workbook or a comma-separated table with Python packages instead of a
    tool, as most released trajectories read documents.

    Args:
        path (`str`): workspace path ending in `.pdf`, `.xlsx` or `.csv`.
    """
    return _READING_CODE[Path(path).suffix].format(path=path)


def _library(module: str, package: str) -> Any:
    """Import what writes a file format, which only the `scenarios` extra brings."""
    with needs_extra(package, "scenarios", "Writing documents"):
        return importlib.import_module(module)


def _save_office(document: Any, folder: Path, path: str) -> File:
    """Save an office document with all times of writing replaced, in the archive and in its properties."""
    written = io.BytesIO()
    document.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(folder / Path(path).name, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "docProps/core.xml":
                data = _STAMP.sub(_DATE.strftime("%Y-%m-%dT%H:%M:%SZ").encode(), data)
            entry = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            target.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return attach(folder, path)
