"""What has the form of a secret, a path or an address is replaced; what only looks a little like it is not."""

from __future__ import annotations

import json
import random
import re
import string
from collections import Counter
from pathlib import PurePosixPath

import pytest

from hub_cards.trace_card import export_traces, make_trace_card
from t3_agents.errors import InputError
from t3_agents.redaction import Redactor, charset_of
from t3_agents.storage import BlobStore, Shard, read_rows
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from tests.helpers.finished_run import write_finished_run
from tests.helpers.released_rows import released_rows


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
    ("Authorization: Bearer abcdef0123456789abcdef", "authorization"),
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
    assert secret not in text and redactor.counts[kind] == 1 and redactor.counts.total() == 1


rng = random.Random(7)
HEX, LETTERS, BASE64 = (
    "0123456789abcdef",
    string.ascii_letters + string.digits,
    string.ascii_letters + string.digits + "+/",
)


def draw(number, alphabet=LETTERS):
    return "".join(rng.choice(alphabet) for _ in range(number))


UPPER, DIGITS = string.ascii_uppercase + string.digits, string.digits
# Forms as the documentation of each service describes them; the part between the bars must go.
FORMS = {
    "Hugging Face user": f"|hf_{draw(34)}|",
    "Hugging Face organization": f"|api_org_{draw(34)}|",
    "GitHub classic": f"|ghp_{draw(36)}|",
    "GitHub fine-grained": f"|github_pat_{draw(22)}_{draw(59)}|",
    "GitHub app": f"|ghs_{draw(36)}|",
    "GitLab": f"|glpat-{draw(20)}|",
    "GitLab deploy": f"|gldt-{draw(20)}|",
    "OpenAI": f"|sk-proj-{draw(48)}T3BlbkFJ{draw(48)}|",
    "Anthropic": f"|sk-ant-api03-{draw(93)}AA|",
    "Google API": f"|AIza{draw(35)}|",
    "Google OAuth": f"|ya29.{draw(60)}|",
    "Groq": f"|gsk_{draw(52)}|",
    "xAI": f"|xai-{draw(80)}|",
    "Perplexity": f"|pplx-{draw(48)}|",
    "Replicate": f"REPLICATE_API_TOKEN=|r8_{draw(37)}|",
    "Cohere": f'cohere_api_key = "|{draw(40)}|"',
    "Mistral": f"MISTRAL_API_KEY={'|'}{draw(32)}|",
    "Together": f"export TOGETHER_API_KEY=|{draw(64, HEX)}|",
    "Weights & Biases": f"WANDB_API_KEY=|{draw(40, HEX)}|",
    "Serper": f"SERPER_API_KEY=|{draw(40, HEX)}|",
    "X-API-Key": f"X-API-Key: |{draw(32)}|",
    "Brave": f"X-Subscription-Token: |BSA{draw(28)}|",
    "AWS key id": f"|AKIA{draw(16, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')}|",
    "AWS secret": f"aws_secret_access_key = |{draw(40, BASE64)}|",
    "AWS JSON": f'"SecretAccessKey": "|{draw(40, BASE64)}|"',
    "AWS session": f"AWS_SESSION_TOKEN=|{draw(200, BASE64)}|",
    "Azure storage": f"AccountName=a;AccountKey=|{draw(86, BASE64)}==|;EndpointSuffix=x",
    "Azure shared access": f"https://a.blob.core.windows.net/c?sv=2024&sig=|{draw(43)}%3D|",
    "Slack bot": f"|xoxb-{draw(12, DIGITS)}-{draw(12, DIGITS)}-{draw(24)}|",
    "Slack app": f"|xapp-1-A{draw(10, UPPER)}-{draw(13, DIGITS)}-{draw(64, HEX)}|",
    "Slack webhook": f"https://hooks.slack.com/services/|T{draw(8, UPPER)}/B{draw(8, UPPER)}/{draw(24)}|",
    "Discord webhook": f"https://discord.com/api/webhooks/{draw(18, DIGITS)}/|{draw(68)}|",
    "Telegram": f"|{draw(10, DIGITS)}:AA{draw(33)}|",
    "Stripe live": f"|sk_live_{draw(24)}|",
    "Stripe restricted": f"|rk_live_{draw(24)}|",
    "npm": f"|npm_{draw(36)}|",
    "PyPI": f"|pypi-AgEIcHlwaS5vcmc{draw(70)}|",
    "SendGrid": f"|SG.{draw(22)}.{draw(43)}|",
    "Mailgun": f"mailgun_key: |key-{draw(32, HEX)}|",
    "Twilio": f"|SK{draw(32, HEX)}|",
    "Databricks": f"|dapi{draw(32, HEX)}|",
    "DigitalOcean": f"|dop_v1_{draw(64, HEX)}|",
    "Doppler": f"|dp.pt.{draw(43)}|",
    "Linear": f"|lin_api_{draw(40)}|",
    "Notion": f"|ntn_{draw(11, DIGITS)}{draw(35)}|",
    "Postman": f"|PMAK-{draw(24, HEX)}-{draw(34, HEX)}|",
    "Shopify": f"|shpat_{draw(32, HEX)}|",
    "HashiCorp Vault": f"|hvs.{draw(96)}|",
    "Grafana": f"|glsa_{draw(32)}_{draw(8, HEX)}|",
    "age": f"|AGE-SECRET-KEY-1{draw(58, 'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L')}|",
    "JSON web token": f"|eyJhbGciOiJIUzI1NiJ9.eyJ{draw(30)}.{draw(43)}|",
    "bearer": f"Authorization: Bearer |{draw(40)}|",
    "basic": f"Authorization: Basic |{draw(28)}==|",
    "cookie": f"Cookie: |sessionid={draw(32)}|",
    "access_token": f'"access_token": "|{draw(40)}|"',
    "client_secret": f"client_secret=|{draw(32)}|&grant_type=x",
    "token=": f"https://example.com/x?token=|{draw(32)}|",
    "refresh token": f"refresh_token: '|{draw(48)}|'",
    "database URL": f"postgresql://app:|{draw(16)}|@db.example.com:5432/x",
    "redis URL": f"redis://:|{draw(16)}|@cache:6379/0",
    "password in YAML": f"db_password: |{draw(14)}|",
    "password in code": f"connect(password='|{draw(12)}|')",
    "RSA key": f"|-----BEGIN RSA PRIVATE KEY-----\n{draw(64, BASE64)}\n-----END RSA PRIVATE KEY-----|",
    "cut OpenSSH key": f"|-----BEGIN OPENSSH PRIVATE KEY-----\n{draw(70, BASE64)}|",
    "PGP key": f"|-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{draw(64, BASE64)}\n-----END PGP PRIVATE KEY BLOCK-----|",
    "PuTTY key": f"|PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{draw(60, BASE64)}|",
    "key without a name": f"the value {'|'}{draw(44)}| is the one",
    "e-mail": "|ann.lee+x@mail.example.org|",
    "phone": "call |+49 30 1234 5678|",
    "card": "paid with |4111 1111 1111 1234|".replace("1234", "1111"),
    "IBAN": "to |DE89 3704 0044 0532 0130 00|",
    "social security number": "SSN |536-22-8714|",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_public_documentation(name):
    before, secret, after = FORMS[name].split("|")
    text = Redactor(environment={}).text(f"first {before}{secret}{after} last")
    longest = max(re.findall(r"[A-Za-z0-9+/@_.-]{4,}|[\d ]{8,}", secret), key=len)
    assert longest not in text and secret not in text
    assert text.startswith("first ") and text.endswith(" last") or "key" in name


def test_ordinary_trajectories_are_hardly_touched():
    rows = released_rows()
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    assert len(texts) >= 20
    alarms = Counter()
    for text in texts:
        redactor = Redactor(environment={})
        redactor.text(text)
        alarms.update(kind for kind in redactor.counts if "path" not in kind)
    assert not alarms


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


def export_file(tmp_path, file):
    """What is reported of a run of one task with this file; it is in `out`."""
    trajectory = Trajectory(task=Task.create("q", [file]), system_prompt="", steps=[], images=[])
    trajectory.images += trajectory.task.images
    with Shard(tmp_path / "run" / "trajectories.jsonl") as shard:
        shard.append(trajectory.stored_in(BlobStore(tmp_path / "run" / "blobs")).to_dict())
    return export_traces(tmp_path / "run", tmp_path / "out", Redactor(environment={}))


def test_binary_files_are_counted_not_looked_into(tmp_path, make_picture):
    assert export_file(tmp_path, File.from_path(make_picture()))["not_looked_into"] == {"image/png": 1}


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        export_traces(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_texts_in_other_charsets_are_redacted(tmp_path, charset):
    token = "hf_" + "aB3" * 11
    file = File.from_bytes(f"The key is {token}\n".encode(charset), "files/note.txt")
    found = export_file(tmp_path, file)
    assert found["replaced"] == {"Hugging Face token": 1}
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert token.encode(charset.replace("-sig", ""))[4:] not in written


def test_bytes_that_are_no_text_have_no_charset():
    assert charset_of(bytes(range(256)) * 20) is None and charset_of("wörter".encode()) == "utf-8"
