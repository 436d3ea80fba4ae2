"""The agent with a scripted controller: its turns, observations, limits, pictures, and what it keeps of smolagents."""

import json
import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from smolagents import CodeAgent, RunResult, tool
from smolagents.agents import ActionOutput
from smolagents.local_python_executor import LocalPythonExecutor
from smolagents.memory import ActionStep, FinalAnswerStep, PlanningStep, TaskStep
from smolagents.models import ChatMessage, ChatMessageStreamDelta
from smolagents.monitoring import TokenUsage
from smolagents.utils import AgentError, AgentGenerationError, AgentMaxStepsError

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import called_tools, parse_turn
from t3_agents.workspace import Workspace
from tests.helpers import in_threads, png
from tests.helpers.tiny_vlm import turn


DONE = turn("final_answer('done')")
DRAW = "from PIL import Image\n"


class WatchedModel(ScriptedModel):
    """A script that notes what it was shown, and says what that cost."""

    def __init__(self, outputs, tokens=(10, 5), seconds=0.0):
        super().__init__(outputs)
        self.tokens = tokens
        self.seconds = seconds
        self.seen = []

    def generate(self, messages, stop_sequences=None, **kwargs):
        self.seen.append(messages)
        time.sleep(self.seconds)
        message = super().generate(messages, stop_sequences, **kwargs)
        message.token_usage = TokenUsage(*self.tokens)
        return message

    def shown(self):
        """Number of pictures in every call."""
        return [sum(part["type"] == "image" for m in messages for part in m.content) for messages in self.seen]

    def text(self, call=-1):
        return "\n".join(part.get("text", "") for m in self.seen[call] for part in m.content)


@tool
def lookup(name: str) -> str:
    """Looks a name up.

    Args:
        name: the name.
    """
    if name == "nobody":
        raise InputError("There is no entry `nobody`.")
    return f"{name} is 42"


def make_agent(*outputs, **settings):
    model = settings.pop("model", None) or WatchedModel(list(outputs))
    return T3Agent(**{"tools": [lookup], "model": model, "prompt": "compact", **settings})


def run_code(*codes, task=None, **settings):
    agent = make_agent(*map(turn, codes), DONE, **settings)
    return agent, agent.run_task(task or Task.create("Do it."))


def picture(name="files/photo.png", color="red"):
    return File.from_bytes(png(color, (8, 6)), name)


class TestParseTurn:
    @pytest.mark.parametrize(
        ("text", "thought", "code", "blocks"),
        [
            (turn("print(1)", "look"), "look", "print(1)", 1),
            ("Thought: a\nCode:\n```py\nx = 1\n```<end_action>", "a", "x = 1", 1),
            ("```py\nx = 1\n\ny = 2\n```\nwords behind", "", "x = 1\n\ny = 2", 1),
            ("no label\n```py  \nx = 1\n```", "no label", "x = 1", 1),
            ("Thought: a\nCode:\n```py\nx = 1", "a", "", 1),
            ("Thought: a\nCode:\n```py", "a\nCode:\n```py", "", 0),
            ("Thought: a\nCode:\n```py\n```<end_action>", "a", "", 1),
            (turn("a = 1") + "\n" + turn("b = 2"), "think", "a = 1", 2),
            ("```py\na = 1\n```\n```py\nb = ", "", "a = 1", 2),
            ("", "", "", 0),
            ("```json\n{}\n```", "```json\n{}\n```", "", 0),
            ("Thought: a\nCode:\n```py\nprint('```')\n```<end_action>", "a", "print('```')", 1),
            (
                "```py\nfinal_answer('''# T\n```python\nx\n```\n''')\n```<end_action>",
                "",
                "final_answer('''# T\n```python\nx\n```\n''')",
                1,
            ),
            ("```py\nprint('```<end_action>')\n```<end_action>", "", "print('```<end_action>')", 1),
            ("Use ```py for code.\n```py\nx = 1\n```<end_action>", "Use ```py for code.", "x = 1", 1),
            ("```py x = 1\nprint(x)\n```<end_action>", "", "x = 1\nprint(x)", 1),
            ("```python print(1)```<end_action>", "", "print(1)", 1),
            ("Code:\n```py\nx = 1\n``<end_action>", "", "x = 1", 1),
            ("```py\nx = 1\n``", "", "x = 1", 1),
            ("```py\nx = 1\n```<end_ac", "", "x = 1", 1),
            ("```py\nx = 1<end_action>", "", "x = 1", 1),
            ("Thought: naïve ☕\nCode:\n```py\nprint('ü')\n```<end_action>", "naïve ☕", "print('ü')", 1),
        ],
    )
    def test_parts(self, text, thought, code, blocks):
        assert parse_turn(text) == (thought, code, blocks)

    def test_an_endless_turn_is_read_in_linear_time(self):
        # What goes back for each character would take hours.
        assert parse_turn("Thought: " + " \n" * 200_000 + "x")[2] == 0
        assert parse_turn("```py\n" * 20_000)[2] == 20_000

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("a\n<code>\nx = 1\n</code>", "x = 1"),
            ("a\n<code>x = 1</code>", "x = 1"),
            ("a\n<code>\nx = '</code>'\n</code>", "x = '</code>'"),
            ("a\n<code>\nx = 1\n</cod", "x = 1"),
            ("a\n<code>\nx = y <", ""),  # cut in the middle of an expression
        ],
    )
    def test_other_tags(self, text, code):
        assert parse_turn(text, ("<code>", "</code>")) == ("a", code, 1)


