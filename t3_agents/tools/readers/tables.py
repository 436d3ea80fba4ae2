"""Workbooks and delimited text as comma-separated rows."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from itertools import islice
from typing import Any

from ...errors import needs_extra
from .records import Job, Line
from .texts import decoded, read_text


def row_text(cells: Any) -> str:
    """A compact comma-separated row; empty cells at the end are dropped."""
    texts = [_cell(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return ",".join(f'"{text}"' if "," in text else text for text in texts)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return str(value)


def read_workbook(job: Job) -> Iterator[Line]:
    """All sheets of an Excel file. A formula that no program has computed yet is shown as formula."""
    with needs_extra("openpyxl", "tools", "Reading Excel files"):
        import openpyxl
    # A stream, because openpyxl refuses names with another extension.
    with open(job.path, "rb") as first, open(job.path, "rb") as second:
        values = openpyxl.load_workbook(first, read_only=True, data_only=True)
        formulas = openpyxl.load_workbook(second, read_only=True) if _has_formulas(job) else None
        for number, sheet in enumerate(values.worksheets):
            title, header = f"Sheet {sheet.title}:", ""
            for cells in _sheet_rows(sheet, formulas.worksheets[number] if formulas else None):
                row = row_text(cells)
                if not row:
                    continue
                if not header:
                    yield Line(title, is_header=True)
                yield Line(row, f"{title}\n{header}" if header else "", is_header=not header)
                header = header or row


def _sheet_rows(sheet: Any, formulas: Any) -> Iterator[list[Any]]:
    # Declared dimensions may be wrong, or span millions of empty cells.
    sheet.reset_dimensions()
    if formulas is None:
        yield from sheet.iter_rows(values_only=True)
        return
    formulas.reset_dimensions()
    for cells, sources in zip(sheet.iter_rows(values_only=True), formulas.iter_rows(values_only=True), strict=True):
        yield [source if cell is None else cell for cell, source in zip(cells, sources, strict=True)]


def _has_formulas(job: Job) -> bool:
    """Whether a second pass for formulas is worth its time."""
    with zipfile.ZipFile(job.path) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with archive.open(name) as stream:
                    tail = b""
                    while chunk := stream.read(2**20):
                        if b"<f>" in tail + chunk or b"<f " in tail + chunk:
                            return True
                        tail = chunk[-3:]
    return False


def read_csv(job: Job) -> Iterator[Line]:
    """A delimited table; the delimiter is found in its first lines."""
    header = ""
    try:
        for cells in csv.reader(decoded(job.path), delimiter=_delimiter(job)):
            row = row_text(cells)
            if row:
                yield Line(row, header, is_header=not header)
                header = header or row
    except csv.Error:
        # A quote that is never closed makes one field of the rest.
        yield Line("[not a well-formed table from here on: its lines as they are]")
        yield from read_text(job)


def _delimiter(job: Job) -> str:
    """The delimiter that gives most of the first rows as many columns as the header has."""
    sample = list(islice(decoded(job.path), 20))

    def fit(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        if not widths or widths[0] < 2:
            return 0.0, 0
        return sum(width == widths[0] for width in widths) / len(widths), widths[0]

    return max(",;\t|", key=fit)
