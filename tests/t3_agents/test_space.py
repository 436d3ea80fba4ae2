"""The files of a Space, and the app that they start."""

from __future__ import annotations

import ast

import pytest
import yaml

from t3_agents.agent import T3Agent
from t3_agents.models import ScriptedModel
from t3_agents.space import build_app, solve, write_space
from tests.tiny_vlm import turn


def test_the_files_hold_no_code_of_the_agent(tmp_path):
    write_space(tmp_path, "user/t3-agent", "demo")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "app.py", "requirements.txt"}
    app = ast.parse((tmp_path / "app.py").read_text())
    assert [type(node).__name__ for node in app.body] == ["ImportFrom", "Expr"]
    assert app.body[0].module == "t3_agents.space"
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert (head["sdk"], head["app_file"], head["models"]) == ("gradio", "app.py", ["user/t3-agent"])
    assert (tmp_path / "requirements.txt").read_text().startswith("t3-agents[app,tools]==")


def test_a_question_with_a_picture_is_answered(make_picture):
    outputs = [turn("print(open('files/photo.png', 'rb').read(4))"), turn("final_answer('red')")]
    messages = solve(T3Agent(tools=[], model=ScriptedModel(outputs)), "Which colour?", [str(make_picture())])
    assert len(messages) == 3 and "PNG" in messages[0] and messages[-1] == "red"


def test_a_run_without_an_answer_says_so():
    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)")]), max_steps=1)
    assert solve(agent, "What?", [])[-1] == "There is no answer: its steps were used up."


@pytest.mark.slow
def test_the_app_is_built(tiny_vlm, tmp_path):
    gradio = pytest.importorskip("gradio")
    from t3_agents.agent import load_agent

    load_agent(tiny_vlm).save_pretrained(tmp_path / "agent")
    app = build_app(str(tmp_path / "agent"))
    assert isinstance(app, gradio.Blocks) and app.title == str(tmp_path / "agent")
