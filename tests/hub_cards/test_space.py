"""The files of a Space."""

from __future__ import annotations

import ast
import subprocess
import sys

import yaml

from hub_cards.publish import write_space


def test_the_files_hold_no_code_of_the_agent(tmp_path):
    write_space(tmp_path, "user/t3-agent", "demo")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "app.py", "requirements.txt", "t3_agents"}
    app = ast.parse((tmp_path / "app.py").read_text())
    assert [type(node).__name__ for node in app.body] == ["ImportFrom", "Expr"]
    assert app.body[0].module == "t3_agents.commands.chat"
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert (head["sdk"], head["app_file"], head["models"]) == ("gradio", "app.py", ["user/t3-agent"])
    needed = (tmp_path / "requirements.txt").read_text().split()
    assert any(line.startswith("gradio") for line in needed) and any(line.startswith("rapidocr") for line in needed)
    assert not any(line.startswith(("t3-agents", "trl", "pytest")) for line in needed)
    code = "import t3_agents.commands.chat as chat; print(chat.__file__)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout.strip().startswith(str(tmp_path))
