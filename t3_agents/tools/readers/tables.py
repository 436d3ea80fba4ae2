"""Workbooks and delimited text as comma-separated rows."""

from __future__ import annotations

import colorsys
import csv
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from itertools import chain, islice, pairwise
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ...errors import needs_extra
from ..local.shapes import color_name
from .records import Job, Line
from .texts import split_lines, text_of


# Characters in which the delimiter of a table is found.
_SAMPLE = 2**14

# Rows that show how wide a table is.
_FIRST_ROWS = 20

_MAX_FILLED = 60
MAX_COLUMNS = 200
"""Cells of a row that are repeated or merged."""

_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"

_Area = tuple[int, int, int, int]

# Differences that doubles show after a sum, in units of the last place.
_NOISE = 2


def row_values(cells: Iterable[Any]) -> list[str]:
    """Cells as texts; empty ones at the end are dropped."""
    texts = [_cell(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def row_text(cells: Iterable[Any]) -> str:
    """A compact comma-separated row; empty cells at the end are dropped."""
    return ",".join(f'"{text}"' if "," in text else text for text in row_values(cells))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if value is None:
        return ""
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if hasattr(value, "ref"):  # openpyxl's formulas of several cells: of an array, of a what-if table
        return getattr(value, "text", None) or f"=TABLE({value.r1 or ''},{value.r2 or ''})"
    return str(value)


def number_text(value: float) -> str:
    """A number in full, without what doubles add to it: 0.1 + 0.2 is 0.3."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    short = f"{value:.15g}"
    return short if abs(float(short) - value) <= _NOISE * math.ulp(value) else repr(value)


def table_lines(rows: Iterable[Sequence[Any]], title: str = "") -> Iterator[Line]:
    """Rows as lines that know their header: the first row that is about as wide as most of the first ones.

    Args:
        rows (`Iterable`): values of cells.
        title (`str`, *optional*): line above the table, if it has rows.
    """
    rows = map(row_values, rows)
    first = list(islice(rows, _FIRST_ROWS))
    widths = Counter(len(cells) for cells in first if len(cells) > 1)
    # A title above a table has fewer cells than it.
    least = max(2, (max(widths, key=lambda width: (widths[width], width)) + 1) / 2) if widths else 1
    above, header, has_header = title, "", False
    for cells in chain(first, rows):
        if not cells:
            continue
        if title:
            yield Line(title, is_header=True)
            title = ""
        row = row_text(cells)
        if not has_header and sum(map(bool, cells)) >= least:
            # Labels above several columns have a second row of labels below them.
            has_header = bool(header) or not any(left == right and left for left, right in pairwise(cells))
            header = f"{header}\n{row}" if header else row
            yield Line(row, above, is_header=True)
        else:
            yield Line(row, f"{above}\n{header}".strip("\n"))


def read_workbook(job: Job) -> Iterator[Line]:
    """All sheets of an Excel file, their comments, text boxes and filled cells.

    A formula that no program has computed yet is shown as formula.
    """
    with needs_extra("openpyxl", "tools", "Reading Excel files"):
        import openpyxl
    # A stream, because openpyxl refuses names with another extension.
    with open(job.path, "rb") as first, open(job.path, "rb") as second, zipfile.ZipFile(job.path) as archive:
        values = openpyxl.load_workbook(first, read_only=True, data_only=True)
        formulas = None
        for number, sheet in enumerate(values.worksheets):
            merged, has_formulas = _scan(archive, sheet._worksheet_path)
            if has_formulas and formulas is None:
                formulas = openpyxl.load_workbook(second, read_only=True)
            hidden = "" if sheet.sheet_state == "visible" else " (hidden)"
            fills: dict[str, list[str]] = {}
            rows = _sheet_rows(sheet, formulas.worksheets[number] if has_formulas else None, merged, fills)
            yield from table_lines(rows, f"Sheet {sheet.title}{hidden}:")
            yield from fill_lines(sheet.title, fills)
        for name in sorted(archive.namelist()):
            if re.fullmatch(r"xl/(threadedComments|comments|drawings)[^/]*/?[^/]*\.xml", name):
                yield from _remarks(ElementTree.fromstring(archive.read(name)))
        charts, pictures = (
            sum(part in name for name in archive.namelist()) for part in ("xl/charts/chart", "xl/media/")
        )
        if charts or pictures:
            yield Line(f"[{charts} charts of its values and {pictures} pictures in it were not read]", is_note=True)


def fill_lines(sheet: str, fills: dict[str, list[str]]) -> Iterator[Line]:
    """What cells of a sheet are filled with a color."""
    for color, cells in fills.items():
        more = f" and {len(cells) - _MAX_FILLED} more" if len(cells) > _MAX_FILLED else ""
        yield Line(f"Sheet {sheet}: {len(cells)} cells filled {color}: {', '.join(cells[:_MAX_FILLED])}{more}")


def cell_name(column: int, row: int) -> str:
    """A cell such as `B3` by its places, counted from 0."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row + 1}"


def read_xml_workbook(job: Job) -> Iterator[Line]:
    """All sheets of a workbook in Excel's XML of 2003."""
    office = "{urn:schemas-microsoft-com:office:spreadsheet}"
    for sheet in ElementTree.parse(job.path).iter(f"{office}Worksheet"):
        rows = []
        for row in sheet.iter(f"{office}Row"):
            cells: list[str] = []
            for cell in row.iter(f"{office}Cell"):
                cells += [""] * (min(int(cell.get(f"{office}Index", 0)), MAX_COLUMNS) - len(cells) - 1)
                cells.append(" ".join("".join(data.itertext()) for data in cell.iter(f"{office}Data")))
            rows.append(cells)
        yield from table_lines(rows, f"Sheet {sheet.get(f'{office}Name')}:")


def _remarks(part: Element) -> Iterator[Line]:
    """Comments with their cells, and the paragraphs of text boxes."""
    for element in part.iter():
        tag = element.tag.rpartition("}")[2]
        if tag in ("comment", "threadedComment") or (tag == "p" and "/drawingml/" in element.tag):
            text = " ".join("".join(element.itertext()).split())
            if text:
                yield Line(f"Comment at {element.get('ref')}: {text}" if "omment" in tag else f"Text box: {text}")


def _sheet_rows(sheet: Any, formulas: Any, merged: set[_Area], fills: dict[str, list[str]]) -> Iterator[list[Any]]:
    """Values of cells by row, a merged label in each of its cells; the names of filled cells go to `fills`."""
    # Declared dimensions may be wrong, or span millions of empty cells.
    sheet.reset_dimensions()
    colors = _fill_colors(sheet.parent)
    rows = sheet.iter_rows(values_only=not colors)
    if formulas is not None:
        formulas.reset_dimensions()
        sources: Iterator[Any] = formulas.iter_rows(values_only=True)
    waiting = sorted(merged, key=lambda area: area[1], reverse=True)
    active: list[tuple[_Area, str]] = []
    for number, cells in enumerate(rows, 1):
        if colors:
            for cell in cells:
                color = colors.get(getattr(cell, "_style_id", 0))
                if color and hasattr(cell, "coordinate"):
                    fills.setdefault(color, []).append(cell.coordinate)
            cells = [cell.value for cell in cells]
        if formulas is not None:
            cells = [source if cell is None else cell for cell, source in zip(cells, next(sources), strict=True)]
        while waiting and waiting[-1][1] <= number:
            area = waiting.pop()
            label = cells[area[0] - 1] if area[1] == number and area[0] <= len(cells) else None
            # Only labels, such as a year above its quarters: other numbers would be added several times.
            if isinstance(label, str) and label.strip() or label is not None and _is_group(area):
                active.append((area, label))
        active = [(area, label) for area, label in active if area[3] >= number]
        cells = list(cells)
        for (left, _, right, _), label in active:
            others = any(cell not in (None, "") for cell in [*cells[: left - 1], *cells[right:]])
            if others and right - left < MAX_COLUMNS:
                cells += [None] * (right - len(cells))
                cells[left - 1 : right] = [label] * (right - left + 1)
        yield cells


def _is_group(area: _Area) -> bool:
    """Whether a merged area is a label above several columns, whose own labels are in the next row."""
    left, top, right, bottom = area
    return left < right and top == bottom and top < 5


def _fill_colors(book: Any) -> dict[int, str]:
    """Names of the fill colors by the numbers of cell formats; white is no color."""
    found = {}
    for number, style in enumerate(book._cell_styles):
        fill = book._fills[style.fillId]
        if fill.fill_type in (None, "gray125"):
            continue
        color = fill.fgColor if fill.fill_type == "solid" else fill.bgColor
        rgb = _rgb(book, color) if color is not None else None
        if rgb is None:
            found[number] = "with a pattern"
        elif rgb != "FFFFFF":
            found[number] = f"{color_name(bytes.fromhex(rgb))} (#{rgb})"
    return found


def _rgb(book: Any, color: Any) -> str | None:
    """Six hexadecimal digits of a color, also one of the palette or of the theme (ECMA-376, part 1, 18.8.3)."""
    from openpyxl.styles.colors import COLOR_INDEX

    if color.type == "rgb":
        digits = color.rgb[-6:]
    elif color.type == "indexed":
        digits = COLOR_INDEX[color.indexed][-6:] if color.indexed < len(COLOR_INDEX) else ""
    else:
        scheme = (
            ElementTree.fromstring(book.loaded_theme).find(f".//{_DRAWING}clrScheme") if book.loaded_theme else None
        )
        # The theme lists dark before light, the cells light before dark.
        order = {0: 1, 1: 0, 2: 3, 3: 2}.get(color.theme, color.theme)
        if scheme is None or order >= len(scheme):
            return None
        digits = scheme[order][0].get("lastClr") or scheme[order][0].get("val", "")
    if not re.fullmatch("[0-9A-Fa-f]{6}", digits):
        return None
    hue, light, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in bytes.fromhex(digits)))
    light = light * (1 + color.tint) if color.tint < 0 else light + (1 - light) * color.tint
    channels = colorsys.hls_to_rgb(hue, min(max(light, 0), 1), saturation)
    return bytes(round(channel * 255) for channel in channels).hex().upper()