def test_called_tools_are_named_in_order():
    code = "y = a(b(1))\nif y:\n    a(2)\nc = a\nd.b(3)\nprint(y)"
    assert called_tools(code, {"a", "b"}) == ["a", "b", "a"]
    assert called_tools("a(", {"a"}) == [] and called_tools("\0", {"a"}) == []


class TestObservations:
    def observe(self, code, **settings):
        return run_code(code, **settings)[1].steps[0]

    @pytest.mark.parametrize(
        ("code", "observation"),
        [
            ("print(1)\nprint('ü')", "1\nü"),
            ("x = 1", "1"),
            ("lookup('Ann')", "Ann is 42"),
            ("print('a')\n7", "a\n7"),
            ("pass", ""),
        ],
    )
    def test_what_was_printed_and_returned(self, code, observation):
        step = self.observe(code)
        assert (step.observation, step.error, step.is_final) == (observation, None, False)

    @pytest.mark.parametrize(
        ("output", "error"),
        [
            ("no code at all", "no code block was found"),
            ("", "no code block was found"),
            (turn(""), "the code block is empty"),
            (turn("print("), "not valid Python ('(' was never closed in line 1)"),
            (turn("x = 1\n  y = 2"), "not valid Python (unexpected indent in line 2)"),
            (turn("(" * 300 + ")" * 300), "not valid Python"),
            (turn("x = '\0'"), "not valid Python"),
        ],
    )
    def test_turns_without_code_that_could_run(self, output, error):
        agent = make_agent(output, DONE)
        trajectory = agent.run_task(Task.create("Do it."))
        assert error in trajectory.steps[0].error and trajectory.answer == "done"
        assert f"Observation: Error: {trajectory.steps[0].error}" in agent.model.text() or not output

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("print(missing)", "name 'missing' is not defined\n(in line 2: print(missing))"),
            ("lookup('nobody')", "There is no entry `nobody`."),
            ("import subprocess", "subprocess"),
            ("open('/etc/passwd')", "No such file or directory: '/etc/passwd'. Files here: none"),
            ("open('files/none.txt')", "Files here: none"),
            ("raise SystemExit", "SystemExit"),
            ("raise KeyboardInterrupt('stop')", "KeyboardInterrupt: stop"),
            ("9**9**5", "4300 digits"),
            ("final_answer(9**9**5)", "4300 digits"),
        ],
    )
    def test_what_the_code_raises_is_an_observation(self, code, error):
        agent, trajectory = run_code(f"print('before')\n{code}")
        step = trajectory.steps[0]
        assert error in step.error and step.observation == "before" and not step.is_final
        assert "before\nError: " in agent.model.text() and trajectory.answer == "done"

    def test_of_two_blocks_the_first_is_run(self):
        agent = make_agent(turn("print('one')") + "\n" + turn("print('two')"), DONE)
        step = agent.run_task(Task.create("Do it.")).steps[0]
        assert step.observation == "one\nOnly the first code block was run."
        assert step.code == "print('one')"

    def test_long_prints_and_errors_lose_their_middle(self):
        step = self.observe("print('a' * 10**6 + 'end')", max_observation_length=200)
        assert len(step.observation) < 300 and step.observation.endswith("end") and "left out" in step.observation
        assert len(self.observe("raise ValueError('x' * 10**6)").error) < 1000

    @pytest.mark.parametrize(
        "code",
        [
            "while True: pass",
            "for i in range(10**12): pass",
            "try:\n    while True: pass\nexcept Exception:\n    pass\nfinally:\n    print('over')",
            "import time\nprint('start')\ntime.sleep(10**6)",
        ],
        ids=["while", "for", "handler", "sleep"],
    )
    def test_endless_code_is_ended(self, code):
        agent, trajectory = run_code(code, "print('next')", code_time_limit=0.5)
        assert "exceeded the maximum execution time of 0.5 seconds" in trajectory.steps[0].error
        assert trajectory.steps[1].observation == "next" and trajectory.answer == "done"

    def test_a_server_that_cuts_the_closing_tag_changes_nothing(self):
        agent = make_agent("Thought: a\nCode:\n```py\nprint(1)\n", DONE)
        trajectory = agent.run_task(Task.create("Do it."))
        assert trajectory.steps[0].observation == "1"
        assert trajectory.steps[0].model_output.endswith("\n```<end_action>")


