"""Damaged and hostile files end in one helpful sentence, or in the text that is there, within 10 s and 1 GB."""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from t3_agents.sandbox.check import check_sandbox
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.tools.readers.process import Worker, read_file
from t3_agents.tools.readers.records import Job, Line
from tests.helpers import broken_files as files


MEGABYTES = 1024

DRIVER = """
import json, sys
from t3_agents.errors import T3Error
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.workspace import Workspace
tool = InspectFileAsText()
tool.workspace = Workspace(sys.argv[1])
for path in sys.stdin:
    try:
        answer = {"text": tool(json.loads(path))}
    except T3Error as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""

PASSWORD = "is protected with a password"
ENTITIES, OUTSIDE = files.ENTITIES.encode(), files.OUTSIDE.encode()
# A program of this machine.
ELF = Path(sys.executable).read_bytes()[:100_000]
DOCX, XLSX, PPTX, EPUB = "writer.docx", "calc.xlsx", "impress.pptx", "pandoc.epub"


# Each with a pattern of the text that may be read, or None, and one of the error that may be raised, or None.
BROKEN = [
    (files.truncated("writer.pdf"), None, "cannot be read|holds no text"),
    (files.truncated(DOCX), None, "is damaged: it is no complete docx file"),
    (files.truncated(XLSX), None, "is damaged: it is no complete xlsx file"),
    (files.truncated(PPTX), None, "is damaged: it is no complete pptx file"),
    (files.truncated("infozip.zip"), None, "is damaged: it is no complete zip file"),
    (files.truncated("ffmpeg.mp3", 0.7), "Transcript .*meeting", None),
    (files.truncated("ffmpeg.wav", 0.7), "Transcript .*meeting", None),
    (files.truncated("sox.flac", 0.7), "Transcript .*meeting", "cannot be read"),
    (files.truncated("ffmpeg.mp4"), None, "cannot be read: it is damaged"),
    (files.truncated("pandoc.epub"), None, "is damaged"),
    (files.truncated("calc.xls"), None, "is no xls file inside: it is damaged"),
    (files.pdf_with_a_broken_picture, "A picture follows", None),
    (files.content("photo.pdf", b"\x89PNG\r\n\x1a\n" + bytes(50)), None, "is a picture: use visualizer"),
    (files.content("program.txt", ELF), None, "is a binary file of unknown kind"),
    (files.content("words.docx", b"only words"), None, "is no docx file inside"),
    (files.content("empty.pdf", b""), None, "is empty"),
    (files.locked("locked.pdf"), None, PASSWORD),
    (files.locked("locked.docx"), None, PASSWORD),
    (files.locked("locked.xlsx"), None, PASSWORD),
    (files.locked("locked.pptx"), None, PASSWORD),
    (files.locked("locked.zip"), r"sqlite.csv 65 bytes \(protected with a password\)", None),
    (files.locked("locked_aes.zip"), r"sqlite.json 133 bytes \(protected with a password\)", None),
    (files.flat_zip_bomb, "zeros.txt 1073741824 bytes\n.not unpacked: the files have 1,024 MB together", None),
    (files.lying_zip_bomb, "small.txt 10 bytes\n.small.txt cannot be unpacked", None),
    (files.nested_zip_bomb, "0.zip [0-9]+ bytes", None),
    (files.endless_zip, "not unpacked: an archive in an archive in an archive", None),
    (files.zip_with_a_million_names, "0000000 10 bytes", "cannot be read"),
    (files.zip_that_leads_out, "evil.txt 10 bytes(.|\n)*I was here", None),
    (files.zip_with_a_huge_picture, "huge.png has too many pixels(.|\n)*note.txt:\na picture", None),
    (files.sparse_csv, None, "has 500 MB; this tool reads up to 64 MB: read it in parts with code"),
    (files.csv_of_500_megabytes, None, "has 501 MB; this tool reads up to 64 MB: read it in parts with code"),
    (files.csv_of_one_line, "word,word(.|\n)*the rest of the file was not read", None),
    (files.csv_of_many_lines, "name,qty\nLamp,2\n(.|\n)*the rest of the file was not read", None),
    (files.csv_of_one_field, "name,note\n(.|\n)*the rest of the file was not read", None),
    (files.content("deep.json", b"[" * 100_000 + b"]" * 100_000), r"\[\[\[", None),
    (files.content("number.json", b'{"n": ' + b"7" * 1_000_000 + b"}"), "7777", None),
    (files.content("laughs.xml", b"<?xml version='1.0'?>" + ENTITIES + b"]><l>&e9;</l>"), "<l>&e9;</l>", None),
    (files.content("outside.xml", b"<?xml version='1.0'?>" + OUTSIDE + b"]><l>&out;</l>"), "<l>&out;</l>", None),
    (files.with_entity(DOCX, "word/document.xml", b"<w:document", b"Mira", "laughs"), "Harbour", "laughs.docx"),
    (files.with_entity(DOCX, "word/document.xml", b"<w:document", b"Mira", "outside"), "Harbour", "outside.docx"),
    (files.with_entity(XLSX, "xl/sharedStrings.xml", b"<sst", b"Rope", "laughs"), None, "cannot be read"),
    (files.with_entity(XLSX, "xl/sharedStrings.xml", b"<sst", b"Rope", "outside"), "Stock", "cannot be read"),
    (
        files.with_entity(PPTX, "ppt/slides/slide1.xml", b"<p:sld ", b"Bergen", "laughs"),
        "^Slide 1:\n.the rest of the file was not read: laughs.pptx cannot be read: it unpacks to too much data",
        None,
    ),
    (
        files.changed(XLSX, "xl/worksheets/sheet1.xml", files.wide_sheet, "wide.xlsx"),
        "Rope,12,4.5,2024-03-01,54",
        None,
    ),
    (files.changed(XLSX, "xl/worksheets/sheet1.xml", files.many_cells, "cells.xlsx"), "7\n7\n", "cannot be read"),
    (files.changed(XLSX, "xl/sharedStrings.xml", files.many_strings, "strings.xlsx"), "Sheet", "cannot be read"),
    (files.pdf_with_a_million_pages, None, "cannot be read|holds no text"),
    (files.pdf_that_refers_to_itself, None, "cannot be read|holds no text"),
    (files.wav_that_lies, "No speech was recognised", None),
    (files.content("deep.html", b"<div>" * 1_000_000 + b"at the bottom"), "at the bottom", "holds no text"),
    (files.mail_of_many_parts, None, "cannot be read: it is nested too deeply|takes longer"),
    (
        files.changed(
            EPUB,
            "EPUB/content.opf",
            lambda d: d.replace(b'href="text/', b'href="../../../../../etc/passwd#'),
            "paths.epub",
        ),
        "Harbour",
        "",
    ),
    (files.content("wide.txt", "Größe, 7 m\n".encode("utf-16-le") * 9), "^Größe, 7 m\nGröße, 7 m", None),
    (files.content("zeros.txt", b"first line, words\0\nsecond line, more\n"), "^first line, words\nsec", None),
    (files.content("latin.txt", "naïve café".encode("latin-1")), "^naïve café$", None),
    (files.content("emoji.txt", "a 🦉 and a 👩‍🚀".encode()), "^a 🦉 and a 👩‍🚀$", None),
    (files.link_out, None, "leads out of the workspace"),
    (files.device, None, "leads out of the workspace"),
    (files.fifo, None, "There is no file"),
    (files.directory, None, "it is a folder"),
]


class Driver:
    """A process with the tool in it, watched: the memory of it and of all processes below it."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, path: str) -> tuple[dict, float]:
        """The tool's answer about a file, and the memory in MB: the peaks of all its processes, added up."""
        peaks: dict[int, int] = {}
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(peaks, done))
        watcher.start()
        try:
            print(json.dumps(path), file=self.process.stdin, flush=True)
            answer = json.loads(self.process.stdout.readline())
        finally:
            done.set()
            watcher.join()
        return answer, sum(peaks.values()) / 2**10

    def _watch(self, peaks: dict[int, int], done: threading.Event) -> None:
        root = psutil.Process(self.process.pid)
        while True:
            for process in [root, *root.children(recursive=True)]:
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:
                    continue
                # The kernel's own record of the peak; a process that has just ended has none.
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                if peak:
                    peaks[process.pid] = int(peak[1])
            if done.wait(0.005):
                return


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = Driver(tmp_path_factory.mktemp("workspace"))
    driver.folder = Path(driver.process.args[-1])
    # The model of speech is loaded before memory is counted.
    assert "meeting" in driver.read(files.truncated("ffmpeg.mp3", 1)(driver.folder))[0]["text"]
    yield driver
    driver.process.stdin.close()
    assert driver.process.wait(10) == 0


