"""Sixteen agents on one real engine, with everything that goes wrong in a long run."""

import threading
import time
from itertools import count

import pytest
import torch

from t3_agents.agent.agent import T3Agent
from t3_agents.agent.rollout import rollout
from t3_agents.errors import InputError
from t3_agents.evaluation.run import run_tasks
from t3_agents.models.engine.continuous_batching import ContinuousBatchingDecoder
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from tests.helpers.tiny_vlm import turn


def make_tasks(number):
    return [Task(id=f"task-{i}", query=f"What is {i}?", ground_truth="7") for i in range(number)]


def scripted(*code, **settings):
    return lambda: T3Agent(tools=[], model=ScriptedModel([turn(c) for c in code]), prompt="compact", **settings)


class Stuck(ScriptedModel):
    """Blocks its thread, and looks at no interruption."""

    def __init__(self, release):
        super().__init__([turn("final_answer(1)")] * 5)
        self.release = release

    def generate(self, messages, *args, **kwargs):
        if "What is 1?" in str(messages[-1].content):
            self.release.wait(600)
        return super().generate(messages, *args, **kwargs)


class OnceFull(ContinuousBatchingDecoder):
    """Runs out of memory once, while more than `rows` requests run together."""

    def __init__(self, engine, rows):
        super().__init__(engine.model, engine.encoder, engine.decoder.positions, 16, 8192, 12)
        self.rows, self.failed_with = rows, 0

    def _read_prompt(self, row):
        if len(self._rows) > self.rows and not self.failed_with:
            self.failed_with = len(self._rows)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super()._read_prompt(row)


class ErrorProne(T3Agent):
    """An agent whose code, model or patience fails for certain tasks; the engine runs for all of them."""

    def run_task(self, task, *args, **kwargs):
        self.number = int(task.id.removeprefix("task-"))
        self.time_limit = 3 if self.number == 30 else None
        return super().run_task(task, *args, **kwargs)

    def _step_stream(self, memory_step):
        if self.number % 20 == 3:
            raise RuntimeError("the agent broke in the middle of a step")
        if self.number == 10:
            threading.Timer(0.05, self.interrupt).start()
        if self.number == 30:
            while True:
                self.model.generate(self.write_memory_to_messages(), max_new_tokens=3900)
        yield from super()._step_stream(memory_step)


@pytest.mark.slow
def test_all_tasks_end_with_a_row(tiny_vlm, tmp_path):
    """64 tasks, 16 workers: agents that raise inside a step, one that is cancelled, one that never ends, and a model
    that runs out of memory once."""
    model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=40, max_batch_size=16)
    model.engine.decoder = OnceFull(model.engine, rows=6)
    agents = []

    def make_agent():
        agents.append(ErrorProne(tools=[], model=model, prompt="compact", max_steps=2))
        return agents[-1]

    run = run_tasks(make_agent, make_tasks(64), tmp_path / "run", 16)
    assert [t.task.id for t in run] == [f"task-{i}" for i in range(64)]
    reasons = {i: (t.end_reason, t.provenance.get("failure", "")) for i, t in enumerate(run)}
    for number in (3, 23, 43, 63):
        end, failure = reasons.pop(number)
        assert end == "failed" and "broke in the middle" in failure
    end, failure = reasons.pop(10)
    assert end == "failed" and "interrupted" in failure
    assert reasons.pop(30) == ("time_limit", "")
    assert set(reasons.values()) == {("max_steps", "")}
    assert model.engine.decoder.failed_with > 6
    assert model.engine.decoder._rows == [] and not model.engine._taken
    assert 16 <= len(agents) <= 16 + 6


def test_trajectories_come_as_they_end():
    """The second task is held up until the others are there."""
    release, done = threading.Event(), []

    def make_agent():
        return T3Agent(tools=[], model=Stuck(release), prompt="compact")

    for trajectory in rollout(make_agent, make_tasks(4), num_workers=2):
        done.append(trajectory.task.id)
        if len(done) == 3:
            release.set()
    assert sorted(done) == [f"task-{i}" for i in range(4)] and done[-1] == "task-1"


def test_tasks_are_taken_when_a_worker_is_free():
    """An endless stream of tasks is fine; a slow reader holds the workers up."""
    taken = []

    def endless():
        for number in count():
            taken.append(number)
            yield Task(id=f"task-{number}", query="?")

    trajectories = rollout(scripted(*["final_answer(1)"] * 100), endless(), num_workers=2)
    for _ in range(3):
        next(trajectories)
        time.sleep(0.1)
    assert len(taken) <= 3 + 2 + 2
    trajectories.close()
    assert len(taken) <= 3 + 2 + 2


def test_code_is_cut_at_the_time_of_the_task():
    loop = scripted("while True: pass", "final_answer(1)", time_limit=0.5)
    [trajectory] = rollout(loop, make_tasks(1))
    assert trajectory.end_reason == "time_limit"
    assert "maximum execution time" in trajectory.actions[0].error


def test_mistakes_are_refused():
    with pytest.raises(InputError, match="workers must be at least 1"):
        rollout(scripted(), [], num_workers=0)
    with pytest.raises(ZeroDivisionError):
        list(rollout(lambda: 1 / 0, make_tasks(3), num_workers=2))


@pytest.mark.slow
def test_memory_is_bounded_over_many_tasks(tiny_vlm):
    """What is kept stays below the configured bound over 200 tasks, in tokens and in bytes."""
    model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=6, max_cached_tokens=1000)
    config = model.model.config.get_text_config()
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 8

    def make_agent():
        return T3Agent(tools=[], model=model, prompt="compact", max_steps=2)

    most = 0
    for trajectory in rollout(make_agent, make_tasks(200), num_workers=4):
        assert trajectory.end_reason == "max_steps"
        most = max(most, model.engine.decoder.cached_bytes)
    assert 900 * per_token < most <= 1000 * per_token
    assert model.engine.decoder._slots.num_bytes == 0
