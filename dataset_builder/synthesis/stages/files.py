"""The third stage: pictures from a captioned corpus, everything else by Python that the teacher writes."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError

from t3_agents.errors import InputError
from t3_agents.media import PICTURES, check_form, suffix_of
from t3_agents.models.device import num_cores
from t3_agents.sandbox import SandboxExecutor, SandboxLimits
from t3_agents.storage import scratch_folder
from t3_agents.task import File
from t3_agents.tools.local.text import shorten
from t3_agents.tools.readers.process import read_file
from t3_agents.tools.readers.records import Job, Line
from t3_agents.turns import execution_error, parse_turn
from t3_agents.workspace import Workspace

from ..candidate import Candidate, PlannedFile, Rejected
from .asking import ask, load_stage_prompt, merged
from .planning import IMAGE_KINDS


if TYPE_CHECKING:
    from ..corpus.image_corpus import ImageCorpus
    from ..teacher import Teacher


PLACES = threading.BoundedSemaphore(2 * num_cores())
"""Held while a program or a parser runs; never two by one thread. Hundreds of candidates may be under way, nearly all
of them waiting for a reply: programs and parsers take turns, so that memory stays bounded and a limit of seconds means
the same with one candidate and with hundreds."""
MAX_BYTES = 16 * 2**20
"""Size of a made file."""
MAX_PIXELS = 2**24
EXCERPT_CHARS = 3000
"""Characters of a file that a verifier is shown."""

_KEPT = 256


def check_made_file(data: bytes, name: str) -> str:
    """Open a file with the parsers that a tool would use.

    Args:
        data (`bytes`): its content.
        name (`str`): its name; the extension says what it must be.

    Returns:
        `str`: what can be read in it, at most `EXCERPT_CHARS` characters; empty for pictures.

    Raises:
        InputError: when it is not what it should be; the message says what is wrong.
    """
    if not data:
        raise InputError(f"{name} is empty.")
    if len(data) > MAX_BYTES:
        raise InputError(f"{name} has {len(data) / 2**20:.0f} MB, more than the {MAX_BYTES // 2**20} MB allowed.")
    check_form(data, name, MAX_PIXELS)
    if suffix_of(name) in PICTURES:
        return ""
    lines = _lines_of(data, name)
    text = "\n".join(lines)
    # A reader gives the header of a table with its first row, so one line is a table without rows.
    if suffix_of(name) == "xlsx" and len(lines) < 2:
        raise InputError(f"{name} is a table without rows.")
    if not text.strip():
        raise InputError(f"{name} opens, but there is nothing to read in it.")
    return shorten(text, EXCERPT_CHARS)


class _Excerpts:
    """What was read of the last files: both verifiers show the same files to the teacher."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: File) -> str:
        key = file.sha256, Path(file.path).name
        with self._lock:
            if key in self._texts:
                return self._texts[key]
        text = shorten("\n".join(_lines_of(file.read_bytes(), key[1])), EXCERPT_CHARS)
        with self._lock:
            self._texts[key] = text
            if len(self._texts) > _KEPT:
                self._texts.popitem(last=False)
        return text


_excerpts = _Excerpts()


def excerpt_of(file: File) -> str:
    """The start of what can be read in a file of a task; empty for pictures."""
    return "" if file.is_image else _excerpts.get(file)


def _lines_of(data: bytes, name: str) -> list[str]:
    with scratch_folder() as folder:
        path, scratch = Path(folder, name), Path(folder, "scratch")
        path.write_bytes(data)
        scratch.mkdir()
        with PLACES:
            records = list(read_file(Job(str(path), name, str(scratch))))
    # Pictures and sounds inside a file count as content; a note is about what could not be read.
    return [
        record.text if isinstance(record, Line) else f"[{type(record).__name__.lower()}]"
        for record in records
        if not (isinstance(record, Line) and record.is_note)
    ]


STAGE = "make_files"
_LIBRARIES = {
    "openpyxl": "openpyxl",
    "docx": "python-docx (docx)",
    "pptx": "python-pptx (pptx)",
    "fpdf": "fpdf2 (fpdf)",
    "matplotlib": "matplotlib",
    "PIL": "Pillow (PIL)",
    "numpy": "numpy",
    "pandas": "pandas",
    "soundfile": "soundfile (writes wav and mp3)",
    "av": "PyAV (av, writes mp4)",
}
LIMITS = SandboxLimits(memory_mb=1024, time_limit=60, cpu_time_limit=20, file_mb=32, disk_mb=64, num_files=50)
"""What code that makes a file may use."""