class TestRecord:
    def test_the_trajectory_tells_what_was_done(self):
        steps = []
        agent = make_agent(turn("x = lookup('Ann')\nprint(x)", "ask"), turn("final_answer(x)", "tell"))
        trajectory = agent.run_task(Task.create("Who?", ground_truth="?"), on_step=steps.append)
        first, last = trajectory.steps
        assert (first.thought, first.code, first.tools) == ("ask", "x = lookup('Ann')\nprint(x)", ["lookup"])
        assert (first.input_tokens, first.output_tokens, first.output_ids) == (10, 5, None)
        assert (last.is_final, last.tools) == (True, ["final_answer"])
        assert trajectory.answer == "Ann is 42" and trajectory.end_reason == "answer"
        assert trajectory.provenance["controller"] == "scripted" and trajectory.provenance["prompt"] == "compact"
        assert trajectory.provenance["toolbox"] == [{"name": "lookup", "version": None}]
        # A step is made once: what the caller was told, the record and the trajectory are the same objects.
        assert [id(s) for s in steps] == [id(first), id(last)] == [id(s) for s in agent.steps[1:]]
        assert Trajectory.from_dict(trajectory.to_dict()).to_messages() == trajectory.to_messages()

    def test_the_model_saw_the_rendered_conversation(self):
        agent, trajectory = run_code("print(1)", "1 / 0")
        rendered = trajectory.to_messages()
        for number, messages in enumerate(agent.model.seen):
            assert all(isinstance(m, ChatMessage) for m in messages)
            assert [m.role.value for m in messages] == [m["role"] for m in rendered[: 2 + 2 * number]]
            assert [m.content for m in messages] == [m["content"] for m in rendered[: 2 + 2 * number]]

    @pytest.mark.parametrize(("value", "answer"), [("None", ""), ("3.5", "3.5"), ("['a', 1]", "['a', 1]"), ("''", "")])
    def test_answers_are_strings(self, value, answer):
        assert make_agent(turn(f"final_answer({value})")).run_task(Task.create("?")).answer == answer

    def test_a_picture_as_the_answer(self):
        code = DRAW + "final_answer(Image.new('RGB', (8, 8)))"
        trajectory = make_agent(turn(code), additional_authorized_imports=["PIL", "PIL.*"]).run_task(Task.create("?"))
        assert isinstance(trajectory.answer, str) and trajectory.answer and trajectory.to_row()

    def test_nothing_leaks_into_the_next_run(self):
        agent = make_agent(turn("secret = 1\nopen('note.txt', 'w').write('x')"), DONE, turn("print(secret)"), DONE)
        agent.run_task(Task.create("one"))
        second = agent.run_task(Task.create("two"))
        assert "name 'secret' is not defined" in second.steps[0].error
        assert agent.workspace.list() == [] and "one" not in agent.model.text(2)
        assert len(second.steps) == 2
        agent = make_agent(DONE, turn("print(secret)"), DONE)
        agent.run("one", additional_args={"secret": 1})
        assert "name 'secret' is not defined" in agent.run_task(Task.create("two")).steps[0].error

    def test_a_workspace_of_the_caller(self, tmp_path):
        agent = make_agent(turn("open('outputs/a.txt', 'w').write('x')"), DONE)
        agent.run_task(Task.create("?"), workspace=Workspace(tmp_path))
        assert (tmp_path / "outputs/a.txt").read_text() == "x"

    def test_an_attachment_that_cannot_be_read_ends_the_run_at_once(self):
        agent = make_agent(DONE)
        with pytest.raises(InputError, match="files/bad.png is not a readable image"):
            agent.run_task(Task.create("?", [File.from_bytes(b"words", "files/bad.png")]))
        assert agent.model.seen == []

    def test_a_model_that_fails_ends_the_run(self):
        class Broken(WatchedModel):
            def generate(self, messages, stop_sequences=None, **kwargs):
                raise ConnectionError("no server")

        with pytest.raises(AgentGenerationError, match="no server"):
            make_agent(model=Broken([])).run_task(Task.create("?"))
        # A mistake of the user stays one sentence.
        with pytest.raises(InputError, match="The script has 0 turns"):
            make_agent().run_task(Task.create("?"))


