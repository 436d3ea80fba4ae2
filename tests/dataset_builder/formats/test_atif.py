"""ATIF documents: valid by the published rules, and nothing lost on the way there and back."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from dataset_builder.formats.reading import import_rows
from dataset_builder.formats.writing import export_rows
from dataset_builder.mm_traj import read_records
from t3_agents.storage import BlobStore, read_rows
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from tests.helpers.released_rows import SAMPLE, write_pictures
from tests.helpers.run_samples import make_trajectory, picture, write_shard
from tests.helpers.tiny_vlm import turn


def odd_trajectory(folder) -> Trajectory:
    """Everything that a record can hold: plans, further requests, both observation and error, a picture in BMP."""
    buffer = io.BytesIO()
    Image.new("RGB", (5, 5), "red").save(buffer, format="BMP")
    attached = File.from_bytes(buffer.getvalue(), "files/a.bmp")
    brought = File.from_bytes(picture((1, 1, 1)), "outputs/b.png")
    later = File.from_bytes(picture((2, 2, 2)), "files/c.png")
    steps = [
        Step(kind="plan", model_output="First look.", thought="First look.", seconds=1.25, output_tokens=3),
        Step(
            model_output=turn("1/0", "x"),
            thought="a thought that is not in the text",
            code="1/0",
            observation="Error: is printed\n  \n",
            error=" ZeroDivisionError: \ud800 ",
            images=[1],
            tools=["visualizer", "visualizer"],
            output_ids=[5, 0, 7],
            input_tokens=1000,
            output_tokens=3,
        ),
        Step(model_output="no code", thought="no code", observation="Say it in code."),
        Step(model_output="It is red.", thought="It is red.", is_final=True, observation="kept"),
        Step(kind="task", observation="And this?", images=[2]),
        Step(output_ids=[]),
    ]
    return Trajectory(
        task=Task(id="odd/../id", query="Which?  \n", files=(attached,), domain="art", tools=("visualizer",)),
        steps=steps,
        images=[attached, brought, later],
        end_reason="token_budget",
        provenance={"controller": None, "nested": {"a": [1, None, 0.1]}},
    )


def documents_of(folder) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def validate(document: dict, folder) -> None:
    """The rules of the specification, by an implementation that is not ours; and every named file is there."""
    import atif

    parsed = atif.Trajectory.model_validate(document)
    for step in parsed.steps:
        contents = [
            step.message,
            *(result.content for result in (step.observation.results if step.observation else [])),
        ]
        for content in contents:
            for part in content if isinstance(content, list) else []:
                assert part.type == "text" or (folder / part.source.path).is_file()


def test_own_rows_are_valid_and_come_back_the_same(tmp_path, run_folder):
    write_shard(run_folder, "train-odd", [odd_trajectory(tmp_path)])
    counts = export_rows(run_folder, tmp_path / "out", "atif")
    documents = documents_of(tmp_path / "out")
    assert counts.exported == len(documents) == 11
    for document in documents:
        validate(document, tmp_path / "out")
    counts = import_rows("atif", tmp_path / "out", tmp_path / "back")
    assert (counts.kept, counts.dropped) == (11, 0)
    for split in ("train", "validation", "test"):
        given = list(read_records(run_folder, split))
        assert list(read_records(tmp_path / "back", split)) == given
        for record in given:
            for file in (*record["task"]["files"], *record["images"]):
                blob = BlobStore(run_folder / "blobs").get(file["sha256"])
                assert BlobStore(tmp_path / "back" / "blobs").get(file["sha256"]) == blob


def test_what_other_readers_see(tmp_path):
    write_shard(tmp_path / "run", "train-a", [make_trajectory(tmp_path / "f", 1)])
    export_rows(tmp_path / "run", tmp_path / "out", "atif")
    (document,) = documents_of(tmp_path / "out")
    system, user, action, answer = document["steps"]
    assert [step["source"] for step in document["steps"]] == ["system", "user", "agent", "agent"]
    assert document["schema_version"] == "ATIF-v1.7" and document["agent"]["model_name"] == "offline"
    assert system["message"] == "You solve tasks with code."
    assert [part["type"] for part in user["message"]] == ["image", "text"]
    assert action["tool_calls"][0]["arguments"]["code"].startswith("print(visualizer(")
    (result,) = action["observation"]["results"]
    assert result["source_call_id"] == action["tool_calls"][0]["tool_call_id"]
    assert result["content"][1]["text"] == "a receipt ☕\n\ttotal 7"
    assert action["metrics"]["completion_token_ids"] == [1, 2, 49151]
    assert "observation" not in answer


def test_released_rows_are_valid_documents(tmp_path):
    import_rows("mm-traj", SAMPLE, tmp_path / "run", images=write_pictures(tmp_path / "images"))
    export_rows(tmp_path / "run", tmp_path / "out", "atif")
    documents = documents_of(tmp_path / "out")
    assert len(documents) == 20
    for document in documents:
        validate(document, tmp_path / "out")


def foreign(**fields):
    call = {"tool_call_id": "c1", "function_name": "fs.read-file", "arguments": {"path": "a.txt", "n": 2}}
    shown = {"type": "image", "source": {"media_type": "image/png", "path": "images/s.png"}}
    steps = [
        {"source": "system", "message": "You are helpful."},
        {
            "source": "user",
            "message": [{"type": "text", "text": "What is in a.txt?"}],
            "timestamp": "2026-01-02T03:04:05Z",
        },
        {
            "source": "agent",
            "message": "I read it.",
            "reasoning_content": "A file.",
            "tool_calls": [call],
            "observation": {"results": [{"source_call_id": "c1", "content": [{"type": "text", "text": "hi"}, shown]}]},
            "metrics": {"prompt_tokens": 10, "completion_tokens": 4, "cost_usd": 0.1},
        },
        {"source": "agent", "message": "It says hi."},
        {"source": "user", "message": "Thanks. In German?"},
        {"source": "agent", "message": "Hallo."},
    ]
    document = {
        "schema_version": "ATIF-v1.6",
        "session_id": "s-1",
        "agent": {"name": "other", "version": "2"},
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
    }
    return {**document, **fields}


def import_documents(tmp_path, documents, **options):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    return import_rows("atif", tmp_path / "in.jsonl", tmp_path / "taken", **options)


def test_a_document_of_another_agent_becomes_code_actions(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "s.png").write_bytes(picture((3, 3, 3)))
    validate(foreign(), tmp_path)
    counts = import_documents(tmp_path, [foreign()])
    assert (counts.kept, counts.reasons) == (1, {})
    (record,) = read_records(tmp_path / "taken", "train")
    trajectory = Trajectory.from_dict(record, BlobStore(tmp_path / "taken" / "blobs"))
    action, said, request, answer = trajectory.steps
    assert trajectory.task.id == "s-1" and trajectory.system_prompt == "You are helpful."
    assert action.code == "print(fs_read_file(path='a.txt', n=2))"
    assert action.model_output.startswith("Thought: A file.\nI read it.\nCode:\n```py\n")
    assert (action.observation, action.tools, action.input_tokens) == ("hi", ["fs_read_file"], 10)
    assert [image.path for image in trajectory.images] == ["outputs/s.png"]
    assert said.is_final and request.kind == "task" and answer.is_final
    assert trajectory.answer == "Hallo."
    left_out = trajectory.provenance["atif"]["left_out"]
    assert left_out == ["steps.metrics", "steps.timestamp"]


BROKEN = {
    "another format": ({"schema_version": "ATIF-v2.0"}, "reads ATIF-v1"),
    "no steps": ({"steps": []}, "no user step"),
    "steps that do not count": ({"steps": [{"step_id": 2, "source": "user", "message": "x"}]}, "count from 1"),
    "copied context": (
        {"steps": [{"step_id": 1, "source": "user", "message": "x", "is_copied_context": True}]},
        "copied context",
    ),
    "a part without text": ({"steps": [{"step_id": 1, "source": "user", "message": [{"type": "text"}]}]}, ""),
    "a picture out of the folder": (
        {
            "steps": [
                {
                    "step_id": 1,
                    "source": "user",
                    "message": [{"type": "image", "source": {"media_type": "image/png", "path": "../../x.png"}}],
                },
                {"step_id": 2, "source": "agent", "message": "x"},
            ]
        },
        "not a path inside",
    ),
}


@pytest.mark.parametrize(("fields", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_document_is_dropped_with_its_reason(tmp_path, fields, reason):
    counts = import_documents(tmp_path, [foreign(session_id="x", **fields)])
    assert (counts.kept, counts.dropped) == (0, 1)
    (dropped,) = read_rows(tmp_path / "taken" / "rejected" / "train-atif.jsonl")
    assert reason in dropped["reasons"][0]


def test_an_edited_or_incomplete_own_document_is_not_taken_for_the_record(tmp_path, run_folder):
    export_rows(run_folder, tmp_path / "out", "atif")
    documents = documents_of(tmp_path / "out")
    with_picture = next(d for d in documents if len(d["extra"]["t3_trajectory"]["images"]) == 2)
    edited = json.loads(json.dumps(with_picture))
    edited["steps"][1]["message"] = "Something else?"
    swapped = json.loads(json.dumps(with_picture))
    files = swapped["extra"]["t3_trajectory"]["files"]
    files.update(dict.fromkeys(files, next(iter(files.values()))))
    bare = json.loads(json.dumps(with_picture))
    del bare["steps"][2]["extra"]
    counts = import_documents(tmp_path, [edited, swapped, bare], images=tmp_path / "out")
    assert counts.kept == 0
    dropped = [r for p in (tmp_path / "taken" / "rejected").iterdir() for r in read_rows(p)]
    reasons = " ".join(reason for row in dropped for reason in row["reasons"])
    assert "no longer says" in reasons and "another file than" in reasons and "no field `extra`" in reasons

    missing = json.loads(json.dumps(with_picture))
    (tmp_path / "out" / missing["steps"][1]["message"][0]["source"]["path"]).unlink()
    (tmp_path / "taken").rename(tmp_path / "before")
    counts = import_documents(tmp_path, [missing], images=tmp_path / "out", missing="keep")
    assert (counts.kept, counts.incomplete, counts.missing_files) == (1, 1, 1)
    (record,) = (r for p in (tmp_path / "taken" / "shards").iterdir() for r in read_rows(p))
    trajectory = Trajectory.from_dict(record)
    assert [image.path for image in trajectory.images] == ["outputs/image_1.png"]
    assert trajectory.steps[0].images == [0]
