import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

from t3_agents.agent.agent import T3Agent
from t3_agents.cli import main as t3
from t3_agents.commands.view import make_server, page_of
from t3_agents.errors import InputError
from t3_agents.evaluation.run import run_tasks
from t3_agents.models.scripted import ScriptedModel
from t3_agents.storage import BlobStore, write_atomic
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from tests.helpers.tiny_vlm import turn


def task_of(make_picture, number=0):
    return Task.create(f"Which colour has it? ({number})", [File.from_path(make_picture())], ground_truth="red")


def run_one(task, output):
    agent = T3Agent(tools=[], model=ScriptedModel([turn("final_answer('red')")]), prompt="compact")
    run_tasks(lambda: agent, [task], output)


@pytest.fixture
def run(tmp_path, make_picture):
    run_one(task_of(make_picture), tmp_path / "run")
    return tmp_path / "run"


def get(url, path=None, method="GET", **headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request(method, path or parts.path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


@pytest.fixture
def served(run):
    server, url = make_server(lambda: page_of(run))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_is_served_to_this_machine_alone(served):
    assert urlsplit(served).hostname == "127.0.0.1"
    answer, body = get(served)
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Which colour has it?" in body and "data:image/" in body and "final_answer(&#39;red&#39;)" in body
    assert answer.headers["Cache-Control"] == "no-store"
    port = urlsplit(served).port
    assert get(served, Host=f"evil.example:{port}")[0].status == 403
    assert get(served, Origin="https://evil.example")[0].status == 403
    for path in ("/", "/favicon.ico", "/../settings.json", "/%2e%2e/settings.json", urlsplit(served).path + "x"):
        answer, body = get(served, path)
        assert answer.status == 404 and "colour" not in body
    for method in ("POST", "PUT", "DELETE"):
        assert get(served, method=method)[0].status == 501


def test_a_reload_shows_what_is_new(served, run, make_picture):
    assert "Which colour has it? (1)" not in get(served)[1]
    run_one(task_of(make_picture, 1), run)
    assert "Which colour has it? (1)" in get(served)[1]
    (run / "trajectories.jsonl").write_text("{}\n")
    answer, body = get(served)
    assert answer.status == 500 and "`format`" in body


def test_the_command_serves_until_it_is_interrupted(run):
    command = [sys.executable, "-m", "t3_agents.cli", "view", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        assert get(url)[0].status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == ""


def test_the_page_as_a_file(run, tmp_path, capsys):
    assert t3(["view", str(run), "--output", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text()
    assert html.startswith("<!doctype html>") and "Which colour has it?" in html
    assert str(tmp_path) not in html
    assert sorted(path.name for path in run.iterdir()) == ["blobs", "trajectories.jsonl"]


def test_other_folders_with_trajectories(tmp_path, make_picture):
    task = task_of(make_picture)
    trajectory = Trajectory(task=task, steps=[Step(code="final_answer('red')")], images=list(task.images))
    for name, path in (("build", "shards/train-look.jsonl"), ("run", "trajectory.json")):
        stored = trajectory.stored_in(BlobStore(tmp_path / name / "blobs"))
        write_atomic(tmp_path / name / path, json.dumps(stored.to_dict()) + "\n")
        html = page_of(tmp_path / name)
        assert "Which colour has it?" in html and re.search(r"<h1[^>]*>" + name, html)


def test_mistakes_are_one_sentence(tmp_path, run, capsys):
    (tmp_path / "trajectory.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        page_of(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99999):
            with pytest.raises(InputError, match="--port"):
                make_server(str, port)
    assert t3(["view", str(tmp_path / "nothing")]) == 2
    assert "holds no trajectories" in capsys.readouterr().err
