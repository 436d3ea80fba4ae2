"""PDF files, read with pdfium: text, form fields and remarks, and pages that are scans as pictures."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import needs_extra
from .containers import read_inside_of
from .records import Job, Line, Reader, Record, Scan


# A page is a scan when pictures cover this share of it and it has fewer signs than this beside them, or none at all.
_SCAN_SHARE, _SCAN_SIGNS = 0.4, 40
# Smaller pictures are logos and rules.
_PICTURE_SHARE = 0.04
# Pixels of the longer side of a rendered page: what OCR takes.
_SIDE = 1600


def read_pdf(job: Job, read: Reader) -> Iterator[Record]:
    """Each page: its text, what is filled into its form, remarks on it; then what `read` gives of attached files."""
    with needs_extra("pypdfium2", "tools", "Reading PDF files"):
        import pypdfium2
    document = pypdfium2.PdfDocument(job.path)
    document.init_forms()
    for number, page in enumerate(document, 1):
        lines = [*_text(page), *_filled_in(document, page)]
        scanned, pictures = _pictures(page, sum(len(line) for line in lines))
        # The only page of a document is not numbered.
        if len(document) > 1 and (lines or scanned):
            yield Line(f"Page {number}:", is_header=True)
        yield from map(Line, lines)
        if scanned:
            image = page.render(scale=_SIDE / max(page.get_size())).to_pil().convert("RGB")
            path = job.new_file(".png")
            image.save(path, compress_level=1)
            yield Scan(str(path), f"page {number}")
        elif pictures:
            yield Line(f"[page {number} has {pictures} pictures that were not read]", is_note=True)
    for number in range(document.count_attachments()):
        attachment = document.get_attachment(number)
        yield Line(f"Attachment: {attachment.get_name()}")
        yield from read_inside_of(job, attachment.get_name(), bytes(attachment.get_data()), read)


def _text(page: Any) -> list[str]:
    """Lines of a page, in the order of reading also where letters are painted from right to left."""
    textpage = page.get_textpage()
    text = textpage.get_text_range()
    pieces = [(match.start(), match[0]) for match in re.finditer(r"[^\r\n]*[^\s]", text)]
    lines: list[str] = []
    before = None
    for place, piece in pieces:
        # Cells of a row are pieces of their own where they stand far apart.
        here = _box(textpage, place, piece) if len(text) == textpage.count_chars() else None
        if before and here and here[0] > before[2] and abs(here[1] - before[1]) < 0.3 * (here[3] - here[1]):
            lines[-1] += f" {piece.strip()}"
        else:
            lines.append(piece.strip())
        before = here
    return [line.replace("\ufffe", "-").replace("\x02", "-") for line in lines if line]


def _box(textpage: Any, place: int, piece: str) -> tuple[float, ...] | None:
    """Left, bottom, right and top of a piece of text, from its outer letters."""
    start = place + len(piece) - len(piece.lstrip())
    first, last = textpage.get_charbox(start, loose=True), textpage.get_charbox(place + len(piece) - 1, loose=True)
    return (first[0], first[1], last[2], first[3]) if first[1] == last[1] or abs(first[1] - last[1]) < 3 else None


def _pictures(page: Any, signs: int) -> tuple[bool, int]:
    """Whether a page is a scan, and how many pictures it has."""
    import pypdfium2.raw as pdfium

    width, height = page.get_size()
    shares = []
    for item in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=4):
        left, bottom, right, top = item.get_bounds()
        shares.append(abs((right - left) * (top - bottom)) / (width * height))
    least = _SCAN_SHARE if signs else _PICTURE_SHARE
    # Strips of one scan count together.
    return sum(shares) > least and signs < _SCAN_SIGNS, sum(share > _PICTURE_SHARE for share in shares)


def _filled_in(document: Any, page: Any) -> Iterator[str]:
    """Form fields with what is filled in, and remarks (ISO 32000, 12.5 and 12.7)."""
    import pypdfium2.raw as pdfium

    form = document.formenv
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        subtype = pdfium.FPDFAnnot_GetSubtype(annotation)
        if subtype == pdfium.FPDF_ANNOT_WIDGET and form:
            kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
            name = _string(pdfium.FPDFAnnot_GetFormFieldName, form, annotation)
            value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
            if kind == pdfium.FPDF_FORMFIELD_PUSHBUTTON:
                continue
            if kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
                checked = pdfium.FPDFAnnot_IsChecked(form, annotation)
                if kind == pdfium.FPDF_FORMFIELD_RADIOBUTTON and not checked:
                    continue
                option = _string(pdfium.FPDFAnnot_GetFormFieldExportValue, form, annotation)
                value = "not checked" if not checked else f"checked ({option})" if option else "checked"
            elif kind == pdfium.FPDF_FORMFIELD_LISTBOX and not value:
                value = ", ".join(
                    _string(pdfium.FPDFAnnot_GetOptionLabel, form, annotation, option)
                    for option in range(max(pdfium.FPDFAnnot_GetOptionCount(form, annotation), 0))
                    if pdfium.FPDFAnnot_IsOptionSelected(form, annotation, option)
                )
            label = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation)
            name = f"{name} ({label})" if label and label != name else name
            yield f"Form field {name}: {' '.join(value.split()) or '(empty)'}"
        elif subtype not in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP):
            remark = " ".join(_string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents").split())
            if remark:
                yield f"Remark: {remark}"
        pdfium.FPDFPage_CloseAnnot(annotation)


def _string(function: Callable[..., int], *arguments: Any) -> str:
    """What a function of pdfium writes as UTF-16; it returns the size in bytes, with the closing zero."""
    size = function(*arguments, None, 0)
    buffer = (ctypes.c_ushort * max(size // 2, 1))()
    function(*arguments, buffer, size)
    return bytes(buffer).decode("utf-16-le", "replace").rstrip("\0")
