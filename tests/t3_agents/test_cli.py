"""The `t3` command: what it prints, and with which status it ends."""

import json
import subprocess
import sys

import pytest
import torch

from t3_agents.agent.agent import T3Agent
from t3_agents.cli import main
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from t3_agents.tools.toolbox import make_toolbox
from tests.helpers.tiny_vlm import turn
from trainers.collator import TrajectoryCollator


COMMANDS = ["quickstart", "run", "build", "train", "eval"]


@pytest.fixture
def t3(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder: status, standard output, standard error."""
    for name in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1" if name.startswith("HF") else "error" if "VERB" in name else "false")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def t3(*argv):
        try:
            status = main(list(map(str, argv)))
        except SystemExit as error:
            status = error.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return t3


def is_one_sentence(errors):
    """No traceback; the last line says what is wrong."""
    return "Traceback" not in errors and errors.count("\n") == 1 and errors.startswith("t3")


class TestHelp:
    def test_it_lists_the_commands_and_imports_nothing_heavy(self, tmp_path):
        code = (
            "import sys; from t3_agents.cli import main; status = main(['--help']);"
            "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'smolagents',"
            "'trl', 'datasets', 'numpy', 'PIL', 'jsonargparse'})); sys.exit(status)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stderr
        *text, modules = done.stdout.rstrip().split("\n")
        assert modules == "[]"
        for name in COMMANDS:
            (line,) = [line for line in text if line.startswith(f"  {name} ")]
            assert line.endswith(".") and len(line.split()) > 3

    def test_no_arguments_are_a_call_for_help(self, t3):
        assert t3() == t3("-h") == t3("--help")
        assert t3()[0] == 0

    def test_the_version(self, t3):
        from importlib.metadata import version

        assert t3("--version") == (0, version("t3-agents") + "\n", "")

    def test_every_command_explains_its_options(self, t3):
        status, output, _ = t3("run", "--help")
        assert status == 0
        for option in ("--agent", "--file", "--max_steps", "--config"):
            assert option in output


class TestWrongInput:
    def test_an_unknown_command(self, t3):
        status, output, errors = t3("rnu", "--file", "a.png")
        assert status == 2 and not output and is_one_sentence(errors)
        assert "no command `rnu`" in errors and all(name in errors for name in COMMANDS)

    def test_an_unknown_option(self, t3):
        status, _, errors = t3("run", "What?", "--no-such-option", "1")
        assert status == 2 and "no_such_option" in errors and "Traceback" not in errors

    @pytest.mark.parametrize("value", ["many", "1.5", ""])
    def test_a_value_of_a_wrong_type(self, t3, value):
        status, _, errors = t3("run", "What?", "--max-steps", value)
        assert status == 2 and "max_steps" in errors and "Traceback" not in errors

    def test_a_config_with_an_unknown_field(self, t3, tmp_path):
        (tmp_path / "run.yaml").write_text("max_steps: 3\nmax_stepz: 4\n")
        status, _, errors = t3("run", "What?", "--config", "run.yaml")
        assert status == 2 and "max_stepz" in errors and "Traceback" not in errors

    @pytest.mark.parametrize("text", [None, "max_steps: [", "- 1\n"])
    def test_a_config_that_cannot_be_read(self, t3, tmp_path, text):
        if text:
            (tmp_path / "run.yaml").write_text(text)
        status, _, errors = t3("run", "What?", "--config", "run.yaml")
        assert status == 2 and "Traceback" not in errors and errors

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (["What?", "--file", "none.png"], "There is no file none.png."),
            (["What?", "--file=none.png"], "There is no file none.png."),
            (["What?", "--file", "."], "is not a file"),
            (["What?", "--file", "note.txt", "--file", "none.png"], "There is no file none.png."),
            (["What?", "--file", "note.txt", "--file", "note.txt"], "the same path"),
            ([""], "the query is empty"),
            ([], "the query is empty"),
            (["What?"], "run `t3 quickstart` first"),
            (["What?", "--agent", "no/such-agent"], "no/such-agent"),
            (["What?", "--agent", "."], "cannot be loaded"),
            (["What?", "--agent", "no/agent", "--output", "note.txt"], "note.txt exists already"),
        ],
    )
    def test_one_sentence_and_status_two(self, t3, tmp_path, argv, sentence):
        (tmp_path / "note.txt").write_text("x")
        status, output, errors = t3("run", *argv)
        assert status == 2 and sentence in errors and is_one_sentence(errors), errors

    def test_a_conversation_that_is_too_long(self, t3, tiny_vlm):
        status, _, errors = t3("run", "zq" * 4000, "--agent", tiny_vlm)
        message = errors.splitlines()[-1]  # behind the progress bar of loading
        assert status == 2 and message.startswith("t3 run: The conversation has") and "Traceback" not in errors
        assert "the model takes 4096" in message


class TestRun:
    def test_steps_are_shown_and_a_run_without_an_answer_ends_with_one(self, t3, tiny_vlm, make_picture):
        photo = make_picture()
        status, output, errors = t3(
            *("run", "What is it?", "--agent", tiny_vlm, "--file", photo, "--max-steps", 2, "--max-new-tokens", 6)
        )
        assert status == 1, errors
        assert output.startswith("What is it?\nFiles: files/photo.png\n")
        assert output.count("Thought: ") == output.count("no code block was found") == 2
        assert output.endswith("No answer: the run ended by max_steps.\n")

    @pytest.fixture(scope="class")
    def taught(self, tiny_vlm, tmp_path_factory):
        """An agent whose weights have learned one run by heart."""
        script = ScriptedModel([turn("print(6 * 7)", "compute"), turn("final_answer('42 euros')", "tell")])
        settings = {"tools": make_toolbox("embedded"), "prompt": "compact"}
        row = T3Agent(model=script, **settings).run_task(Task.create("How much?")).to_row()
        model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=80)
        batch = TrajectoryCollator(model.encoder)([row])
        optimizer = torch.optim.Adam(model.model.parameters(), lr=5e-3)
        for _ in range(300):
            loss = model.model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if loss < 0.01:
                break
        assert loss < 0.05
        folder = tmp_path_factory.mktemp("taught") / "agent"
        T3Agent(model=model, **settings).save_pretrained(folder)
        return folder

    def test_an_answer_ends_with_zero(self, t3, taught, tmp_path):
        status, output, errors = t3("run", "How much?", "--agent", taught, "--output", "result")
        assert status == 0, errors
        assert "Thought: compute" in output and "Observation: 42\n" in output
        assert output.endswith("Answer: 42 euros\n")
        record = json.loads((tmp_path / "result/trajectory.json").read_text())
        assert record["answer"] == "42 euros" and len(record["steps"]) == 2
        assert t3("run", "How much?", "--agent", taught, "--output", "result")[0] == 2

    def test_options_from_a_file(self, t3, taught, tmp_path):
        (tmp_path / "run.yaml").write_text(f"agent: {taught}\nmax_steps: 5\n")
        assert t3("run", "How much?", "--config", "run.yaml", "--max-steps", 1)[0] == 1
        assert t3("run", "How much?", "--config", "run.yaml")[0] == 0
