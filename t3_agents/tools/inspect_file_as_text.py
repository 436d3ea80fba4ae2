"""The tool `inspect_file_as_text`: documents, tables, mail, archives, speech and video as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..media import decode_image
from ..storage import scratch_folder
from .base import WorkspaceTool
from .hub_models.shared_models import CONTROLLER, ask, choose_model, hub_model
from .local.speech import Recognizer, pocketsphinx_recognizer, transcript, whisper_recognizer
from .local.text import content_words, cut_at_word
from .ocr import find_words, join_rows
from .readers.process import read_file
from .readers.records import Job, Line, Picture, Record, Scan


class InspectFileAsText(WorkspaceTool):
    """Reads a file as text and, with a question, only its lines about the question.

    Files are parsed in another process with limits of time and memory. Frames of a video and pictures in an archive
    are saved to the workspace. Speech is recognized with pocketsphinx (English).

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

    max_sound_seconds = 180
    """Sound that is transcribed of one file; pocketsphinx takes about two thirds of a recording's time on one core."""

    max_scanned_pages = 10
    """Pages without text that are read with OCR, 1 to 3 seconds each."""

    max_chars: int = 1500
    max_megabytes: int = 64

    def forward(self, file_path: str, question: str | None = None) -> str:
        if question is not None and not isinstance(question, str):
            raise InputError(f"`question` must be a string, not {type(question).__name__}.")
        path = self.find_file(file_path, self.max_megabytes)
        if path.stat().st_size == 0:
            raise InputError(f"{file_path} is empty.")
        with scratch_folder() as scratch:
            job = Job(str(path.resolve()), str(file_path), scratch, self.max_sound_seconds)
            # All of them first: the reading process waits for nobody.
            lines = list(self._lines_of(list(read_file(job)), path.stem))
        if not lines:
            raise InputError(
                f"{file_path} holds no text that can be read; save a scanned page as a picture for `visualizer`."
            )
        return self.answer(lines, question)

    def answer(self, lines: list[Line], question: str | None) -> str:
        """What the tool says about the lines of a file."""
        return excerpt(lines, question, self.max_chars)

    def recognizer(self) -> Recognizer:
        """What turns speech into text."""
        return pocketsphinx_recognizer()

    def _lines_of(self, records: list[Record], stem: str) -> Iterator[Line]:
        room, scanned, unread = float(self.max_sound_seconds), [], []
        for record in records:
            if isinstance(record, Line):
                yield record
            elif isinstance(record, Picture):
                saved = self.save_image(decode_image(Path(record.path).read_bytes(), record.caption), stem)
                yield Line(f"Picture {saved}: {record.caption} (look at it with visualizer)")
            elif isinstance(record, Scan) and len(scanned) < self.max_scanned_pages:
                scanned.append(record.place)
                page = decode_image(Path(record.path).read_bytes(), record.place)
                yield from map(Line, join_rows(find_words(page)) or [f"({record.place} shows no text)"])
            elif isinstance(record, Scan):
                unread.append(record.place)
            elif room <= 0:
                yield Line(f"[a recording of {record.seconds:.0f} seconds was not transcribed]", is_note=True)
            else:
                room -= record.seconds
                yield from transcript(record.path, record.seconds, self.recognizer())
        if scanned:
            places = ", ".join(scanned)
            yield Line(f"[scanned, so read with OCR, which makes mistakes: {places}]", is_note=True)
        if unread:
            yield Line(f"[scanned and not read: {len(unread)} more pages, from {unread[0]} on]", is_note=True)


class HubInspectFileAsText(InspectFileAsText):
    """Reads a file as text; a question about it is answered by a model, and speech is recognized by Whisper.

    Args:
        model (`str`, *optional*, defaults to `"controller"`): Hub id or folder of an image-text-to-text model, the
            model's name at `api_base`, or `"controller"` for the model of the agent that has this tool.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server.
        speech_model (`str`, *optional*, defaults to `"openai/whisper-small"`): Hub id or folder of a model for
            `AutoModelForSpeechSeq2Seq`.
        device (`str`, *optional*), dtype (`str`, *optional*): of local models; by default the best device, and the
            checkpoint's data type on an accelerator.
        max_chars (`int`, *optional*, defaults to 20000): longest text, in characters, that is returned or that the
            model reads to answer a question.
        max_megabytes (`int`, *optional*, defaults to 64): larger files are refused.
    """

    description = (
        "Reads a file (pdf, docx, xlsx, pptx, csv, json, xml, html, txt, epub, eml, zip, wav, mp3, mp4) as text, or "
        "answers a question about it. Not for pictures."
    )
    max_sound_seconds = 3600
    """Sound that is transcribed of one file."""

    model: str = CONTROLLER
    api_base: str | None = None
    speech_model: str = "openai/whisper-small"
    device: str | None = None
    dtype: str | None = None
    max_chars: int = 20000

    def answer(self, lines: list[Line], question: str | None) -> str:
        limit = self.max_chars
        if not question or not question.strip():
            return excerpt(lines, None, limit)
        fits = sum(len(line.text) + 1 for line in lines) <= limit
        text = excerpt(lines, None if fits else question, limit)
        prompt = (
            "Answer the question from the text of a file. Be short and exact; say so if the text does not tell.\n\n"
            f"Text:\n{text}\n\nQuestion: {question}"
        )
        model = choose_model(self.controller, self.model, self.api_base, device=self.device, dtype=self.dtype)
        return ask(model, prompt)

    def recognizer(self) -> Recognizer:
        hub = hub_model("AutoModelForSpeechSeq2Seq", self.speech_model, device=self.device, dtype=self.dtype)
        return whisper_recognizer(hub)


def excerpt(lines: list[Line], question: str | None, limit: int) -> str:
    """The lines about a question, or all, cut at a line or word end where they are longer than `limit` characters.

    A last line says how much was left out, and notes about what was not read are always kept.
    """
    text = select([line for line in lines if not line.is_note], question, limit)
    notes = [line.text for line in lines if line.is_note]
    if len(text) > limit:
        shown = cut_at_word(text, limit)
        place = f"after {len(shown)} of {len(text)} characters, in line {_count(shown)} of {_count(text)}"
        advice = "ask a narrower question" if question else "ask a question about the rest"
        text, notes = shown, [f"[cut {place}: {advice}]", *notes]
    return "\n".join([text, *notes])


def _count(text: str) -> int:
    return text.count("\n") + 1


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
