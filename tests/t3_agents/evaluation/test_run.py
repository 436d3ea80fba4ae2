import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from smolagents import tool

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError, RunFolderError
from t3_agents.evaluation.run import BLOBS_FOLDER, TRAJECTORIES_FILE, run_tasks
from t3_agents.evaluation.scenarios import score
from t3_agents.models.scripted import ScriptedModel
from t3_agents.storage import read_rows
from t3_agents.task import File, Task
from tests.helpers import ROOT
from tests.helpers.scripted_run import EndlessModel, make_tasks
from tests.helpers.tiny_vlm import turn


def agent_of(model):
    return T3Agent(tools=[], model=model, prompt="compact")


def endless():
    return agent_of(EndlessModel())


def ids(output):
    return [row["task"]["id"] for row in read_rows(Path(output) / TRAJECTORIES_FILE)]


class SometimesBroken(EndlessModel):
    """Raises for the tasks whose query holds one of the given words."""

    def __init__(self, *words):
        super().__init__()
        self.words = words

    def generate(self, messages, stop_sequences=None, **kwargs):
        if any(word in str(messages[-1].content) for word in self.words):
            raise RuntimeError("the card\nfell over")
        return super().generate(messages, stop_sequences, **kwargs)


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_results_come_in_the_order_of_the_tasks(tmp_path, workers):
    tasks, made = make_tasks(9), []

    def make_agent():
        made.append(threading.get_ident())
        return endless()

    run = run_tasks(make_agent, iter(tasks), tmp_path / "run", workers)
    assert [t.task for t in run] == tasks
    assert [t.answer for t in run] == ["7"] * 9
    assert sorted(ids(tmp_path / "run")) == sorted(task.id for task in tasks)
    assert len(made) == len(set(made)) <= min(workers, 9)
    assert score(run)["ans_acc"] == 1


def test_finished_tasks_are_not_run_again(tmp_path):
    tasks = make_tasks(5)
    assert run_tasks(endless, [], tmp_path / "run", 2) == []
    first = run_tasks(endless, tasks[:3], tmp_path / "run")

    def refuse():
        raise AssertionError("an agent was made although nothing is left to do")

    assert run_tasks(refuse, tasks[:3], tmp_path / "run") == first
    both = run_tasks(endless, reversed(tasks), tmp_path / "run", 2)
    assert [t.task.id for t in both] == [task.id for task in reversed(tasks)]
    # A torn last line is run again.
    shard = tmp_path / "run" / TRAJECTORIES_FILE
    lost = ids(tmp_path / "run")[-1]
    shard.write_bytes(shard.read_bytes()[:-40])
    assert lost not in ids(tmp_path / "run")
    assert [t.task for t in run_tasks(endless, tasks, tmp_path / "run")] == tasks
    assert sorted(ids(tmp_path / "run")) == sorted(task.id for task in tasks)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_raises_becomes_a_row(tmp_path, workers):
    tasks = make_tasks(6)
    run = run_tasks(lambda: agent_of(SometimesBroken("is 2?", "is 5?")), tasks, tmp_path / "run", workers)
    assert [t.end_reason for t in run] == ["answer", "answer", "failed", "answer", "answer", "failed"]
    reason = run[2].provenance["failure"]
    assert "the card fell over" in reason and "\n" not in reason
    assert run[2].provenance["controller"] == "scripted"
    assert run[2].task == tasks[2] and run[2].answer is None
    # A failed task has had its turn.
    assert run_tasks(endless, tasks, tmp_path / "run") == run


@tool
def wait_for_ever() -> str:
    """Never returns."""
    threading.Event().wait()


@pytest.mark.parametrize("executor", ["sandbox", "local"])
def test_a_tool_that_blocks_costs_its_task_its_time(tmp_path, executor):
    def make_agent():
        model = ScriptedModel([turn("print(1)\nwait_for_ever()"), turn("final_answer(1)")])
        return T3Agent([wait_for_ever], model, prompt="compact", executor_type=executor, time_limit=0.5)

    run = run_tasks(make_agent, make_tasks(2), tmp_path / "run", 2)
    assert [(t.end_reason, t.answer, len(t.actions)) for t in run] == [("time_limit", None, 1)] * 2


def test_an_answer_that_is_no_unicode_harms_nothing(tmp_path):
    script = [turn("final_answer('\\ud800')"), turn("final_answer(1)")]
    run = run_tasks(lambda: agent_of(ScriptedModel(script)), make_tasks(3)[:2], tmp_path / "run")
    assert run[0].answer == "?"  # half a character, which no file can hold
    assert run[1].answer == "1"