@pytest.fixture
def tool(use):
    return use(InspectFileAsText())


@pytest.mark.slow
@pytest.mark.parametrize(("write", "text", "error"), BROKEN)
def test_broken_file(driver, write, text, error):
    name = write(driver.folder)
    try:
        answer, megabytes = driver.read(name)
    finally:
        path = driver.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "error" in answer:
        said, expected = answer["error"], error
        assert "\n" not in said and len(said) < 300 and said.endswith(".")
    else:
        said, expected = answer["text"], text
    print(f"{name}: {megabytes:.0f} MB: {said[:200]!r}")
    assert megabytes < MEGABYTES
    assert expected is not None and re.search(expected, said), said
    assert "root:" not in said


def test_a_document_makes_no_connection(tool, put, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/picture.png"
        relation = (
            '<Relationship Id="rId99" TargetMode="External" '
            f'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/image" Target="{address}"/>'
            "</Relationships>"
        )
        part = "word/_rels/document.xml.rels"
        files.changed(DOCX, part, files.replaced(b"</Relationships>", relation.encode()), "links.docx")(tmp_path)
        assert "Harbour report" in tool(put(tmp_path / "links.docx"))
        page = f'<html><head><link rel="stylesheet" href="{address}"></head><body>Words<img src="{address}"></body>'
        assert "Words" in tool(put(page.encode(), "links.html"))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_nothing_is_unpacked_outside(tool, put, tmp_path, workspace):
    assert "I was here" in tool(put(tmp_path / files.zip_that_leads_out(tmp_path)))
    assert workspace.list() == ["files/out.zip"] and not list(tmp_path.rglob("evil.txt"))
    assert not Path("/tmp/evil.txt").exists()


def test_modules_beside_the_file_are_not_imported(tool, put, workspace):
    """The first reading starts a process; here it starts where a model left files that are named as modules are."""
    for name in ("json.py", "t3_agents.py", "kreuzberg.py", "zipfile.py"):
        (workspace.root / name).write_text("raise SystemExit('hijacked')")
    code = "from t3_agents.tools.inspect_file_as_text import InspectFileAsText; import os; os.chdir({!r}); "
    code += "print(InspectFileAsText()('files/t.txt'))"
    put(b"plain words", "t.txt")
    run = subprocess.run(
        [sys.executable, "-c", code.format(str(workspace.root))], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "plain words"


def test_keys_do_not_reach_the_parsers():
    code = (
        "import os; os.environ['OPENAI_API_KEY'] = 'sk-secret'\n"
        "from pathlib import Path\n"
        "from t3_agents.tools.inspect_file_as_text import InspectFileAsText\n"
        "Path('t.txt').write_text('words'); InspectFileAsText()('t.txt')\n"
        "import psutil; print([child.environ().get('OPENAI_API_KEY') for child in psutil.Process().children()])"
    )
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert run.stdout.strip() == "[None]"


def test_the_reading_processes_end_with_a_killed_parent(tmp_path):
    driver = Driver(tmp_path)
    (tmp_path / "t.txt").write_text("words")
    assert driver.read("t.txt")[0]["text"] == "words"
    root, deadline = psutil.Process(driver.process.pid), time.monotonic() + 120
    idle = set(root.children(recursive=True))
    # The process that reads this is busy for seconds.
    print(json.dumps(files.csv_of_many_lines(tmp_path)), file=driver.process.stdin, flush=True)
    while not set(below := root.children(recursive=True)) - idle and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(below) - idle
    driver.process.kill()
    driver.process.wait()
    assert psutil.wait_procs(below, timeout=120)[1] == []


INTRUDER = """
import json, os, socket, sys
from t3_agents.tools.readers.worker import _refuse_calls
jobs = socket.socket(fileno=0)
message, (answer,), _, _ = socket.recv_fds(jobs, 2**16, 1)
job = json.loads(message)
_refuse_calls()
def tries(call):
    try:
        return str(call())
    except OSError as error:
        return type(error).__name__
made = job["scratch"]
os.symlink("/etc/passwd", f"{made}/link.png")
open(f"{made}/plain.png", "w").write("pixels")
seen = {
    "own file": tries(lambda: open(job["path"]).read()),
    "list": tries(lambda: os.listdir("/workspace")),
    "chmod": tries(lambda: os.chmod("/workspace", 0o700)),
    "chmod in": tries(lambda: os.chmod(made, 0o700)),
    "secret": tries(lambda: open(SECRET).read()),
    "passwd": tries(lambda: open("/etc/passwd").read()),
    "network": tries(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "programs": [path for path in ("/usr/bin/env", "/bin/sh", "/proc/self", KEYS) if os.path.exists(path)],
    "variables": sorted(set(os.environ) & {"PATH_OF_KEYS"}),
}
records = [["Line", json.dumps(seen), "", False, False], ["Picture", f"{made}/plain.png", "a"], [*FORGED]]
os.write(answer, "".join(json.dumps(record) + "\\n" for record in [*records, ["End"]]).encode())
"""


@pytest.mark.skipif(not check_sandbox().available, reason="needs bubblewrap")
@pytest.mark.parametrize(
    "forged",
    [
        *(["Picture", path, "x"] for path in ("/etc/passwd", "link.png", "../../etc/passwd", "..", "", "gone.png")),
        *(["Line", 7], ["Line"], ["Picture", 7, "x"], ["Sound", "plain.png", "long"], ["Strange", "x"], [], [[]], [7]),
    ],
    ids=str,
)
def test_a_parser_that_was_taken_over_reaches_nothing(tmp_path, monkeypatch, forged):
    """Code in the place of the process that reads, behind the same walls, which lies about what it has read."""
    monkeypatch.setenv("PATH_OF_KEYS", "secret")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "file.txt").write_text("own words")
    (tmp_path / "scratch").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = INTRUDER.replace("SECRET", repr(str(tmp_path / "secret.txt"))).replace("FORGED", repr(forged))
        code = code.replace("PORT", str(server.getsockname()[1])).replace(" KEYS)", f" {str(Path.home() / '.ssh')!r})")
        worker = Worker(["-c", code])
        read = list(read_file(Job(str(tmp_path / "file.txt"), "file.txt", str(tmp_path / "scratch")), worker=worker))
    seen = json.loads(read[0].text)
    assert seen.pop("own file") == "own words" and seen.pop("variables") == [] and seen.pop("programs") == []
    assert all(value.endswith("Error") for value in seen.values()), seen
    assert Path(read[1].path).read_text() == "pixels" and Path(read[1].path).parent == tmp_path / "scratch"
    assert read[2] == Line("[the rest of the file was not read: file.txt cannot be read: it is damaged]", is_note=True)
    assert [path.read_text() for path in (tmp_path / "scratch").iterdir() if path.is_file()].count("pixels") == 1


def test_a_killed_reading_process_is_replaced(tmp_path):
    driver = Driver(tmp_path)
    (tmp_path / "t.txt").write_text("words")
    for _ in range(2):
        assert driver.read("t.txt")[0]["text"] == "words"
        for process in psutil.Process(driver.process.pid).children():
            process.kill()
    driver.process.kill()


def test_files_are_read_at_the_same_time(tool, put):
    paths = [put(f"these are the words of file {n}\n".encode() * 1000, f"{n}.txt") for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(tool, paths))
    assert all(text.startswith(f"these are the words of file {n}\n") for n, text in enumerate(texts))