@functools.cache
def installed_libraries() -> str:
    """What a program may import here, in words: the sandbox sees the packages of this environment."""
    installed = [words for module, words in _LIBRARIES.items() if importlib.util.find_spec(module)]
    return ", ".join([*installed, "the standard library"])


class FileProgram(BaseModel):
    """A program that makes a file."""

    code: str = Field(description="the whole Python program")


class BadProgram(Exception):
    """The program did not make the file; the message is what the teacher is told."""


def make_files(candidate: Candidate, teacher: Teacher, corpus: ImageCorpus | None) -> Candidate:
    """Find or make every file of the plan.

    Args:
        candidate ([`Candidate`]): with its plan.
        teacher ([`Teacher`]): who writes the programs.
        corpus ([`ImageCorpus`], *optional*): where pictures come from; needed when the plan has some.

    Returns:
        [`Candidate`]: with `files`, in the order of the plan.

    Raises:
        Rejected: when no picture is near, or two programs did not make a file that is what it should be.
        Failed: when the teacher's reply cannot be used.
    """
    made: list[File] = []
    provenance: dict[str, Any] = {"sources": []}
    # One sandbox for all the files of a task, started at the first that needs it.
    with Workspace() as workspace:
        sandbox = SandboxExecutor(["*"], workspace, LIMITS)
        try:
            for planned in candidate.plan:
                if planned.kind in IMAGE_KINDS:
                    file, source = _find_picture(candidate, planned, corpus)
                else:
                    file, source, usage = _write_file(candidate, planned, teacher, sandbox)
                    provenance = {**merged(provenance, usage), "sources": provenance["sources"]}
                made.append(file)
                provenance["sources"].append({"path": file.path, **source})
        finally:
            sandbox.cleanup()
    return candidate.add(STAGE, provenance, files=tuple(made))


def _find_picture(
    candidate: Candidate, planned: PlannedFile, corpus: ImageCorpus | None
) -> tuple[File, dict[str, Any]]:
    if corpus is None:
        raise InputError("The plan has pictures and there is no image corpus: give one, see `image_corpus`.")
    found = corpus.nearest(planned.content, planned.kind)
    if found is None:
        raise Rejected(STAGE, f"no picture of the corpus can be opened for {planned.name}", candidate)
    source = {"corpus": corpus.name, "row": found.row, "caption": found.caption, "likeness": round(found.likeness, 4)}
    return File.from_bytes(found.data, f"files/{planned.name}"), source


def _write_file(
    candidate: Candidate, planned: PlannedFile, teacher: Teacher, sandbox: SandboxExecutor
) -> tuple[File, dict[str, Any], dict[str, Any]]:
    """The file, where it comes from, and the provenance of the calls; one repair round with the error."""
    prompt = load_stage_prompt(STAGE)
    usage: dict[str, Any] = {}
    code = error = ""
    for rounds in (1, 2):
        text = prompt.render(
            file=planned,
            query=candidate.query,
            libraries=installed_libraries(),
            seconds=int(LIMITS.cpu_time_limit),
            code=code,
            error=error,
        )
        program, call = ask(teacher, STAGE, candidate, prompt, text, FileProgram)
        usage = merged(usage, call)
        code = _bare(program.code)
        try:
            data = run_program(code, planned, sandbox)
        except BadProgram as problem:
            error = str(problem)
            continue
        return File.from_bytes(data, f"files/{planned.name}"), {"code": code, "rounds": rounds}, usage
    rejected = candidate.add(STAGE, {**usage, "code": code, "problem": error})
    raise Rejected(STAGE, f"{planned.kind}: {error}", rejected)


def run_program(code: str, planned: PlannedFile, sandbox: SandboxExecutor) -> bytes:
    """Run a program in the sandbox and take the file that it made.

    Raises:
        BadProgram: when it raised, ran too long, used too much, or the file is not what it should be.
    """
    # What an earlier program left behind (a folder, a pipe of this name) is no fault of this one.
    sandbox.workspace.keep_only({})
    try:
        with PLACES:
            sandbox(code)
    except (ExecutionTimeoutError, InterpreterError) as error:
        raise BadProgram(execution_error(error)) from None
    try:
        data = sandbox.workspace.read_bytes(planned.name)
        check_made_file(data, planned.name)
    except InputError as error:
        raise BadProgram(str(error)) from None
    return data


def _bare(code: str) -> str:
    """A program without a fence around it."""
    _, inside, blocks = parse_turn(code)
    return inside if blocks and inside else code
