"""Slides of PowerPoint files (ECMA-376, part 1, PresentationML), in the order in which they are shown."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .records import Job, Line
from .tables import row_text


_MAIN = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SLIDES = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_PACKAGE = "{http://schemas.openxmlformats.org/package/2006/relationships}"


def read_slides(job: Job) -> Iterator[Line]:
    """Text and tables of each slide, then its speaker's notes."""
    with zipfile.ZipFile(job.path) as archive:
        parts = _relations(archive, "ppt/presentation.xml")
        listed = _parse(archive, "ppt/presentation.xml").iter(f"{_SLIDES}sldId")
        for number, entry in enumerate(listed, 1):
            slide = parts[entry.attrib[f"{_RELATION}id"]]
            yield Line(f"Slide {number}:", is_header=True)
            yield from _shapes(_parse(archive, slide))
            for part in _relations(archive, slide).values():
                if "/notesSlides/" in part:
                    notes = list(_notes(_parse(archive, part)))
                    if notes:
                        yield from [Line("Notes:"), *notes]


def _shapes(slide: Element) -> Iterator[Line]:
    for shape in slide.iter():
        if shape.tag == f"{_SLIDES}sp":
            yield from map(Line, _paragraphs(shape))
        elif shape.tag == f"{_MAIN}tbl":
            header = ""
            for cells in shape.iter(f"{_MAIN}tr"):
                row = row_text(" ".join(_paragraphs(cell)) for cell in cells.iter(f"{_MAIN}tc"))
                if row:
                    yield Line(row, header, is_header=not header)
                    header = header or row


def _notes(page: Element) -> Iterator[Line]:
    """The notes themselves: a notes page also shows the slide, its number and a date."""
    for shape in page.iter(f"{_SLIDES}sp"):
        placeholder = shape.find(f".//{_SLIDES}ph")
        if placeholder is not None and placeholder.get("type") == "body":
            yield from map(Line, _paragraphs(shape))


def _paragraphs(element: Element) -> list[str]:
    """Lines of the text in an element; a soft break begins a new one."""
    lines = []
    for paragraph in element.iter(f"{_MAIN}p"):
        text = ""
        for run in paragraph.iter():
            text += "\n" if run.tag == f"{_MAIN}br" else run.text or "" if run.tag == f"{_MAIN}t" else ""
        lines += text.split("\n")
    return [line.strip() for line in lines if line.strip()]


def _parse(archive: zipfile.ZipFile, part: str) -> Element:
    root = ElementTree.fromstring(archive.read(part))
    for parent in root.iter():
        # The same shape again, for older programs.
        for child in parent.findall(f"{_COMPATIBILITY}Fallback"):
            parent.remove(child)
    return root


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    """Parts that a part refers to, by the ids of the references."""
    folder, name = posixpath.split(part)
    try:
        relations = _parse(archive, f"{folder}/_rels/{name}.rels")
    except KeyError:
        return {}
    return {
        relation.attrib["Id"]: posixpath.normpath(posixpath.join(folder, relation.attrib["Target"])).lstrip("/")
        for relation in relations.iter(f"{_PACKAGE}Relationship")
        if relation.get("TargetMode") != "External"
    }
