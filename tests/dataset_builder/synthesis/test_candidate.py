import json

import pytest

from dataset_builder.synthesis import Candidate, PlannedFile, Verdict
from t3_agents.errors import InputError
from t3_agents.storage import BlobStore
from t3_agents.task import File
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step


def make_candidate():
    files = (File.from_bytes(b"a,b\n1,2\n", "files/table.csv"),)
    candidate = Candidate(
        id="gaia-3-1",
        flavor="gaia",
        query="What is the sum of the second column in my table?",
        expected_tools=("inspect_file_as_text",),
        domain="finance",
        split="validation",
        seed_queries=("gaia-01",),
        from_web=("nothing",),
        plan=(PlannedFile("table.csv", "csv", "two columns"),),
        files=files,
        verdicts=(Verdict("queries", True, "fine", {"a": True}),),
        provenance={"queries": {"model": "m", "cost": 0.1}},
    )
    step = Step(model_output="x", code="final_answer(2)", is_final=True)
    return candidate.add("solve", {"model": "m"}, trajectory=Trajectory(candidate.to_task(), steps=[step], answer="2"))


def test_a_candidate_survives_json_and_a_blob_store(tmp_path):
    blobs = BlobStore(tmp_path / "blobs")
    candidate = make_candidate()
    record = json.loads(json.dumps(candidate.stored_in(blobs).to_dict()))
    back = Candidate.from_dict(record, blobs)
    assert back == candidate
    assert back.files[0].read_bytes() == b"a,b\n1,2\n"
    assert back.trajectory.task.files[0].read_bytes() == b"a,b\n1,2\n"
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "t3-candidate/9"}, "t3-candidate/9"),
        ({"color": 1}, "unknown field `color`"),
        ({"query": 3}, "Field `query`"),
        ({"flavor": "gsm8k"}, "no flavor `gsm8k`"),
        ({"from_web": [1]}, "Field `from_web`"),
        ({"plan": [{"name": "a.csv", "kind": "csv"}]}, "no field `content`"),
        ({"verdicts": [{"stage": "s", "accepted": 1, "reason": "", "checks": {}}]}, "Field `accepted`"),
    ],
)
def test_a_wrong_record_is_refused_by_its_field(change, words):
    with pytest.raises(InputError, match=words):
        Candidate.from_dict({**make_candidate().to_dict(), **change})


def test_a_task_says_where_it_comes_from():
    task = make_candidate().to_task()
    assert task.tools == ("inspect_file_as_text",)
    assert task.domain == "finance"
    assert task.origin["candidate"] == "gaia-3-1"
