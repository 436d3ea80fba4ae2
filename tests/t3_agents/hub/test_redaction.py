"""What has the form of a secret, a path or an address is replaced; what only looks a little like it is not."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from hub_cards.trace_card import export_traces, make_trace_card
from t3_agents.errors import InputError
from t3_agents.hub.redaction import Redactor
from t3_agents.storage import BlobStore, read_rows
from t3_agents.trajectory import Trajectory
from tests.helpers.finished_run import write_finished_run


SECRET = [
    ("hf_" + "aB3" * 10, "Hugging Face token"),
    ("sk-proj-" + "x1" * 15, "OpenAI or Anthropic key"),
    ("sk-ant-api03-" + "x1" * 15, "OpenAI or Anthropic key"),
    ("ghp_" + "a1" * 18, "GitHub token"),
    ("AKIA" + "ABCDEFGH12345678", "AWS key"),
    ("aws_secret_access_key = " + "a/B+" * 10, "AWS key"),
    ("AIza" + "b" * 35, "Google key"),
    ("xoxb-1234567890-abc", "Slack token"),
    ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2", "JSON web token"),
    ("Authorization: Bearer abcdef0123456789abcdef", "bearer token"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----", "private key"),
    ('password: "correcthorse"', "password"),
    ("ann.lee+x@mail.example.org", "e-mail address"),
    (str(PurePosixPath("/", "home", "ann", "project", "data.csv")), "home path"),
    (str(PurePosixPath("/", "root", ".cache", "x")), "home path"),
    ("~/secret/notes.txt", "home path"),
    ("C:\\Users\\Ann\\notes.txt", "Windows path"),
    ("/tmp/tmpab12/files/photo.png", "absolute path"),
]


@pytest.mark.parametrize(("secret", "kind"), SECRET, ids=[kind for _, kind in SECRET])
def test_found(secret, kind):
    redactor = Redactor(environment={})
    text = redactor.text(f"before {secret} after")
    assert text.startswith("before ") and text.endswith(" after") and f"[{kind}]" in text
    assert secret not in text and redactor.counts[kind] == 1


@pytest.mark.parametrize(
    "text",
    [
        "files/receipt.png and outputs/image_1.png",
        "on 01/02/2024 at 5 km/h, 3/4 of it",
        "see https://huggingface.co/docs/hub/eval-results for more",
        "print(visualizer('files/a.png', 'What?'))\nx = a / b / c",
        "</td></tr> and <br/> hf_hub_download(repo) sk-learn api_key=None",
        "the password is needed; @property def x",
    ],
)
def test_left_alone(text):
    redactor = Redactor(environment={})
    assert redactor.text(text) == text and not redactor.counts


def test_values_of_the_environment_are_secrets():
    redactor = Redactor(environment={"OPENAI_API_KEY": "plain-words-here", "HOME": "plain", "MY_TOKEN": "short"})
    assert redactor.text("it is plain-words-here, short") == "it is [secret of the environment], short"
    assert redactor.record({"a": ["plain-words-here", 3, None]}) == {"a": ["[secret of the environment]", 3, None]}


def test_a_run_is_redacted_and_still_a_run(tmp_path):
    secret = "hf_" + "aB3" * 10
    run = write_finished_run(tmp_path / "run", text=f"key {secret} of ann@example.org")
    found = export_traces(run, tmp_path / "out", Redactor(environment={}))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert secret.encode() not in stored and b"ann@example.org" not in stored
    # Four trajectories: model_output, thought, observation each; and the attached text file once.
    assert found["replaced"] == {"Hugging Face token": 13, "e-mail address": 13} and found["trajectories"] == 4
    blobs = BlobStore(tmp_path / "out" / "blobs")
    rows = [Trajectory.from_dict(row, blobs) for row in read_rows(tmp_path / "out" / "trajectories.jsonl")]
    assert [row.steps[0].output_ids for row in rows] == [None] * 4  # the ids would spell the secret
    assert blobs.get(rows[0].task.files[0].sha256) == b"key [Hugging Face token] of [e-mail address]"
    assert json.loads((tmp_path / "out" / "redaction.json").read_text()) == found
    text = make_trace_card(found, "user/traces").text
    assert "| Hugging Face token | 13 |" in text and secret not in text


def test_binary_files_are_counted_not_looked_into(tmp_path, make_picture):
    from t3_agents.storage import Shard
    from t3_agents.task import File, Task

    task = Task.create("What?", [File.from_path(make_picture())])
    trajectory = Trajectory(task=task, system_prompt="", steps=[], images=list(task.images))
    run = tmp_path / "run"
    with Shard(run / "trajectories.jsonl") as shard:
        shard.append(trajectory.stored_in(BlobStore(run / "blobs")).to_dict())
    assert export_traces(run, tmp_path / "out")["not_looked_into"] == {"image/png": 1}


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        export_traces(tmp_path, tmp_path / "out")