class TestLimits:
    @pytest.mark.parametrize(
        ("outputs", "settings", "reason", "number"),
        [
            ([turn("print(1)")], {"max_steps": 3}, "max_steps", 3),
            (["words"], {}, "max_errors", 5),
            # A step that works starts the count of errors anew.
            (["a", "b", turn("print(1)"), "c", "d", turn("1 / 0")], {"max_consecutive_errors": 3}, "max_errors", 6),
            ([turn("print(1)")], {"token_budget": 31}, "token_budget", 3),
        ],
    )
    def test_a_limit_ends_the_run_without_an_answer(self, outputs, settings, reason, number):
        agent = make_agent(*outputs * 9, **settings)
        trajectory = agent.run_task(Task.create("?"))
        assert (trajectory.end_reason, trajectory.answer) == (reason, None) and trajectory.to_row()
        assert len(agent.model.seen) == len(trajectory.actions) == number

    def test_time(self):
        agent = make_agent(model=WatchedModel([turn("print(1)")] * 9, seconds=0.5), time_limit=0.9)
        trajectory = agent.run_task(Task.create("?"))
        assert trajectory.end_reason == "time_limit" and len(trajectory.actions) <= 2

    def test_an_answer_in_the_last_step_counts(self):
        agent = make_agent(turn("print(1)"), DONE, max_steps=2, token_budget=30)
        trajectory = agent.run_task(Task.create("?"))
        assert (trajectory.end_reason, trajectory.answer) == ("answer", "done")

    def test_the_next_run_has_limits_of_its_own(self):
        agent = make_agent("a", "b", DONE, max_consecutive_errors=2)
        assert agent.run_task(Task.create("?")).end_reason == "max_errors"
        assert agent.run_task(Task.create("?")).end_reason == "answer"

    @pytest.mark.parametrize("settings", [{"max_steps": 2}, {"max_consecutive_errors": 2}, {"token_budget": 30}])
    def test_run_asks_for_an_answer_at_a_limit_as_smolagents_does(self, settings):
        steps = []
        make_agent("a", "b", **settings).run_task(Task.create("?"), on_step=steps.append)
        assert [s.model_output for s in steps] == ["a", "b"]
        agent = make_agent("a", "b", "my best guess", **settings)
        assert agent.run("?") == "my best guess"
        assert agent.end_reason == {"max_consecutive_errors": "max_errors"}.get(*settings, *settings)