def _scan(archive: zipfile.ZipFile, part: str) -> tuple[set[_Area], bool]:
    """Merged areas of a sheet, and whether a second pass for formulas is worth its time."""
    merged, has_formulas = set(), False
    with archive.open(part.lstrip("/")) as stream:
        tail = b""
        while chunk := stream.read(2**20):
            block = tail + chunk
            has_formulas = has_formulas or re.search(rb"<(?:\w+:)?f[ />]", block) is not None
            for match in re.finditer(rb'mergeCell [^>]*?ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"', block):
                left, top, right, bottom = match.groups()
                merged.add((_column(left), int(top), _column(right), int(bottom)))
            tail = block[-100:]
    return merged, has_formulas


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def read_csv(job: Job) -> Iterator[Line]:
    """A delimited table; the delimiter is found in its first lines. What stands above the table is no header of it."""
    text, notes = text_of(job)
    yield from notes
    declared = re.match(r"""["']?sep=(.)["']?\r?\n""", text)  # Excel's first line
    delimiter = declared[1] if declared else _delimiter(text)
    rows = csv.reader(io.StringIO(text[declared.end() if declared else 0 :], newline=""), delimiter=delimiter)
    try:
        yield from table_lines(rows)
    except csv.Error:
        # A quote that is never closed makes one field of the rest.
        yield Line("[not a well-formed table from here on: its lines as they are]")
        yield from map(Line, split_lines(text))


def _delimiter(text: str) -> str:
    """The delimiter that gives most of the first rows equally many columns."""
    sample = text[:_SAMPLE].rpartition("\n")[0] if len(text) > _SAMPLE else text

    def fit(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        # A title above the table and a remark below it are no rows of it.
        counts = Counter(width for width in widths if width > 1)
        width, count = max(counts.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        return count / max(len(widths), 1), width

    # Texts and numbers hold commas: of those that fit as well, another one is the delimiter.
    return max(";\t|,", key=fit)
