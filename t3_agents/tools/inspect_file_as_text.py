"""The tool `inspect_file_as_text`: documents, tables, mail, archives and speech as plain text."""

from __future__ import annotations

import time

from ..errors import InputError, MissingExtraError
from .base import WorkspaceTool
from .readers import READ_SECONDS, SCAN_CHARS, Line, reader_for
from .text import content_words, shorten


class InspectFileAsText(WorkspaceTool):
    """Reads a file as text and, with a question, only its lines about the question.

    Args:
        max_chars (`int`, *optional*, defaults to 1500): longest answer, in characters.
        max_megabytes (`int`, *optional*, defaults to 64): larger files are refused.
    """

    name = "inspect_file_as_text"
    description = (
        "Reads a file (pdf, docx, xlsx, pptx, csv, json, html, txt, eml, zip, wav, mp3) as text. Not for pictures."
    )
    inputs = {
        "file_path": {"type": "string", "description": "path of the file"},
        "question": {"type": "string", "description": "only lines about this", "nullable": True},
    }
    output_type = "string"

    def __init__(self, max_chars: int = 1500, max_megabytes: int = 64):
        super().__init__(max_chars=max_chars, max_megabytes=max_megabytes)

    def forward(self, file_path: str, question: str | None = None) -> str:
        if question is not None and not isinstance(question, str):
            raise InputError(f"`question` must be a string, not {type(question).__name__}.")
        path = self.find_file(file_path)
        size, limit = path.stat().st_size, self.settings["max_megabytes"] * 2**20
        if size == 0:
            raise InputError(f"{file_path} is empty.")
        if size > limit:
            raise InputError(f"{file_path} has {size / 2**20:.0f} MB; this tool reads up to {limit // 2**20} MB.")
        read = reader_for(path, str(file_path))
        lines: list[Line] = []
        room, deadline = SCAN_CHARS, time.monotonic() + READ_SECONDS
        try:
            for line in read(path):
                if line.text.strip():
                    lines.append(line)
                    room -= len(line.text)
                    if room < 0 or time.monotonic() > deadline:
                        lines.append(Line("[the rest of the file was not read]"))
                        break
        except (InputError, MissingExtraError):
            raise
        # A parser may raise anything on a file that somebody damaged; the model gets one sentence.
        except Exception as error:
            raise InputError(f"{file_path} cannot be read: {_reason(error)}.") from None
        if not lines:
            raise InputError(f"{file_path} holds no text; a scanned page must be saved as a picture for `visualizer`.")
        limit = self.settings["max_chars"]
        return shorten(select(lines, question, limit), limit)


def select(lines: list[Line], question: str | None, limit: int) -> str:
    """Lines that share a content word with the question, each table's header before them; all lines if none does.

    Where they are longer than `limit` characters, those that share most words are kept.
    """
    asked = content_words(question or "")
    shared = [0 if line.is_header else len(asked & content_words(line.text)) for line in lines] if asked else []
    if not any(shared):
        return "\n".join(line.text for line in lines)
    text = ""
    for least in range(1, max(shared) + 1):
        chosen = [line for line, count in zip(lines, shared, strict=True) if count >= least]
        text = _with_headers(chosen)
        if len(text) <= limit:
            break
    return text


def _with_headers(lines: list[Line]) -> str:
    texts, header = [], ""
    for line in lines:
        if line.header and line.header != header:
            texts.append(line.header)
            header = line.header
        texts.append(line.text)
    return "\n".join(texts)


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if "password" in text or "encrypt" in text:
        return "it is protected with a password"
    if isinstance(error, MemoryError) or any(word in text for word in ("bomb", "too large", "limit", "exceed")):
        return "it unpacks to too much data"
    if "timed out" in text or "timeout" in text:
        return "reading it took too long"
    if "unsupported" in text:
        return "this file format is not supported"
    return "it is damaged or is not what its extension says"