def test_files_and_pictures_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, color in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (8, 8), color).save(name)
    # Sources and output are relative; code steps change the working directory meanwhile.
    tasks = [Task.create(f"Which colour has {name}?", [File.from_path(name)]) for name in ("red.png", "blue.png")]
    script = [turn("print(len('files'))"), turn("final_answer('red')")]
    run = run_tasks(lambda: agent_of(ScriptedModel(script * 2)), tasks, "run", 2)
    assert [t.end_reason for t in run] == ["answer", "answer"]
    for name in ("red.png", "blue.png"):
        Path(name).unlink()
    again = run_tasks(endless, tasks, tmp_path / "run")
    assert [t.images[0].open_image().getpixel((0, 0)) for t in again] == [(255, 0, 0), (0, 0, 255)]
    assert again[0].images[0].source.is_relative_to(tmp_path / "run" / BLOBS_FOLDER)
    assert str(tmp_path) not in (tmp_path / "run" / TRAJECTORIES_FILE).read_text()


def test_a_missing_attachment_fails_its_task_only(tmp_path, make_picture):
    lost = Task.create("What is it?", [File.from_path(make_picture("gone.png"))])
    (tmp_path / "gone.png").unlink()
    run = run_tasks(endless, [lost, *make_tasks(1)], tmp_path / "run")
    assert [t.end_reason for t in run] == ["failed", "answer"]
    assert run[0].task == lost and "gone.png" in run[0].provenance["failure"]


def test_mistakes_are_refused(tmp_path):
    tasks = make_tasks(2)
    with pytest.raises(InputError, match="Two tasks have the id task-0"):
        run_tasks(endless, [*tasks, tasks[0]], tmp_path / "run")
    with pytest.raises(InputError, match="at least 1"):
        run_tasks(endless, tasks, tmp_path / "run", 0)
    run_tasks(endless, tasks, tmp_path / "run")
    with pytest.raises(RunFolderError, match="another task with the id task-1"):
        run_tasks(endless, [Task(id="task-1", query="Something else?")], tmp_path / "run")


def test_an_agent_that_cannot_be_made_stops_the_run(tmp_path):
    def make_agent():
        raise InputError("There is no such controller.")

    with pytest.raises(InputError, match="no such controller"):
        run_tasks(make_agent, make_tasks(5), tmp_path / "run", 2)
    assert ids(tmp_path / "run") == []
    assert len(run_tasks(endless, make_tasks(5), tmp_path / "run")) == 5


def test_ctrl_c_ends_the_threads_and_keeps_the_rows(tmp_path):
    class Interrupted(EndlessModel):
        def generate(self, messages, stop_sequences=None, **kwargs):
            if len(self.outputs) == 5:
                signal.raise_signal(signal.SIGINT)
            return super().generate(messages, stop_sequences, **kwargs)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(lambda: agent_of(Interrupted()), make_tasks(20), tmp_path / "run")
    assert 3 <= len(ids(tmp_path / "run")) <= 6
    assert threading.active_count() == before
    run = run_tasks(endless, make_tasks(20), tmp_path / "run")
    assert [t.answer for t in run] == ["7"] * 20
    assert len(ids(tmp_path / "run")) == len(set(ids(tmp_path / "run"))) == 20


def start(output, number, turns, workers):
    command = [sys.executable, "-m", "tests.helpers.scripted_run", *map(str, (output, number, turns, workers))]
    return subprocess.Popen(command, cwd=ROOT)


def wait_for_rows(process, output, number):
    while not (output / TRAJECTORIES_FILE).exists() or len(ids(output)) < number:
        assert process.poll() is None
        time.sleep(0.01)


def test_kill_9_loses_only_what_was_in_flight(tmp_path):
    process = start(tmp_path / "run", 12, 6, 2)
    wait_for_rows(process, tmp_path / "run", 4)
    with pytest.raises(RunFolderError, match="Another process"):
        run_tasks(endless, make_tasks(12), tmp_path / "run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = ids(tmp_path / "run")
    assert 4 <= len(kept) <= 6
    lines = (tmp_path / "run" / TRAJECTORIES_FILE).read_bytes()
    run = run_tasks(endless, make_tasks(12), tmp_path / "run", 2)
    assert [(t.task.id, t.answer) for t in run] == [(task.id, "7") for task in make_tasks(12)]
    assert sorted(ids(tmp_path / "run")) == sorted(task.id for task in make_tasks(12))
    # What was there was left as it was, up to a torn line.
    whole = lines[: lines.rfind(b"\n") + 1]
    assert (tmp_path / "run" / TRAJECTORIES_FILE).read_bytes().startswith(whole)


def test_ctrl_c_ends_the_process_at_once(tmp_path):
    process = start(tmp_path / "run", 12, 3, 2)
    wait_for_rows(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) in (-signal.SIGINT, 1, 130)  # a turn that is under way takes an hour
    assert 2 <= len(ids(tmp_path / "run")) <= 3
    for line in (tmp_path / "run" / TRAJECTORIES_FILE).read_text().splitlines():
        json.loads(line)


def test_importing_the_runner_is_cheap():
    code = (
        "import sys; from t3_agents.evaluation import metrics, run; from t3_agents.reports import plots, quickstart; "
        "print([m for m in ('torch', 'transformers', 'evaluate', 'datasets', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
