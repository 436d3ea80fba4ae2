"""Text documents, slides and web pages, read with kreuzberg."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...errors import needs_extra
from ...media import media_type_of
from .records import READ_SECONDS, Job, Line, Reader
from .tables import row_text
from .texts import text_of


# What kreuzberg writes before each page: a control sign that is in no text.
_PAGE = "\x1epage {page_num}\x1e"


def document_reader(kind: str) -> Reader:
    """A reader that uses kreuzberg; tables come out as `cell,cell` rows."""

    def read(job: Job) -> Iterator[Line]:
        with needs_extra("kreuzberg", "tools", "Reading documents"):
            import kreuzberg
        # Markdown keeps tables, but takes plain lines of a pdf for headings and joins the lines of a doc.
        form = "plain" if kind in ("pdf", "doc") else "markdown"
        pages = kreuzberg.PageConfig(insert_page_markers=True, marker_format=_PAGE) if kind == "pdf" else None
        config = kreuzberg.ExtractionConfig(
            use_cache=False, disable_ocr=True, output_format=form, pages=pages, extraction_timeout_secs=READ_SECONDS
        )
        media_type = media_type_of(f"file.{kind}")
        content = kreuzberg.extract_file_sync(job.path, mime_type=media_type, config=config).content
        texts = content.split(_PAGE.format(page_num=1), 1)[-1]
        for number, page in enumerate(re.split(_PAGE.format(page_num=r"\d+"), texts), 1):
            # The only page of a document is not numbered.
            if page is not texts and page.strip():
                yield Line(f"Page {number}:", is_header=True)
            yield from document_lines(page)

    return read


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
