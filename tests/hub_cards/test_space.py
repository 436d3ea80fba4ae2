"""The files of a Space."""

from __future__ import annotations

import ast

import yaml

from hub_cards.publish import write_space


def test_the_files_hold_no_code_of_the_agent(tmp_path):
    write_space(tmp_path, "user/t3-agent", "demo")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "app.py", "requirements.txt"}
    app = ast.parse((tmp_path / "app.py").read_text())
    assert [type(node).__name__ for node in app.body] == ["ImportFrom", "Expr"]
    assert app.body[0].module == "t3_agents.commands.chat"
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert (head["sdk"], head["app_file"], head["models"]) == ("gradio", "app.py", ["user/t3-agent"])
    assert (tmp_path / "requirements.txt").read_text().startswith("t3-agents[app,tools]==")
