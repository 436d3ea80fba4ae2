import pytest

from dataset_builder.synthesis import Candidate, Failed, Rejected
from dataset_builder.synthesis.stages.planning import plan_files
from tests.helpers.replies import Replies


def candidate_of(flavor="gaia"):
    return Candidate("x-0-0", flavor, "How much did we spend on flour in my table?", ("inspect_file_as_text",))


def file(name, kind, content="a table of spending with rows"):
    return {"name": name, "kind": kind, "content": content}


def test_a_plan_gets_safe_names_and_known_kinds():
    files = [file("../Our costs (2024).XLSX", "Excel"), file("photo.jpeg", "image")]
    planned = plan_files(candidate_of(), Replies({"from_web": [" price of flour ", ""], "files": files}))
    assert [(entry.name, entry.kind) for entry in planned.plan] == [
        ("Our_costs_2024.xlsx", "xlsx"),
        ("photo.jpg", "jpg"),
    ]
    assert planned.from_web == ("price of flour",)
    assert planned.provenance["plan_files"]["prompt"] == "plan_files/1"
    assert planned.provenance["plan_files"]["output_tokens"] == 10


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"from_web": [], "files": []}, "neither files nor"),
        ({"files": [file("a.psd", "psd")]}, "kind `psd`"),
        ({"files": [file("a.csv", "csv"), file("A.csv", "csv")]}, "two files of one name"),
        ({"files": [file("a.csv", "csv", "data")]}, "does not say what is in a.csv"),
        ({"files": [file(f"{n}.csv", "csv") for n in range(4)]}, "4 files, more than 3"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_rejected(plan, reason):
    with pytest.raises(Rejected, match=reason) as caught:
        plan_files(candidate_of(), Replies(plan))
    assert caught.value.candidate.provenance["plan_files"]["model"] == "replies-1"


def test_a_picture_task_needs_a_picture():
    with pytest.raises(Rejected, match="no picture"):
        plan_files(candidate_of("gta"), Replies({"files": [file("a.csv", "csv")]}))


def test_a_reply_that_cannot_be_used_is_a_failure_with_its_reason():
    with pytest.raises(Failed) as caught:
        plan_files(candidate_of(), Replies("Ich weiss es nicht."))
    assert caught.value.stage == "plan_files"
    assert caught.value.candidate.provenance["plan_files"]["problem"] == caught.value.reason