class TestPictures:
    IMPORTS = {"additional_authorized_imports": ["PIL", "PIL.*"]}

    def test_attachments_are_shown_once_over_the_run(self):
        task = Task.create("?", [picture(), picture("files/other.png", "blue"), File.from_bytes(b"a", "files/a.txt")])
        agent, trajectory = run_code("print(1)", "print(2)", task=task)
        assert agent.model.shown() == [2, 2, 2]
        assert [image.path for image in trajectory.images] == ["files/photo.png", "files/other.png"]
        assert agent.workspace.list() == ["files/a.txt", "files/other.png", "files/photo.png"]
        assert trajectory.images[0].read_bytes() == task.files[0].read_bytes()

    @pytest.mark.parametrize(
        "code", ["Image.new('RGB', (8, 8), 'green')", "Image.new('RGB', (8, 8), 'green').save('plot.png')\nprint(1)"]
    )
    def test_a_picture_of_a_step_is_shown_in_the_turn_after_it(self, code):
        agent, trajectory = run_code(DRAW + code, "print(2)", "print(3)", **self.IMPORTS)
        assert agent.model.shown() == [0, 1, 1, 1]
        assert [step.images for step in trajectory.steps] == [[0], [], [], []]
        path = trajectory.images[0].path
        assert path in trajectory.steps[0].observation and path in agent.workspace.list()
        assert trajectory.images[0].open_image().getpixel((0, 0)) == (0, 128, 0)

    def test_pictures_follow_those_of_the_task(self):
        code = DRAW + "Image.new('RGB', (8, 8), 'green')"
        agent, trajectory = run_code(code, code, task=Task.create("?", [picture()]), **self.IMPORTS)
        assert agent.model.shown() == [1, 2, 3]
        assert [step.images for step in trajectory.steps] == [[1], [2], []]
        assert len({image.path for image in trajectory.images}) == 3

    @pytest.mark.parametrize("limit", [0, 1, 2])
    def test_a_step_shows_no_more_pictures_than_allowed(self, limit):
        code = DRAW + "for n in range(3):\n    Image.new('RGB', (8, 8)).save(f'{n}.png')\n1 / 0"
        agent, trajectory = run_code(code, "print(1)", max_images_per_step=limit, **self.IMPORTS)
        assert agent.model.shown() == [0, limit, limit]
        assert f"({3 - limit} more pictures are not shown.)" in trajectory.steps[0].observation
        assert trajectory.steps[0].error, "a step that failed shows its pictures too"

    def test_a_picture_saved_in_the_final_step_does_not_break_the_row(self):
        code = DRAW + "Image.new('RGB', (8, 8)).save('a.png')\nfinal_answer('a.png')"
        agent = make_agent(turn(code), **self.IMPORTS)
        trajectory = agent.run_task(Task.create("?", [picture()]))
        row = trajectory.to_row()
        assert (trajectory.answer, len(row["images"]), agent.workspace.list()[0]) == ("a.png", 1, "a.png")
        assert sum(p["type"] == "image" for m in row["messages"] for p in m["content"]) == 1

    def test_equal_pictures_are_pictures_of_their_own(self):
        code = DRAW + "Image.open('files/photo.png').save('copy.png')"
        agent, trajectory = run_code(code, task=Task.create("?", [picture(), picture("files/b.png")]), **self.IMPORTS)
        assert agent.model.shown() == [2, 3]
        assert [image.path for image in trajectory.images] == ["files/photo.png", "files/b.png", "copy.png"]
        assert trajectory.steps[0].images == [2] and trajectory.to_row()

    def test_smolagents_memory_holds_the_pictures_of_the_record(self):
        code = DRAW + "Image.new('RGB', (8, 8), 'green')"
        agent, _ = run_code(code, task=Task.create("?", [picture()]), **self.IMPORTS)
        asked, drawn, last = agent.memory.steps
        assert len(asked.task_images) == len(drawn.observations_images) == 1 and last.observations_images is None
        assert drawn.observations_images[0].getpixel((0, 0)) == (0, 128, 0)
        agent.replay()

    def test_run_shows_its_images_once(self):
        agent = make_agent(turn("print(1)"), "words", turn("1 / 0"), DONE)
        assert agent.run("?", images=[Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9))]) == "done"
        assert agent.model.shown() == [2, 2, 2, 2]

    @pytest.mark.parametrize("form", ["picture", "path", "str"])
    def test_run_shows_its_images_as_people_see_them(self, tmp_path, form):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("CMYK", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
        agent = make_agent(DONE)
        given = {"picture": Image.open, "path": Path, "str": str}[form](tmp_path / "a.jpg")
        agent.run("?", images=[given])
        (shown,) = (agent._pictures[file.sha256] for file in agent.images)
        assert (shown.mode, shown.size, agent.images[0].open_image().size) == ("RGB", (40, 60), (40, 60))

    def test_the_stock_agent_shows_them_again_and_again(self):
        # What T3Agent is for; when this fails smolagents has changed.
        model = WatchedModel(["<code>\nprint(1)\n</code>"] * 2 + ["<code>\nfinal_answer(1)\n</code>"])
        CodeAgent(tools=[], model=model, verbosity_level=0).run("?", images=[Image.new("RGB", (8, 8))])
        assert model.shown() == [1, 2, 3]


class TestWhatRunKeepsOfSmolagents:
    def test_streaming(self):
        items = list(make_agent(turn("print(1)"), DONE).run("?", stream=True))
        kinds = [type(item) for item in items if isinstance(item, (ActionStep, FinalAnswerStep))]
        assert kinds == [ActionStep, ActionStep, FinalAnswerStep]
        assert [item.is_final_answer for item in items if isinstance(item, ActionOutput)] == [False, True]
        assert items[-1].output == "done"

    def test_streamed_outputs(self):
        class StreamingModel(WatchedModel):
            def generate_stream(self, messages, stop_sequences=None, **kwargs):
                text = self.generate(messages).content
                for start in range(0, len(text), 7):
                    yield ChatMessageStreamDelta(content=text[start : start + 7])

        agent = make_agent(model=StreamingModel([turn("print(1)"), DONE]), stream_outputs=True)
        items = list(agent.run("?", stream=True))
        deltas = [item.content for item in items if isinstance(item, ChatMessageStreamDelta)]
        assert "".join(deltas) == turn("print(1)") + DONE and items[-1].output == "done"

    def test_additional_args(self):
        agent = make_agent(turn("final_answer(x + 1)"))
        assert agent.run("?", additional_args={"x": 41}) == 42
        assert "{'x': 41}" in agent.model.text()

    def test_the_full_result(self):
        agent = make_agent(turn("print(1)"), DONE)
        result = agent.run("?", return_full_result=True)
        assert isinstance(result, RunResult) and (result.output, result.state) == ("done", "success")
        assert result.token_usage.total_tokens == 30 and len(result.steps) == 3

    def test_step_callbacks(self):
        steps = []
        agent = make_agent(turn("print(1)"), DONE, step_callbacks=[lambda step, agent: steps.append((step, agent))])
        agent.run("?")
        assert [step.is_final_answer for step, _ in steps] == [False, True]
        assert all(called is agent for _, called in steps)

    def test_a_conversation_goes_on(self):
        agent = make_agent(turn("x = 1\nprint(x)"), DONE, turn("final_answer(x + 1)"))
        agent.run("First?", images=[Image.new("RGB", (8, 8))])
        assert agent.run("Second?", reset=False, images=[Image.new("RGB", (9, 9))]) == 2
        assert agent.model.shown() == [1, 1, 2]
        roles = [m.role.value for m in agent.model.seen[-1]]
        assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
        assert agent.model.seen[-1][-1].content[-1]["text"] == "Second?"
        agent.model.outputs.append(DONE)
        assert agent.run("Third?") == "done" and "First?" not in agent.model.text()

    def test_planning(self):
        steps = []
        outputs = ["First look.", turn("print(1)"), turn("print(2)"), "Then tell.", DONE]
        callbacks = {PlanningStep: lambda step, agent: steps.append(step)}
        agent = make_agent(*outputs, planning_interval=2, step_callbacks=callbacks)
        assert agent.run("?", images=[Image.new("RGB", (8, 8))]) == "done"
        assert len(steps) == 2 and agent.model.shown() == [0, 1, 1, 1, 1]
        assert "First look." in agent.model.text(1) and "Then tell." in agent.model.text(4)
        for call in (1, 2, 4):
            roles = [m.role.value for m in agent.model.seen[call]]
            assert all(a != b for a, b in zip(roles, roles[1:], strict=False)), roles

    def test_planning_in_a_task(self):
        agent = make_agent("First look.", turn("print(1)"), DONE, planning_interval=5)
        trajectory = agent.run_task(Task.create("?", [picture()]))
        assert [step.kind for step in trajectory.steps] == ["plan", "action", "action"]
        assert trajectory.to_row()["num_steps"] == 2 and trajectory.answer == "done"

    def test_final_answer_checks(self):
        def is_short(answer, memory, agent):
            return len(answer) < 5

        agent = make_agent(turn("final_answer('too long')"), DONE, final_answer_checks=[is_short])
        trajectory = agent.run_task(Task.create("?"))
        assert trajectory.answer == "done" and "is_short failed" in trajectory.steps[0].error
        assert [step.is_final for step in trajectory.steps] == [False, True]
        assert "is_short failed" in agent.model.text()

    def test_instructions_stand_in_the_system_prompt(self):
        for prompt in ("compact", "paper"):
            agent = make_agent(DONE, prompt=prompt, instructions="Answer in French.")
            agent.run("?")
            assert "Answer in French." in agent.model.text() and "lookup" in agent.model.text()

    def test_an_unknown_prompt(self):
        with pytest.raises(InputError, match="no prompt `long`; choose one of: compact, paper"):
            make_agent(prompt="long")


class TestManagedAgents:
    NAMED = {"name": "helper", "description": "Helps."}

    def test_an_agent_of_this_package_shares_the_workspace(self):
        copying = turn("open('outputs/note.txt', 'w').write(open('files/a.txt').read() + '!')")
        helper = make_agent(copying, DONE, **self.NAMED)
        codes = ["print(helper('copy it'))", "print(open('outputs/note.txt').read())"]
        task = Task.create("?", [File.from_bytes(b"hello", "files/a.txt")])
        before = os.getcwd()
        agent, trajectory = run_code(*codes, task=task, managed_agents=[helper], code_time_limit=20)
        assert [step.observation for step in trajectory.steps[:2]] == ["done", "hello!"]
        assert trajectory.steps[0].tools == ["helper"] and os.getcwd() == before
        assert "copy it" in helper.model.text(0) and "helper(task)" in agent.model.text(0)

    def test_a_stock_agent_can_be_managed(self):
        model = WatchedModel(["<code>\nfinal_answer(6 * 7)\n</code>"])
        helper = CodeAgent(tools=[], model=model, verbosity_level=0, **self.NAMED)
        _, trajectory = run_code("print(helper('multiply'))", managed_agents=[helper])
        assert "42" in trajectory.steps[0].observation

    def test_it_can_be_managed_by_a_stock_agent(self):
        model = WatchedModel(["<code>\nfinal_answer(helper('go'))\n</code>"])
        manager = CodeAgent(tools=[], model=model, managed_agents=[make_agent(DONE, **self.NAMED)], verbosity_level=0)
        assert manager.run("?") == "done"

    def test_it_answers_its_manager_at_a_limit(self):
        helper = make_agent("a", "b", "a guess", max_steps=2, **self.NAMED)
        _, trajectory = run_code("print(helper('try'))", managed_agents=[helper])
        assert trajectory.steps[0].observation == "a guess"


class TestConcurrentAgents:
    def test_every_agent_sees_its_own_workspace(self):
        def work(number):
            codes = [f"open('outputs/me.txt', 'w').write('{number}')"]
            codes += ["print(open('files/note.txt').read())"] * 4
            codes += ["final_answer(open('outputs/me.txt').read() + open('files/note.txt').read())"]
            note = File.from_bytes(f"note {number}".encode(), "files/note.txt")
            return make_agent(*map(turn, codes)).run_task(Task.create("?", [note])).answer

        before = os.getcwd()
        assert in_threads([partial(work, n) for n in range(4)]) == [f"{n}note {n}" for n in range(4)]
        assert os.getcwd() == before


@pytest.mark.parametrize("executor_type", ["sandbox", "local"])
class TestPython:
    """Code does what Python does, in both executors."""

    @pytest.mark.parametrize(
        ("code", "shown"),
        [
            ("o = []\nfor i in range(3): o.append(i)\nelse: o.append(100)\no", "[0, 1, 2, 100]"),
            (
                "def f(x):\n    try: return 1 / x\n    except Exception: return 'no'\n    finally: print('f')\n"
                "[f(1), f(0)]",
                "f\nf\n[1.0, 'no']",
            ),
            (
                "o = []\nfor i in range(9):\n    try:\n        if i == 1: continue\n        if i == 3: break\n"
                "        o.append(i)\n    except Exception: o.append('x')\no",
                "[0, 2]",
            ),
            ("def f(a, b=2, *, c=3): return a, b, c\nb = c = 9\nf(1)", "(1, 2, 3)"),
            (
                "def outer():\n    n = 0\n    def inner():\n        nonlocal n\n        n += 1\n        return n\n"
                "    inner()\n    return inner()\nouter()",
                "2",
            ),
            ("def f():\n    x = 1\nprint(f())", "None"),
            ("def g():\n    yield from (1, 2)\n[*g(), *{**{'a': 3}}.values()]", "[1, 2, 3]"),
            ("first, *rest = [1, 2, 3]\nf'{first!r:>3}{rest}'", "1[2, 3]"),
            # What an allowed module imports while it works, also from C, is not the code's import.
            ("import time\ntime.strptime('2020', '%Y').tm_year", "2020"),
            ("from datetime import datetime\ndatetime.strptime('7 May 2020', '%d %B %Y').month", "5"),
            ("import pandas as pd\npd.to_datetime('2020-02-03').strftime('%d.%m.')", "03.02."),
            ("import numpy as np\nnp.array([1.5]).astype(str).tolist()", "['1.5']"),
            ("__import__('math').sqrt(4)", "2.0"),
        ],
    )  # fmt: skip
    def test_values(self, code, shown, executor_type):
        step = run_code(code, executor_type=executor_type, additional_authorized_imports=["pandas", "numpy"])[1].steps[
            0
        ]
        assert (step.observation, step.error) == (shown.strip(), None)

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("import subprocess", "Import of `subprocess` is not allowed"),
            ("from os import path", "Import of `os` is not allowed"),
            ("__import__('os')", "Import of `os` is not allowed"),
            ("def f():\n    return 1 / 0\n\nf()", "division by zero\n(in line 4: f(), in line 2: return 1 / 0)"),
            ("lookup = 3", "Cannot assign to name 'lookup'"),
        ],
    )
    def test_errors_name_the_line(self, code, error, executor_type):
        step = run_code(code, executor_type=executor_type)[1].steps[0]
        assert error in step.error

    def test_answers_and_results_of_any_kind(self, executor_type):
        import numpy as np
        import pandas as pd

        @tool
        def results(kind: str) -> object:
            """Gives something.

            Args:
                kind: what.
            """
            red = Image.new("RGB", (4, 4), "red")
            return {
                "pictures": [red, red],
                "arrays": {"boxes": np.arange(8).reshape(2, 4) + 1, "score": np.float32(0.1)},
                "table": pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["p", "q"]),
                "keys": {1: (2, {3})},
            }[kind]

        def run(code, **settings):
            model = WatchedModel([turn(code)])
            imports = ["numpy", "pandas", "PIL"]
            settings = {"executor_type": executor_type, "additional_authorized_imports": imports, **settings}
            agent = T3Agent(tools=[results], model=model, prompt="compact", **settings)
            answer = agent.run("Do it.", additional_args={"table": pd.DataFrame({"n": [1.5, 2.5]})})
            agent.cleanup()
            return answer

        assert run("final_answer(len(results('pictures')))") == 2
        assert run("final_answer(results('arrays')['boxes'][0][3])") == 4
        assert run("final_answer(results('arrays')['score'])") == pytest.approx(0.1)
        assert run("final_answer(results('keys')[1])") == (2, {3})
        table = run("final_answer(results('table'))")
        assert table.loc["q", "a"] == 2 and table["b"].isna().tolist() == [False, True]
        assert run("final_answer(table['n'].sum())") == 4
        assert run("import numpy as np\nfinal_answer(np.array([[1, 2]]))").tolist() == [[1, 2]]
        picture = run(DRAW + "final_answer(Image.new('RGB', (5, 6), 'blue'))")
        assert picture.size == (5, 6) and picture.convert("RGB").getpixel((0, 0)) == (0, 0, 255)
        pictures = run(DRAW + "final_answer([Image.new('RGB', (5, 6), 'blue')])")
        assert [each.size for each in pictures] == [(5, 6)]

    def test_an_interruption_ends_the_code(self, executor_type):
        agent = make_agent(turn("while True: pass"), executor_type=executor_type)
        threading.Timer(1, agent.interrupt).start()
        with pytest.raises(AgentError, match="interrupted"):
            agent.run("Do it.")
        agent = make_agent(turn("while True: pass"), "late", executor_type=executor_type, time_limit=1)
        assert agent.run("Do it.") == "late" and agent.end_reason == "time_limit"

    def test_an_agent_in_a_tool_works_beside_the_one_that_calls_it(self, executor_type):
        directory = os.getcwd()

        @tool
        def ask(question: str) -> str:
            """Asks another agent.

            Args:
                question: what.
            """
            inner = make_agent(turn("open('a.txt', 'w').write('hi')\nfinal_answer(open('a.txt').read())"), **settings)
            return f"{inner.run(question)} {os.getcwd() == directory}"

        settings = {"executor_type": executor_type, "additional_authorized_imports": ["math"]}
        agent = make_agent(turn("final_answer(ask('What?'))"), tools=[ask], **settings)
        assert agent.run("Do it.") == "hi True"


