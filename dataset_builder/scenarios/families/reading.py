"""Code that reads a file with Python packages instead of a tool, as most released trajectories read documents."""

from __future__ import annotations

from pathlib import PurePosixPath


READING_IMPORTS = ("csv", "openpyxl", "pypdf")
"""Modules that this code needs beside those that every agent may import."""

_CODE = {
    ".xlsx": 'from openpyxl import load_workbook\nfor row in load_workbook("{path}").active.values:\n    print(row)',
    ".pdf": 'from pypdf import PdfReader\nfor page in PdfReader("{path}").pages:\n    print(page.extract_text())',
    ".csv": 'import csv\nfor row in csv.reader(open("{path}")):\n    print(row)',
}


def read_with_python(path: str) -> str:
    """Code that prints everything in a PDF, a workbook or a comma-separated table.

    Args:
        path (`str`): workspace path ending in `.pdf`, `.xlsx` or `.csv`.
    """
    return _CODE[PurePosixPath(path).suffix].format(path=path)
