"""OpenDocument texts, workbooks and slides (OASIS OpenDocument 1.3, part 3), with what stands beside their text."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ..local.shapes import color_name
from .records import Job, Line
from .tables import MAX_COLUMNS, cell_name, fill_lines, number_text, table_lines


_TEXT, _TABLE, _OFFICE, _DRAW, _STYLE, _PRESENTATION = (
    f"{{urn:oasis:names:tc:opendocument:xmlns:{name}:1.0}}"
    for name in ("text", "table", "office", "drawing", "style", "presentation")
)
_COLOR = "{urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0}background-color"
_LINK = "{http://www.w3.org/1999/xlink}href"
_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
# What each page shows otherwise.
_FIELDS = {f"{_TEXT}{name}" for name in ("page-number", "page-count", "sheet-name")}
# Repetitions are mostly empty rows down to the end of a sheet.
_MAX_REPEATED = 1000


def read_opendocument(job: Job) -> Iterator[Line]:
    """Headers, text, tables, text boxes, notes, comments and charts."""
    with zipfile.ZipFile(job.path) as archive:
        yield from _Reader(archive).lines()


class _Reader:
    """Reads one archive; `pictures` counts what was not read."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        self.pictures = 0
        self.fills: dict[str, str] = {}

    def lines(self) -> Iterator[Line]:
        content = ElementTree.fromstring(self.archive.read("content.xml"))
        styles = content
        if "styles.xml" in self.archive.namelist():
            styles = ElementTree.fromstring(self.archive.read("styles.xml"))
        for root in (styles, content):
            for style in root.iter(f"{_STYLE}style"):
                color = next((each.get(_COLOR) for each in style if each.get(_COLOR)), "transparent").lower()
                if style.get(f"{_STYLE}family") == "table-cell" and len(color) == 7 and color != "#ffffff":
                    name = color_name(bytes.fromhex(color[1:]))
                    self.fills[style.get(f"{_STYLE}name", "")] = f"{name} ({color.upper()})"
        for part in ("header", "footer"):
            seen = {line.text for each in styles.iter(f"{_STYLE}{part}") for line in self.walk(each)}
            # What every sheet has where nobody wrote anything.
            yield from (Line(f"{part.title()}: {text}") for text in sorted(seen - {"Page"}))
        slides = 0
        for element in content.find(f"{_OFFICE}body")[0]:
            if element.tag == f"{_DRAW}page":
                slides += 1
                yield Line(f"Slide {slides}:", is_header=True)
            yield from self.walk(element)
        if self.pictures:
            yield Line(f"[it holds {self.pictures} pictures that were not read]", is_note=True)

    def walk(self, element: Element) -> Iterator[Line]:
        """Lines of an element and of all that is in it."""
        tag = element.tag
        if tag in (f"{_TEXT}tracked-changes", f"{_OFFICE}forms", f"{_TEXT}note-citation"):
            return
        if tag == f"{_TABLE}table":
            yield from self.table(element)
            return
        if tag == f"{_PRESENTATION}notes":
            notes = [line for each in element for line in self.walk(each)]
            yield from [Line("Notes:"), *notes] if notes else []
            return
        if tag == f"{_OFFICE}annotation":
            text = " ".join(_words(paragraph) for paragraph in element.iter(f"{_TEXT}p"))
            yield Line(f"Comment by {element.findtext(_CREATOR) or 'somebody'}: {text}")
            return
        if tag == f"{_DRAW}object" and (name := element.get(_LINK, "").removeprefix("./")):
            try:
                chart = ElementTree.fromstring(self.archive.read(f"{name}/content.xml"))
            except KeyError:
                yield Line(f"[the object {name} was not read]", is_note=True)
                return
            yield Line("Chart:", is_header=True)
            yield from self.walk(chart)
            return
        if tag == f"{_DRAW}image" and "ObjectReplacements" not in element.get(_LINK, ""):
            self.pictures += 1
        if tag in (f"{_TEXT}p", f"{_TEXT}h"):
            yield from (Line(line.strip()) for line in _words(element).split("\n") if line.strip())
        for child in element:
            if tag not in (f"{_TEXT}p", f"{_TEXT}h", f"{_TEXT}span") or child.tag not in (f"{_TEXT}p", f"{_TEXT}h"):
                yield from self.walk(child)

    def table(self, table: Element) -> Iterator[Line]:
        filled: dict[str, list[str]] = {}
        name = table.get(f"{_TABLE}name", "")
        title = f"Sheet {name}:" if table.find(f".//{_TABLE}table-row") is not None and name else ""
        yield from table_lines(self.rows(table, filled), title if self.is_workbook else "")
        yield from fill_lines(name, filled)

    @property
    def is_workbook(self) -> bool:
        return b"spreadsheet" in self.archive.read("mimetype")

    def rows(self, table: Element, filled: dict[str, list[str]]) -> Iterator[list[str]]:
        spanned: dict[int, tuple[int, str]] = {}
        number = 0
        for row in table.iter(f"{_TABLE}table-row"):
            cells: list[str] = []
            for cell in row:
                if not cell.tag.endswith("table-cell"):
                    continue
                text = self.cell(cell)
                columns = min(int(cell.get(f"{_TABLE}number-columns-spanned", 1)), MAX_COLUMNS)
                rows = int(cell.get(f"{_TABLE}number-rows-spanned", 1))
                is_label = cell.get(f"{_OFFICE}value-type") in (None, "string") or (columns > 1 and number < 5)
                for _ in range(min(int(cell.get(f"{_TABLE}number-columns-repeated", 1)), MAX_COLUMNS)):
                    place = len(cells)
                    left, label = spanned.pop(place, (0, ""))
                    if left > 1:
                        spanned[place] = (left - 1, label)
                    cells.append(text or label)
                    if text and is_label and (rows > 1 or columns > 1):
                        for column in range(place, place + columns):
                            # Cells to the right are covered in this row, those below in the next ones.
                            spanned[column] = (rows - (column == place), text)
                    if color := self.fills.get(cell.get(f"{_TABLE}style-name", "")):
                        filled.setdefault(color, []).append(cell_name(place, number))
            repeated = int(row.get(f"{_TABLE}number-rows-repeated", 1))
            number += repeated
            if len({*filter(None, cells)}) == 1 and len(cells) > 1 and cells[0]:
                cells = cells[:1]  # a title across the table
            yield from [cells] * (min(repeated, _MAX_REPEATED) if any(cells) else 1)

    def cell(self, cell: Element) -> str:
        kind, value = cell.get(f"{_OFFICE}value-type"), cell.get(f"{_OFFICE}value")
        if kind in ("float", "currency") and value:
            return number_text(float(value))
        if kind == "date":
            return cell.get(f"{_OFFICE}date-value", "").replace("T00:00:00", "").replace("T", " ")
        text = " ".join(line.text for child in cell for line in self.walk(child))
        formula = cell.get(f"{_TABLE}formula", "").partition(":=")[2]
        return text or (f"={formula}" if formula else "")


def _words(element: Element) -> str:
    """Text of a paragraph without the boxes, notes and comments that hang on it."""
    text = element.text or ""
    for child in element:
        if child.tag == f"{_TEXT}s":
            text += " " * int(child.get(f"{_TEXT}c", 1))
        elif child.tag in (f"{_TEXT}tab", f"{_TEXT}line-break"):
            text += "\t" if child.tag.endswith("tab") else "\n"
        elif child.tag == f"{_TEXT}note":
            text += f"[{child.findtext(f'{_TEXT}note-citation') or ''}]"
        elif child.tag in _FIELDS:
            pass
        elif not child.tag.startswith(_DRAW) and not child.tag.startswith(_OFFICE):
            text += _words(child)
        text += child.tail or ""
    return text
