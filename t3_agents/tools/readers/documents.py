"""Text documents, slides and web pages, read with kreuzberg."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ...errors import needs_extra
from ...media import media_type_of
from .records import READ_SECONDS, Job, Line, Reader
from .slides import chart_lines
from .tables import row_text, table_lines
from .texts import text_of


# Python's codecs for the character sets of fonts that are not Western.
_CHARSETS = {
    77: "mac_roman",
    128: "cp932",
    129: "cp949",
    134: "gb18030",
    136: "big5hkscs",
    161: "cp1253",
    162: "cp1254",
}
_CHARSETS |= {163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250"}
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
_PREFIXES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
}
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"


def document_reader(kind: str) -> Reader:
    """A reader that uses kreuzberg; tables come out as `cell,cell` rows."""

    def read(job: Job) -> Iterator[Line]:
        with needs_extra("kreuzberg", "tools", "Reading documents"):
            import kreuzberg
        # Markdown keeps tables, but joins the lines of a doc.
        form = "plain" if kind == "doc" else "markdown"
        config = kreuzberg.ExtractionConfig(
            use_cache=False, disable_ocr=True, output_format=form, extraction_timeout_secs=READ_SECONDS
        )
        media_type = media_type_of(f"file.{kind}")
        yield from document_lines(kreuzberg.extract_file_sync(job.path, mime_type=media_type, config=config).content)

    return read


def read_rtf(job: Job) -> Iterator[Line]:
    """A rich text, in which each font may have a character set of its own (RTF 1.9.1, fonts)."""
    data = Path(job.path).read_bytes()
    fonts = {
        int(number): _CHARSETS[int(charset)]
        for number, charset in re.findall(rb"\\f(\d+)[^{};]*?\\fcharset(\d+)", data)
        if int(charset) in _CHARSETS
    }
    stack, font, place, pieces = [], -1, 0, []
    for token in re.finditer(rb"[{}]|\\f(\d+)\b|(?:\\'[0-9a-fA-F]{2})+|\\[\\{}]", data):
        if token[0] == b"{":
            stack.append(font)
        elif token[0] == b"}":
            font = stack.pop() if stack else -1
        elif token[1]:
            font = int(token[1])
        elif font in fonts and token[0].startswith(b"\\'"):
            text = bytes.fromhex(token[0].replace(b"\\'", b"").decode()).decode(fonts[font], "replace")
            units = memoryview(text.encode("utf-16-le")).cast("H")
            pieces += [data[place : token.start()], *(b"\\u%d?" % unit for unit in units)]
            place = token.end()
    path = job.new_file(".rtf")
    path.write_bytes(b"".join([*pieces, data[place:]]))
    yield from document_reader("rtf")(replace(job, path=str(path)))


def with_fallback(kind: str, read: Callable[[Job], Iterator[Line]]) -> Reader:
    """A reader of an office file that leaves it to kreuzberg, and says so, where a library stumbles over its form.

    docx2python and openpyxl take for granted what Word and Excel write; other programs write other things.
    """

    def either(job: Job) -> Iterator[Line]:
        job = transitional(job)
        lines = read(job)
        try:
            first = next(lines, None)
        except (LookupError, TypeError, ValueError, AttributeError):
            yield from document_reader(kind)(job)
            yield Line(f"[read as plain text of a {kind} file: what stands beside it may be missing]", is_note=True)
            return
        yield from filter(None, [first])
        yield from lines

    return either


def read_docx(job: Job) -> Iterator[Line]:
    """Headers, text, text boxes, tables, charts, footnotes and comments of a Word file."""
    # All or nothing: what it stumbles over comes late.
    yield from list(_docx_lines(job))


def _docx_lines(job: Job) -> Iterator[Line]:
    with needs_extra("docx2python", "tools", "Reading Word files"):
        from docx2python import docx2python
    with docx2python(job.path) as document:
        for name in ("header", "body", "footer", "footnotes", "endnotes"):
            title = "" if name in ("body", "footnotes", "endnotes") else f"{name.title()}: "
            seen = set()
            for table in getattr(document, f"{name}_pars"):
                rows = [[[_words(paragraph) for paragraph in cell] for cell in row] for row in table]
                if (
                    any("tbl" in paragraph.lineage for row in table for cell in row for paragraph in cell)
                    and not title
                ):
                    yield from table_lines([[" ".join(filter(None, cell)) for cell in row] for row in rows])
                    continue
                for line in (line for row in rows for cell in row for text in cell for line in text.split("\n")):
                    # Each section has the same header again, and some the number of the page.
                    if line.strip() and not (title and (line in seen or line.strip().isdigit())):
                        seen.add(line)
                        yield Line(f"{title}{line.strip()}")
        for quoted, author, _, text in document.comments:
            yield Line(f"Comment by {author} on {' '.join(quoted.split())!r}: {' '.join(text.split())}")
    with zipfile.ZipFile(job.path) as archive:
        names = sorted(archive.namelist())
        for name in names:
            if re.fullmatch(r"word/charts/chart\d+\.xml", name):
                yield from chart_lines(ElementTree.fromstring(archive.read(name)))
        pictures = sum(name.startswith("word/media/") for name in names)
    if pictures:
        yield Line(f"[it holds {pictures} pictures that were not read]", is_note=True)


def _words(paragraph: Any) -> str:
    """Text of a paragraph of docx2python, which marks pictures and notes with `----`."""
    text = "".join(run.text for run in paragraph.runs)
    text = re.sub(r"----(?:foot|end)note(\d+)----", r"[\1]", text)
    text = re.sub(r'<a href="([^"]*)">(.*?)</a>', lambda link: f"{link[2]} ({link[1]})", text, flags=re.DOTALL)
    text = re.sub(r"----(?:Image alt text---->(.*?)<)?----\S*?----|----\S+?----", r" \1 ", text, flags=re.DOTALL)
    text = re.sub(r"^\s*(?:foot|end)note(\d+)\)\s*", r"[\1] ", text)
    return re.sub(r"^\s*--\t", "- ", text).strip()


def transitional(job: Job) -> Job:
    """An office file with one form of everything, the names of which readers know.

    Strict files (ISO 29500) have other namespaces; text boxes stand there a second time, for older programs.
    """
    with needs_extra("lxml", "tools", "Reading office files"):
        from lxml import etree
    path = job.new_file(".zip")
    with zipfile.ZipFile(job.path) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith((".xml", ".rels")):
                data = re.sub(
                    rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)",
                    rb"http://schemas.openxmlformats.org/\1/2006/\2",
                    data,
                )
            if entry.filename.endswith(".xml") and (b"Fallback>" in data or entry.filename.startswith("word/")):
                root = etree.fromstring(data)
                for element in [*root.iter(f"{_COMPATIBILITY}Fallback")]:
                    element.getparent().remove(element)
                # docx2python looks for these prefixes, which other programs call something else.
                others = {name: space for name, space in root.nsmap.items() if space not in _PREFIXES.values()}
                named = etree.Element(root.tag, root.attrib, {**others, **_PREFIXES})
                named.extend(root)
                data = etree.tostring(named)
            target.writestr(entry.filename, data)
    return replace(job, path=str(path))


def document_lines(content: str) -> Iterator[Line]:
    """Lines of kreuzberg's output, where a table row is `| a | b |` in Markdown and tab-separated in plain text."""
    header = ""
    for text in content.splitlines():
        if not text.strip() or set(text) == {"-"}:
            continue
        if text.startswith("|") and text.endswith("|") and len(text) > 1:
            cells = [cell.strip().replace("\0", "|") for cell in text[1:-1].replace("\\|", "\0").split("|")]
            if all(set(cell) <= set("-: ") and cell for cell in cells):
                continue
        elif "\t" in text:
            cells = text.split("\t")
        else:
            header = ""
            yield Line(text.strip())
            continue
        row = row_text(cells)
        yield Line(row, header, is_header=not header)
        header = header or row


def read_html(job: Job) -> Iterator[Line]:
    """A web page in the character set that it declares."""
    text, notes = text_of(job)
    yield from notes
    yield from html_lines(text)


def html_lines(page: str) -> Iterator[Line]:
    """Lines of a web page that is at hand as text."""
    with needs_extra("kreuzberg", "tools", "Reading documents"):
        import kreuzberg
    config = kreuzberg.ExtractionConfig(use_cache=False, output_format="markdown")
    # It decodes as the page declares, which is already done.
    page = (
        re.sub(r"(<meta[^>]{1,200}?charset\s*=\s*[\"']?)[\w.:-]+", r"\1utf-8", page[:4096], flags=re.I) + page[4096:]
    )
    yield from document_lines(kreuzberg.extract_bytes_sync(page.encode(), "text/html", config=config).content)
