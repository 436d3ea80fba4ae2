"""Slides of PowerPoint files (ECMA-376, part 1, PresentationML), in the order in which they are shown."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .records import Job, Line
from .tables import number_text, table_lines


_MAIN = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_SLIDES = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_PACKAGE = "{http://schemas.openxmlformats.org/package/2006/relationships}"


def read_slides(job: Job) -> Iterator[Line]:
    """Text, tables and charts of each slide, then its speaker's notes and comments."""
    with zipfile.ZipFile(job.path) as archive:
        parts = _relations(archive, "ppt/presentation.xml")
        listed = _parse(archive, "ppt/presentation.xml").iter(f"{_SLIDES}sldId")
        for number, entry in enumerate(listed, 1):
            part = parts[entry.attrib[f"{_RELATION}id"]]
            slide, related = _parse(archive, part), _relations(archive, part)
            yield Line(f"Slide {number}{' (hidden)' if slide.get('show') == '0' else ''}:", is_header=True)
            yield from _shapes(archive, slide, related)
            for target in related.values():
                if "/notesSlides/" in target:
                    notes = list(_notes(_parse(archive, target)))
                    if notes:
                        yield from [Line("Notes:"), *notes]
                elif "/comments/" in target:
                    for comment in _parse(archive, target):
                        yield Line(f"Comment: {' '.join(' '.join(comment.itertext()).split())}")
            pictures = sum(1 for _ in slide.iter(f"{_SLIDES}pic"))
            if pictures:
                yield Line(f"[slide {number} has {pictures} pictures that were not read]", is_note=True)


def _shapes(archive: zipfile.ZipFile, slide: Element, related: dict[str, str]) -> Iterator[Line]:
    for shape in slide.iter():
        if shape.tag == f"{_SLIDES}sp":
            yield from map(Line, _paragraphs(shape))
        elif shape.tag == f"{_SLIDES}pic":
            properties = shape.find(f".//{_SLIDES}cNvPr")
            if properties is not None and properties.get("descr"):
                yield Line(f"Picture: {properties.get('descr')}")
        elif shape.tag == f"{_MAIN}tbl":
            rows = (
                [" ".join(_paragraphs(cell)) for cell in row.iter(f"{_MAIN}tc")] for row in shape.iter(f"{_MAIN}tr")
            )
            yield from table_lines(rows)
        elif shape.tag == f"{_CHART}chart" and f"{_RELATION}id" in shape.attrib:
            yield from chart_lines(_parse(archive, related[shape.attrib[f"{_RELATION}id"]]))
        elif shape.tag == f"{_DIAGRAM}relIds":
            yield from map(Line, _paragraphs(_parse(archive, related[shape.attrib[f"{_RELATION}dm"]])))
        elif shape.tag.endswith("/chartex}chart"):
            yield Line("[a chart of a newer kind was not read]", is_note=True)


def chart_lines(chart: Element) -> Iterator[Line]:
    """The values that a chart shows, as a table with a column for each series (ECMA-376, part 1, 21.2)."""
    titles = [" ".join(_paragraphs(title)) for title in chart.iter(f"{_CHART}title")]
    heading = f"Chart: {', '.join(filter(None, titles))}".rstrip(" :") + ":"
    tables: list[tuple[list[str], list[list[str]]]] = []
    for series in chart.iter(f"{_CHART}ser"):
        name = " ".join(_points(series, "tx").values())
        labels, values, sizes = (
            _points(series, *tags) for tags in (("cat", "xVal"), ("val", "yVal"), ("bubbleSize",))
        )
        keys = [labels.get(place, str(place + 1)) for place in range(max([-1, *labels, *values]) + 1)]
        if not tables or [row[0] for row in tables[-1][1]] != keys:
            tables.append(([""], [[key] for key in keys]))
        for column, title in ((values, name), (sizes, f"{name} (size)")):
            if column or column is values:
                tables[-1][0].append(title)
                for place, row in enumerate(tables[-1][1]):
                    row.append(column.get(place, ""))
    if not tables:
        yield Line(f"[{heading[:-1]} holds no values and was not read]", is_note=True)
    for header, rows in tables:
        yield from table_lines([header, *rows], heading)


def _points(series: Element, *tags: str) -> dict[int, str]:
    """Values of a part of a series by their places; labels of several levels are joined."""
    found: dict[int, str] = {}
    for tag in tags:
        part = series.find(f"{_CHART}{tag}")
        levels = [] if part is None else list(part.iter(f"{_CHART}lvl")) or [part]
        for level in reversed(levels):
            code = level.findtext(f".//{_CHART}formatCode") or ""
            points = {
                int(point.get("idx", 0)): _point(point.findtext(f"{_CHART}v") or "", code)
                for point in level.iter(f"{_CHART}pt")
            }
            label = ""
            for place in range(max([-1, *found, *points]) + 1):
                # A label of an outer level stands once for those that follow.
                label = points.get(place, label if len(levels) > 1 and level is not levels[0] else "")
                if label:
                    found[place] = f"{found[place]} {label}" if place in found else label
        if part is not None and not found:
            text = " ".join(part.itertext()).strip()
            found = {0: text} if text and tag == "tx" else found
    return found


def _point(text: str, code: str) -> str:
    """A value as text; `code` is its number format."""
    try:
        number = float(text)
    except ValueError:
        return text
    if re.sub(r'"[^"]*"|\[[^]]*\]', "", code).lower().count("y"):
        return str(date(1899, 12, 30) + timedelta(number))
    return number_text(number)


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
