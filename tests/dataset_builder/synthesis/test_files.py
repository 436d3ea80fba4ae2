import io
import wave
import zipfile

import pytest
from PIL import Image

from dataset_builder.synthesis import Candidate, Failed, PlannedFile, Rejected
from dataset_builder.synthesis.stages import files
from dataset_builder.synthesis.stages.files import check_made_file
from t3_agents.errors import InputError
from t3_agents.sandbox import SandboxLimits
from tests.helpers.replies import Replies
from tests.helpers.teacher_programs import HOSTILE_PROGRAMS, file_program


TABLE = "Heading: Costs. Columns: Name, Month, Spending. Rows: flour | May | 120; sugar | June | 45; rent | May | 900"


def candidate_of(*names, content=TABLE):
    plan = tuple(PlannedFile(name, name.rsplit(".", 1)[1], content) for name in names)
    return Candidate("gaia-0-0", "gaia", "How much did we spend on flour in May?", plan=plan)


def made(*names, replies):
    teacher = Replies(*replies)
    return files.make_files(candidate_of(*names), teacher, corpus=None), teacher


@pytest.mark.parametrize("kind", ["csv", "xlsx", "docx", "pdf", "pptx", "json", "html", "md", "txt", "xml"])
def test_programs_make_every_kind_of_document(kind):
    name = f"costs.{kind}"
    candidate, _ = made(name, replies=[{"code": file_program(name, TABLE)}])
    (file,) = candidate.files
    assert file.path == f"files/{name}"
    text = check_made_file(file.read_bytes(), name)
    assert all(word in text for word in ("flour", "120", "900"))
    assert candidate.provenance["make_files"]["sources"][0]["rounds"] == 1


def test_a_program_makes_a_recording():
    program = (
        "import numpy as np, soundfile\n"
        "soundfile.write('tone.mp3', 0.3 * np.sin(np.arange(32000) / 9), 16000, format='MP3')"
    )
    candidate, _ = made("tone.mp3", replies=[{"code": program}])
    assert candidate.files[0].media_type == "audio/mpeg"
    assert check_made_file(candidate.files[0].read_bytes(), "tone.mp3") == "[sound]"


def test_several_files_share_a_sandbox_but_not_a_folder():
    programs = [{"code": file_program(name, TABLE)} for name in ("a.csv", "b.txt")]
    candidate, model = made("a.csv", "b.txt", replies=programs)
    assert [file.path for file in candidate.files] == ["files/a.csv", "files/b.txt"]
    assert candidate.provenance["make_files"]["input_tokens"] == 200
    assert len(model.asked) == 2


def test_the_error_goes_back_once():
    wrong = "import openpyxl\nopenpyxl.Workbok().save('a.csv')"
    candidate, model = made(
        "a.csv", replies=[{"code": wrong}, {"code": f"```py\n{file_program('a.csv', TABLE)}\n```"}]
    )
    assert "Workbok" in model.asked[1]
    assert "has no attribute" in model.asked[1]
    assert candidate.provenance["make_files"]["sources"][0]["rounds"] == 2


def test_two_wrong_programs_reject_the_candidate_with_the_error():
    with pytest.raises(Rejected, match="csv: There is no file `a.csv`") as caught:
        made("a.csv", replies=[{"code": "x = 1"}])
    assert caught.value.candidate.provenance["make_files"]["code"] == "x = 1"
    assert caught.value.candidate.provenance["make_files"]["output_tokens"] == 20


def test_a_teacher_that_writes_no_program_is_a_failure():
    with pytest.raises(Failed):
        made("a.csv", replies=["Sorry, I cannot help with that."])


@pytest.mark.parametrize("program", HOSTILE_PROGRAMS[:5], ids=["link", "network", "destroy", "pipe", "fill"])
def test_hostile_programs_end_in_a_reason(program, tmp_path):
    with pytest.raises(Rejected) as caught:
        made("a.txt", replies=[{"code": program.format(name="a.txt")}])
    assert caught.value.stage == "make_files"
    assert caught.value.reason.startswith("txt: ")
    assert "root:" not in str(caught.value.candidate.to_dict())


@pytest.mark.parametrize("program", ["while True: pass", "rows = ['x']\nwhile True:\n    rows += rows"])
def test_endless_programs_are_ended(program):
    from t3_agents.sandbox import SandboxExecutor
    from t3_agents.workspace import Workspace

    with Workspace() as workspace:
        sandbox = SandboxExecutor(["*"], workspace, SandboxLimits(time_limit=2, memory_mb=512))
        try:
            with pytest.raises(files.BadProgram, match="time|MemoryError|memory"):
                files.run_program(program, PlannedFile("a.txt", "txt", TABLE), sandbox)
            good = PlannedFile("a.txt", "txt", TABLE)
            assert b"flour" in files.run_program(file_program("a.txt", TABLE), good, sandbox)
        finally:
            sandbox.cleanup()


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, format=kind)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def sound():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(b"\0\1" * 16000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", "csv", "is empty"),
        (picture("PNG"), "jpg", "another format than jpg"),
        (picture("JPEG")[:200], "jpg", "not a readable image"),
        (picture("PNG"), "pdf", "extension .pdf"),
        (zipped(**{"xl/workbook.xml": "<x/>"}), "docx", "extension .docx"),
        (b"not a zip", "xlsx", "no xlsx file"),
        (b"PK\x03\x04broken", "pptx", "no pptx file"),
        (b"{'a': 1}", "json", "no json file"),
        (b"<a><b></a>", "xml", "no xml file"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "xml", "entities"),
        (b"a,b\n1,2,3\n", "csv", "2 to 3 columns"),
        (b"\xff\xfe\x00\x01" * 10, "txt", "no txt file"),
        (b"a,b\n", "csv", "without rows"),
        (b"RIFF0000WAVE", "wav", "wav"),
        (b"%PDF-1.7\ngarbage", "pdf", "pdf"),
        (b"x" * (17 * 2**20), "txt", "17 MB"),
    ],
)
def test_files_that_are_not_what_they_claim_are_refused(data, kind, words):
    with pytest.raises(InputError, match=words):
        check_made_file(data, f"made.{kind}")


@pytest.mark.parametrize(
    ("data", "kind"), [(picture("PNG"), "png"), (sound(), "wav"), (zipped(**{"a.txt": "a word"}), "zip")]
)
def test_files_that_are_what_they_claim_pass(data, kind):
    check_made_file(data, f"made.{kind}")
