"""The `t3` command: what it prints, and with which status it ends."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch

from t3_agents.agent.agent import T3Agent
from t3_agents.cli import COMMANDS, command_name, main, parse
from t3_agents.commands.run import found
from t3_agents.examples import EXAMPLES
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from t3_agents.tools.toolbox import make_toolbox
from tests.helpers import ROOT
from tests.helpers.tiny_vlm import turn
from trainers.collators import TrajectoryCollator
from trainers.launching import launch_command


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
            (line,) = [line for line in text if line.startswith(f"  {name}  ")]
            assert line.endswith(".") and len(line.split()) > 3

    def test_no_arguments_are_a_call_for_help(self, t3):
        assert t3() == t3("-h") == t3("--help")
        assert t3()[0] == 0
        assert t3("eval") == t3("eval", "--help") and "eval gta " in t3("eval")[1] and "build" not in t3("eval")[1]

    def test_the_version(self, t3):
        from importlib.metadata import version

        assert t3("--version") == (0, version("t3-agents") + "\n", "")

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_explains_every_option(self, t3, name):
        status, output, errors = t3(*name.split(), "--help")
        assert status == 0 and not errors
        usage, description, *parts = output.split("\n\n")
        assert usage.startswith(f"usage: t3 {name} ") and description.endswith(".")
        # Each entry has its explanation, beside what jsonargparse says about the type.
        entries = re.findall(r"^  ([-A-Z]\S*)(.*(?:\n {4,}.*)*)", "\n".join(parts), re.MULTILINE)
        assert len(entries) >= 2
        for option, text in entries:
            words = re.sub(r"\(.*?(type|default):.*", "", text, flags=re.DOTALL).split()
            assert len([word for word in words if word.islower()]) >= 1 or option == "-h,", option

    def test_documented_commands_parse(self, tmp_path, monkeypatch):
        """Every command line of the README, without running it."""
        monkeypatch.chdir(tmp_path)
        text = (ROOT / "README.md").read_text().replace("\\\n", " ")
        lines = re.findall(r"^t3 .*|`(?:t3 [^`]* --[^`]*)`", text, re.MULTILINE)
        argvs = [shlex.split(line.strip("`"), comments=True)[1:] for line in lines if "..." not in line]
        for argv in argvs:
            parse(argv)
        assert len({command_name(argv) for argv in argvs}) >= 20


class TestWrongInput:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["rnu", "--file", "a.png"], "no command `rnu`; did you mean `t3 run`?"),
            (["xyz"], "choose one of: build, chat"),
            (["eval", "gtaa"], "no command `eval gtaa`; did you mean `t3 eval gta`?"),
            (["eval", "--agent", "embedded"], "no command `eval`; choose one of: eval compare"),
            (["run", "What?", "--no-such-option", "1"], "no option `--no-such-option`; `t3 run --help` lists them."),
            (["run", "What?", "--max-step", "1"], "no option `--max-step`; did you mean `--max-steps`?"),
            (["run", "What?", "--max_steps", "many"], "`--max-steps` takes a whole number above 0, not `many`."),
            (["run", "What?", "--max-steps=1.5"], "`--max-steps` takes a whole number above 0, not `1.5`."),
            (["run", "What?", "--max-steps", ""], "`--max-steps` takes a whole number above 0"),
            (["run", "What?", "--max-steps"], "--max-steps: expected one argument"),
            (["run", "What?", "--executor", "none"], "`--executor` takes one of sandbox, local"),
            (["run", "What?", "How?"], "`How?` is one argument too many: write `t3 run QUESTION"),
            (["run"], "QUESTION is missing: write `t3 run QUESTION"),
            (
                ["run", "What?", "--file", "a", "--file", "b"],
                "`--file` is given twice: write all its values",
            ),
            (["run", "What?", "--config", "none.yaml"], "There is no file none.yaml."),
            (["train", "--config", "smolvml"], "nor a recipe of this name; did you mean `smolvlm`?"),
            (["eval", "compare", "a"], "SECOND is missing"),
            (["eval", "gaia", "--agent", "a", "--output", "b", "--levels", "4"], "`--levels` takes one of 1, 2, 3"),
            (["push", "agent", "a", "b/c", "--dry-run", "yes"], "`yes` is one argument too many"),
        ],
    )
    def test_options(self, t3, argv, words):
        status, output, errors = t3(*argv)
        assert status == 2 and not output and words in errors and is_one_sentence(errors), errors

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("max_steps: 3\nmax_stepz: 4\n", "no option `--max-stepz`; did you mean `--max-steps`?"),
            ("max_steps: [", "cannot be read"),
            ("- 1\n", "cannot be read"),
            ("file: a.png\n", "A list in a file is written as"),
            ("max_steps: 0\n", "`--max-steps` takes a whole number above 0"),
        ],
    )
    def test_a_config(self, t3, tmp_path, text, words):
        (tmp_path / "run.yaml").write_text(text)
        status, _, errors = t3("run", "What?", "--config", "run.yaml")
        assert status == 2 and words in errors and is_one_sentence(errors), errors

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (["What?", "--file", "none.png"], "There is no file none.png."),
            (["What?", "--file=none.png"], "There is no file none.png."),
            (["What?", "--file", "."], "is not a file"),
            (["What?", "--file", "note.txt", "none.png"], "There is no file none.png."),
            (["What?", "--file", "note.txt", "note.txt"], "the same path"),
            ([""], "the query is empty"),
            (["What?"], "run `t3 quickstart` first"),
            (["What?", "--agent", "no/such-agent"], "no/such-agent"),
            (["What?", "--agent", "./nope"], "`./nope`, which is neither a folder here nor"),
            (["What?", "--agent", "embedded", "--toolbox", "gtaa"], "`--toolbox` takes one of embedded, paper"),
            (["What?", "--agent", "embedded", "--prompt", "compac"], "no prompt `compac`; did you mean `compact`?"),
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

    def test_an_answer_is_shown_where_the_output_cannot_be_written(self, t3, taught, tmp_path):
        (tmp_path / "full").write_text("a file where a folder would have to be")
        status, output, errors = t3("run", "How much?", "--agent", taught, "--output", "full/result")
        assert status == 1 and output.endswith("Answer: 42 euros\n")
        assert errors.splitlines()[-1].startswith("t3 run: ") and "full" in errors and "Traceback" not in errors

    @pytest.mark.parametrize(("name", "question"), EXAMPLES.items())
    def test_an_example_comes_with_the_package(self, t3, taught, tmp_path, name, question):
        assert f"{question}\nFiles: files/{name}\n" in t3("run", question, "--agent", taught, "--file", name)[1]
        (tmp_path / name).write_text("the user's own")
        assert found(name) == name and found("other.png") == "other.png"


class TestListing:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["recipes"], ["embedded", "paper_qwen2_vl", "gaia"]),
            (["tools"], ["gta-embedded", "visualizer", "Calculator"]),
            (["tools", "embedded"], ["image_edit(prompt, image_path)"]),
        ],
    )
    def test_what_there_is(self, t3, argv, words):
        status, output, _ = t3(*argv)
        assert status == 0 and all(word in output for word in words)

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["ru"], ["run"]),
            (["eval", "g"], ["gaia", "gta"]),
            (["run", "--max-s"], ["--max-steps"]),
            (["eval", "gta", "--scor"], ["--scoring"]),
            (["synth", "sta"], ["status"]),
        ],
    )
    def test_a_shell_completes_commands_and_options(self, script, words, expected):
        line = f"{script}\nCOMP_WORDS=(t3 {' '.join(words)}); COMP_CWORD={len(words)}; _t3; echo ${{COMPREPLY[@]}}"
        assert subprocess.run(["bash", "-c", line], capture_output=True, text=True).stdout.split() == expected

    @pytest.fixture(scope="class")
    def script(self):
        command = [sys.executable, "-m", "t3_agents.cli", "completion", "bash"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_folder_named_as_a_package_does_not_break_a_command(tmp_path):
    for name in ("trainers", "tests", "hub_cards"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the folder of the user was imported')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "t3_agents.cli",
        "train",
        "--launch",
        "ddq",
        "--dataset_name",
        ".",
        "--output_dir",
        "a",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stderr == "t3 train: There are no settings `ddq` for `--launch`; did you mean `ddp`?\n"


def test_processes_are_launched_by_the_name_of_the_settings():
    argv = ["train", "--config", "smolvlm", "--launch=fsdp2", "--num_processes", "8", "--output_dir", "a"]
    command = launch_command(argv)
    settings = command[command.index("--config_file") + 1]
    assert settings.endswith("fsdp2.yaml") and command[command.index("--num_processes") + 1] == "8"
    assert command[-6:] == ["t3_agents.cli", "train", "--config", "smolvlm", "--output_dir", "a"]

    def test_options_from_a_file(self, t3, taught, tmp_path):
        (tmp_path / "run.yaml").write_text(f"agent: {taught}\nmax_steps: 5\n")
        assert t3("run", "How much?", "--config", "run.yaml", "--max-steps", 1)[0] == 1
        assert t3("run", "How much?", "--config", "run.yaml")[0] == 0
