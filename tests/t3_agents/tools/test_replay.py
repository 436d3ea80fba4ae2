"""The code of released trajectories in the default executor with the embedded tools.

`python -m tests.t3_agents.tools.test_replay` prints every turn and the shares.
"""

import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from t3_agents.replay import replay
from t3_agents.sandbox import PAPER_IMPORTS
from t3_agents.task import File, Task
from t3_agents.tools.toolbox import make_toolbox
from tests.tiny_vlm import turn


RELEASED = Path(__file__).parents[2] / "data" / "mat_released_sample.json"
PROMISED = """visualizer facedetection objectlocation inspect_file_as_text image_generator segmentation image_edit
ask_search_agent final_answer""".split()
_PICTURE = r"(?:\./)?[\w./-]+\.(?:jpe?g|png)\b"


def stand_in(path: str) -> File:
    """A real picture for one that was not released: text, shapes of two colours, and what its path ends in."""
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    draw.text((20, 20), "Sales 2019: 4424", fill="black", font_size=28)
    draw.text((20, 310), Path(path).stem[-12:], fill="black", font_size=20)
    draw.ellipse((60, 100, 180, 220), fill="red")
    draw.rectangle((260, 120, 400, 230), fill="blue")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if path.endswith(("jpg", "jpeg")) else "PNG")
    return File.from_bytes(buffer.getvalue(), path)


def released_runs():
    """Id, turns and task of every trajectory. Files that its own code writes get no stand-in."""
    for row in json.loads(RELEASED.read_text(encoding="utf-8")):
        turns = [message["value"] for message in row["conversations"] if message["from"] == "assistant"]
        shown = "\n".join(message["value"] for message in row["conversations"] if message["from"] == "user")
        written = set(re.findall(rf"_path = '({_PICTURE})'", "\n".join(turns)))
        paths = {path.removeprefix("./") for path in set(re.findall(_PICTURE, shown)) - written}
        yield row["id"], turns, Task.create(row["id"], [stand_in(path) for path in sorted(paths)])


def replay_released():
    return {
        name: replay(turns, task, make_toolbox("embedded"), PROMISED, additional_authorized_imports=[*PAPER_IMPORTS])
        for name, turns, task in released_runs()
    }


@pytest.fixture(scope="module")
def replayed():
    return replay_released()


@pytest.mark.slow
class TestReleased:
    def test_every_turn_was_run(self, replayed):
        assert {name: len(turns) for name, turns in replayed.items()} == {
            name: len(turns) for name, turns, _ in released_runs()
        }

    def test_nothing_fails_on_our_side(self, replayed):
        ours = [(name, t.step.error) for name, turns in replayed.items() for t in turns if t.outcome == "ours"]
        assert ours == []

    def test_blocks_that_compile_run_or_are_answered_by_the_tool(self, replayed):
        outcomes = Counter(t.outcome for turns in replayed.values() for t in turns)
        assert outcomes["no_code"] == 3 and sum(outcomes.values()) == 51
        assert outcomes["ran"] >= 44 and outcomes["mistake"] == 0

    def test_tools_gave_real_answers(self, replayed):
        seen = {tool for turns in replayed.values() for t in turns for tool in t.step.tools}
        assert {"visualizer", "ask_search_agent", "objectlocation", "facedetection", "image_edit"} <= seen
        assert "4424" in replayed["jAieNa_O"][0].step.observation


class TestOutcomes:
    def outcomes(self, *codes, tools=("visualizer",), **settings):
        chosen = [tool for tool in make_toolbox("embedded") if tool.name in tools]
        task = Task.create("?", [stand_in("files/a.png")])
        return [t.outcome for t in replay([turn(code) for code in codes], task, chosen, PROMISED, **settings)]

    def test_each_kind(self):
        assert self.outcomes(
            "print(visualizer(image_path='files/a.png', question='What is it?'))",
            "print(nothing)",
            "print(objectlocation(object='cup', image_path='files/a.png'))",
            "print(visualizer('files/b.png', 'What is it?'))",
            "print(visualizer(picture='files/a.png'))",
            "answer = visualizer('files/b.png', 'What is it?')",
            "print(answer)",
            "print(1 / 0)",
            "final_answer('done')",
        ) == ["ran", "mistake", "ours", "refused", "ours", "refused", "follows", "mistake", "ran"]

    def test_a_module_that_is_not_there_is_ours(self):
        assert self.outcomes("import sympy\nprint(1)", additional_authorized_imports=[]) == ["ours"]

    def test_turns_without_code(self):
        task = Task.create("?")
        turns = ["I cannot do this.", turn("print(1"), turn("final_answer('done')")]
        assert [t.outcome for t in replay(turns, task, [])] == ["no_code", "no_code", "ran"]


if __name__ == "__main__":
    outcomes = Counter()
    for name, turns in replay_released().items():
        for number, replayed_turn in enumerate(turns, start=1):
            outcomes[replayed_turn.outcome] += 1
            step = replayed_turn.step
            said = (step.error or step.observation).replace("\n", " / ")[:90]
            print(f"{name} {number} {replayed_turn.outcome:8} {','.join(step.tools):30} {said}")
    blocks = sum(outcomes.values()) - outcomes["no_code"]
    print(f"{sum(outcomes.values())} turns, {blocks} hold code that compiles.")
    for outcome, count in outcomes.most_common():
        print(f"{outcome}: {count}" + (f" ({count / blocks:.1%} of these)" if outcome != "no_code" else ""))
