"""Agents as the runner takes them: a stock CodeAgent, and the record of the calls of tools."""

from functools import partial

import pytest
from PIL import Image
from smolagents import CodeAgent, tool

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.evaluation.baselines import PlainAgent, RecordedAgent
from t3_agents.evaluation.scenarios import score_scenarios
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import File, Task
from t3_agents.tools.base import WorkspaceTool
from t3_agents.trajectory import Trajectory
from tests.helpers import in_threads
from tests.helpers.made_benchmarks import draw
from tests.helpers.tiny_vlm import turn


@tool
def width(image_path: str, scale: int = 1) -> int:
    """Width of a picture.

    Args:
        image_path: the picture.
        scale: a factor.
    """
    return Image.open(image_path).width * scale


class Crop(WorkspaceTool):
    name = "crop"
    description = "Returns a part of a picture."
    inputs = {"image_path": {"type": "string", "description": "the picture"}}
    output_type = "image"

    def forward(self, image_path: str):
        return self.open_image(image_path).crop((0, 0, 10, 10))


@pytest.fixture
def task(tmp_path):
    picture = draw(tmp_path / "photo.png")
    return Task(id="a", query="How wide?", files=(File.from_path(picture),), ground_truth="64", tools=("width",))


def stock(tools, *turns, model=None, **settings):
    model = model or ScriptedModel(list(turns))
    return CodeAgent(tools, model, code_block_tags=("```py", "```<end_action>"), verbosity_level=0, **settings)


class TestPlainAgent:
    def test_its_memory_becomes_a_trajectory_with_workspace_paths(self, task):
        class Looking(ScriptedModel):
            """Takes the path of the picture out of the task, as a model would."""

            def generate(self, messages, stop_sequences=None, **kwargs):
                text = messages[1].content[0]["text"]
                path = text.split("Files: ")[1].split("\n")[0].strip()
                self.outputs[self.position] = self.outputs[self.position].replace("PATH", path)
                return super().generate(messages, stop_sequences, **kwargs)

        codes = ["w = width('PATH')\nprint('PATH', w)", "print((", "final_answer(w)"]
        agent = stock([width], model=Looking([*map(turn, codes)]))
        trajectory = RecordedAgent(PlainAgent(agent), seed=3).run_task(task)
        assert trajectory.answer == "64"
        assert trajectory.end_reason == "answer"
        look, broken, final = trajectory.steps
        assert look.code.startswith("w = width('files/photo.png')")
        assert "files/photo.png 64" in look.observation
        assert look.tools == ["width"] and look.error is None
        assert broken.error and final.is_final
        # smolagents shows the attachment at every step; the record has it once.
        assert [image.path for image in trajectory.images] == ["files/photo.png"]
        assert trajectory.provenance["seed"] == 3
        assert Trajectory.from_dict(trajectory.to_dict()) == trajectory

    def test_limits_end_the_run(self, task):
        thinking = [turn("print('hm')")] * 5

        class Counting(ScriptedModel):
            def generate(self, *args, **kwargs):
                message = super().generate(*args, **kwargs)
                message.token_usage.input_tokens = message.token_usage.total_tokens = 60
                return message

        trajectory = PlainAgent(stock([], model=Counting(thinking)), token_budget=100).run_task(task)
        assert (trajectory.end_reason, trajectory.answer, len(trajectory.steps)) == ("token_budget", None, 2)
        trajectory = PlainAgent(stock([], *thinking), time_limit=1e-6).run_task(task)
        assert (trajectory.end_reason, len(trajectory.steps)) == ("time_limit", 1)

    def test_at_the_limit_of_steps_it_answers_as_smolagents_has_it(self, task):
        trajectory = PlainAgent(stock([], turn("print(1)"), "It is 64.", max_steps=1)).run_task(task)
        assert (trajectory.end_reason, trajectory.answer, len(trajectory.steps)) == ("max_steps", "It is 64.", 1)


class TestRecordedCalls:
    def test_arguments_are_the_values_that_the_code_passed(self, task):
        code = "for n in range(2):\n    width('files/none.png', scale=n)"
        model = ScriptedModel([turn(code), turn("crop('files/photo.png')"), turn("final_answer(5)")])
        trajectory = RecordedAgent(T3Agent([width, Crop()], model, prompt="compact")).run_task(task)
        assert trajectory.provenance["calls"] == [
            {"name": "width", "arguments": {"image_path": "files/none.png", "scale": 0}, "error": "FileNotFoundError"},
            {"name": "crop", "arguments": {"image_path": "files/photo.png"}, "error": None},
        ]

    def test_values_that_json_does_not_know_are_text(self, task):
        model = ScriptedModel([turn("width({1, 2}, scale=float('nan'))"), turn("final_answer(5)")])
        # The sandbox hands on JSON only.
        agent = T3Agent([width], model, prompt="compact", executor_type="local")
        trajectory = RecordedAgent(agent).run_task(task)
        assert trajectory.provenance["calls"][0]["arguments"] == {"image_path": "{1, 2}", "scale": "nan"}
        trajectory.to_dict()

    def test_agents_that_share_a_tool_keep_their_calls_apart(self, tmp_path):
        picture = draw(tmp_path / "photo.png")
        tasks = [Task(id=str(n), query="Wide?", files=(File.from_path(picture),)) for n in range(6)]

        def work(number):
            code = f"width('{picture}', scale={number})"
            agent = RecordedAgent(PlainAgent(stock([width], turn(code), turn("final_answer(5)"))))
            return [call["arguments"]["scale"] for call in agent.run_task(tasks[number]).provenance["calls"]]

        assert in_threads([partial(work, number) for number in range(6)]) == [[number] for number in range(6)]


def test_a_scenario_is_scored_by_its_own_rules(task):
    model = ScriptedModel([turn("print(width('x'))"), turn("final_answer(' 64. ')")])
    trajectory = RecordedAgent(T3Agent([width], model, prompt="compact")).run_task(task)
    (score,) = score_scenarios([trajectory])
    assert score.correct is True
    assert score.counts == {"ans_acc": [1, 1], "code_exec": [1, 2], "tool_acc": [1, 1]}
    assert score.usage["cost"] is None
    assert score.error_type is None


def test_a_task_without_a_file_that_can_be_read_fails_with_a_sentence(tmp_path):
    missing = File("files/a.png", "image/png", "0" * 64, tmp_path / "gone.png")
    with pytest.raises((InputError, OSError)):
        PlainAgent(stock([], turn("final_answer(1)"))).run_task(Task(id="a", query="b", files=(missing,)))