class TestAsSmolagents:
    """Promises of smolagents' `CodeAgent` beyond those that its own tests check, see tests/smolagents_tests.py."""

    def test_a_follow_up_is_limited_by_itself_and_joined_with_a_line_break(self):
        agent = make_agent(turn("print(12)"), "7", turn("print(1)"), turn("final_answer(2)"), max_steps=1)
        full = agent.run("First?", return_full_result=True)
        assert (full.output, full.state, full.token_usage.output_tokens) == ("7", "max_steps_error", 10)
        assert agent.run("3 apples", reset=False, max_steps=2) == 2
        assert "Observation: 12\n3 apples" in agent.model.text(2)

    @pytest.mark.parametrize(
        ("settings", "outputs", "reason"),
        [
            ({"token_budget": 30}, [turn("print(1)")] * 2, "token_budget"),
            ({"max_consecutive_errors": 2}, [turn("1 / 0")] * 2, "max_errors"),
        ],
    )
    def test_limits_end_a_run_as_the_last_step_does(self, settings, outputs, reason):
        seen = []
        agent = make_agent(*outputs, "said", *outputs, "again", **settings)
        agent.step_callbacks.register(FinalAnswerStep, lambda step: seen.append(step.output))
        for answer in ("said", "again"):  # the second run has limits of its own
            full = agent.run("Do it.", reset=answer == "said", return_full_result=True)
            assert (full.output, full.state, agent.end_reason) == (answer, "max_steps_error", reason)
            last = agent.memory.steps[-1]
            assert (
                isinstance(last.error, AgentMaxStepsError) and last.step_number == 3 and last.action_output == answer
            )
        assert seen == ["said", "again"] and agent.monitor.total_output_token_count == 30

    @pytest.mark.parametrize(
        "memory",
        [
            [TaskStep(task="Earlier?")],
            [PlanningStep(model_input_messages=[], model_output_message=None, plan="Earlier?", timing=None)],
            [ActionStep(step_number=1, timing=None, model_output=turn("1", "Earlier?"), observations="one")],
        ],
        ids=["task", "plan", "action"],
    )
    def test_memory_of_others(self, memory):
        agent = make_agent(DONE)
        agent.memory.steps += memory
        assert agent.run("Now?", reset=False) == "done"
        text = agent.model.text()
        assert text.index("Earlier?") < text.index("Now?")

    def test_content_in_parts(self):
        class InParts(WatchedModel):
            def generate(self, *args, **kwargs):
                message = super().generate(*args, **kwargs)
                message.content = [{"type": "text", "text": message.content}]
                return message

        assert make_agent(model=InParts([turn("final_answer(4)")])).run("Two and two?") == 4

    def test_code_that_a_stop_string_cut(self):
        agent = make_agent('```py\nprint("""\n', DONE)
        agent.run("Do it.")
        assert "unterminated" in agent.steps[1].error and "write it in two parts" in agent.steps[1].error

    def test_an_executor_of_ones_own_is_kept(self):
        executor = LocalPythonExecutor([])
        agent = make_agent(turn("final_answer(x + 1)"), turn("final_answer(3)"), executor=executor)
        assert agent.run("?", additional_args={"x": 1}) == 2
        manager = make_agent(turn("final_answer(helper('?'))"), managed_agents=[self.named(agent)])
        assert manager.run_task(Task.create("?")).answer == "3" and agent.python_executor is executor

    def named(self, agent):
        agent.name, agent.description = "helper", "helps"
        return agent

    def test_markdown_tags_and_structured_outputs(self):
        agent = make_agent("```python\nfinal_answer(5)\n```", code_block_tags="markdown")
        assert agent.run("?") == 5
        said = json.dumps({"thought": "easy", "code": "final_answer(6)"})
        agent = make_agent("no JSON", said, use_structured_outputs_internally=True)
        assert agent.run("?") == 6 and agent.steps[-1].thought == "easy"
        assert "JSON object" in agent.steps[1].error

    def test_prints_may_be_longer(self):
        agent = make_agent(turn("print('a' * 9000)"), DONE, max_print_outputs_length=10_000)
        agent.run("?")
        assert agent.steps[1].observation == "a" * 9000
