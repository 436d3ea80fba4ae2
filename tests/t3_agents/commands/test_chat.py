"""The app of `t3 chat` and of a Space."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.commands.chat import build_app, solve
from t3_agents.models.scripted import ScriptedModel
from t3_agents.tools.image_generator import ImageGenerator
from tests.helpers import free_port, wait_for_page
from tests.helpers.tiny_vlm import turn
from tests.t3_agents.commands.test_guard import status_of


def test_a_question_with_a_picture_is_answered_step_by_step(make_picture):
    outputs = [turn("print(open('files/photo.png', 'rb').read(4))"), turn("final_answer('red')")]
    agent = T3Agent(tools=[], model=ScriptedModel(outputs))
    shown = list(solve(agent, "Which colour?", [str(make_picture())]))
    assert [len(messages) for messages in shown] == [1, 2, 3]
    assert "PNG" in shown[0][0] and shown[-1][-1] == "red"


def test_pictures_that_a_step_made_are_shown():
    outputs = [turn("print(image_generator('a red circle'))"), turn("final_answer('done')")]
    *_, messages = solve(T3Agent(tools=[ImageGenerator()], model=ScriptedModel(outputs)), "Draw a red circle.", [])
    assert messages[-2].open_image().size > (0, 0) and messages[-1] == "done"


def test_a_run_without_an_answer_says_so():
    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)")]), max_steps=1)
    *_, messages = solve(agent, "What?", [])
    assert messages[-1] == "There is no answer: its steps were used up."


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    [messages] = solve(T3Agent(tools=[], model=ScriptedModel([])), "What?", [str(tmp_path / "gone.png")])
    assert "gone.png" in messages[0]


def test_leaving_ends_the_run():
    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)"), *[turn("while True: pass")] * 5]))
    shown = solve(agent, "What?", [])
    next(shown)
    shown.close()
    assert agent.model.position <= 2, "the step that ran was cut, and none came after it"


@pytest.mark.slow
def test_the_command_serves_the_app(tiny_vlm, tmp_path):
    pytest.importorskip("gradio")
    load_agent(tiny_vlm).save_pretrained(tmp_path / "agent")
    assert build_app(str(tmp_path / "agent")).title == str(tmp_path / "agent")
    port = free_port()
    command = [sys.executable, "-m", "t3_agents.cli", "chat", "--agent", str(tmp_path / "agent"), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"})
    try:
        assert b"gradio" in wait_for_page(process, f"http://127.0.0.1:{port}/")
        for path in (
            "/",
            "/config",
            "/gradio_api/upload",
            "/gradio_api/queue/join",
            "/gradio_api/queue/data",
            "/none",
        ):
            for method in ("GET", "POST"):
                assert status_of(port, method, path) != 403
                assert status_of(port, method, path, Host="evil.example") == 403
                assert status_of(port, method, path, Origin="http://evil.example") == 403
    finally:
        process.kill()
        process.wait()
