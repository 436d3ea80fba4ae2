"""Small copies of GTA and GAIA in their own form, and a controller whose score on them is known by construction."""

from __future__ import annotations

import copy
import json
import re
import threading
from pathlib import Path

from PIL import Image, ImageDraw
from smolagents import Tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage

from t3_agents.agent.agent import T3Agent
from tests.helpers.tiny_vlm import turn


GTA_INPUTS = {
    "OCR": ["image"],
    "ImageDescription": ["image"],
    "RegionAttributeDescription": ["image", "bbox", "attribute"],
    "TextToBbox": ["image", "text", "top1"],
    "DrawBox": ["image", "bbox", "annotation"],
    "AddText": ["image", "text", "position", "color"],
    "GoogleSearch": ["query", "k"],
    "Calculator": ["expression"],
    "Solver": ["command"],
    "Plot": ["command"],
    "MathOCR": ["image"],
    "CountGivenObject": ["image", "text", "bbox"],
    "TextToImage": ["keywords"],
    "ImageStylization": ["image", "instruction"],
}


def made_tool(tool_name):
    """A tool with a name and inputs of GTA that returns a fixed text; `ImageStylization` always fails."""

    class MadeTool(Tool):
        name = tool_name
        description = f"Stands for {tool_name}."
        inputs = {key: {"type": "any", "description": key, "nullable": True} for key in GTA_INPUTS[tool_name]}
        output_type = "string"
        skip_forward_signature_validation = True

        def forward(self, **arguments):
            if tool_name == "ImageStylization":
                raise RuntimeError("no style today")
            return f"{tool_name} saw 5"

    return MadeTool()


class Script(Model):
    """Writes the turn that a script has for the task and the number of earlier turns.

    Args:
        turns (`dict[int, list[str]]`): turns by number of the task; the last one is said again and again.
    """

    def __init__(self, turns):
        super().__init__(model_id="script")
        self.turns = turns
        self.calls = 0
        self._lock = threading.Lock()

    def generate(self, messages, stop_sequences=None, **kwargs):
        with self._lock:
            self.calls += 1
        text = str([message.content for message in messages if message.role != MessageRole.SYSTEM])
        number = int(re.search(r"made question (\d+)", text)[1])
        said = sum(message.role == MessageRole.ASSISTANT for message in messages)
        turns = self.turns[number]
        usage = TokenUsage(input_tokens=100, output_tokens=10)
        return ChatMessage(MessageRole.ASSISTANT, content=turns[min(said, len(turns) - 1)], token_usage=usage)


def call(name, **arguments):
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"type": "function", "function": function}], "thought": "I look."}


def code_of(gta_turn):
    function = gta_turn["tool_calls"][0]["function"]
    arguments = ", ".join(f"{name}={value!r}" for name, value in function["arguments"].items())
    return turn(f"print({function['name']}({arguments}))")


def say(answer):
    return turn(f"final_answer({answer!r})")


IMAGE = {"image": "image/photo.png"}
LOOK, DESCRIBE = call("OCR", **IMAGE), call("ImageDescription", **IMAGE)
ADD, SEARCH = call("Calculator", expression="2+3"), call("GoogleSearch", query="five", k=4)
BOX, DRAW = call("DrawBox", **IMAGE, bbox="(1, 2, 30, 40)"), call("TextToImage", keywords="a cat, red")
STYLE = call("ImageStylization", **IMAGE, instruction="make it blue")
FIVE = {"whitelist": [["5", "five"]], "blacklist": None}
NOT_SIX = {"whitelist": [["5"]], "blacklist": [["6"]]}
BOTH = {"whitelist": [["apples"], ["pears"]], "blacklist": None}
POINT = {"whitelist": [["3.5"]], "blacklist": []}
OPEN = ["A red cat sleeps on the sofa.", "The cat is asleep."]
THINK = turn("print('thinking')")

# Number of a task: known answer, calls of its solution, what the controller does.
GTA_ROWS = [
    (FIVE, [LOOK], [code_of(LOOK), say("The answer is 5.")]),
    (FIVE, [LOOK], [code_of(LOOK), say("It is FIVE")]),
    (FIVE, [LOOK], [code_of(LOOK), say("It is 15")]),
    (NOT_SIX, [LOOK], [code_of(LOOK), say("It is 5 or 6")]),
    (BOTH, [LOOK], [code_of(LOOK), say("pears and apples")]),
    (BOTH, [LOOK], [code_of(LOOK), say("apples")]),
    (FIVE, [LOOK], [THINK]),
    (FIVE, [LOOK], [turn("print(("), code_of(LOOK), say("5")]),
    (FIVE, [LOOK], [code_of(DESCRIBE), say("5")]),
    (POINT, [LOOK], [code_of(LOOK), say("about 3.5 metres")]),
    (FIVE, [ADD, SEARCH], [code_of(ADD), code_of(SEARCH), say("5")]),
    (FIVE, [ADD, SEARCH], [code_of(ADD), say("six")]),
    (OPEN, [DESCRIBE], [code_of(DESCRIBE), say(OPEN[0])]),
    (OPEN, [DESCRIBE], [code_of(DESCRIBE), say(OPEN[1])]),
    (OPEN, [DESCRIBE], [THINK]),
    (OPEN, [DESCRIBE], [code_of(DESCRIBE), say("")]),
    (None, [BOX], [code_of(BOX), say("Drawn.")]),
    (None, [DRAW], [code_of(DRAW), say("Drawn.")]),
    (None, [BOX], [say("I cannot draw.")]),
    (None, [STYLE], [code_of(STYLE), say("It failed.")]),
]


def final_words(known):
    if not known:
        return "Done."
    return known[0] if isinstance(known, list) else " ".join(group[0] for group in known["whitelist"])


def gta_row(number):
    known, calls, _ = GTA_ROWS[number]
    dialogs = [{"role": "user", "content": f"This is made question {number}: what is it?"}]
    for solution in calls:
        name = solution["tool_calls"][0]["function"]["name"]
        dialogs += [solution, {"role": "tool", "name": name, "content": {"type": "text", "content": f"{name} saw 5"}}]
    dialogs.append({"role": "assistant", "content": final_words(known)})
    names = [solution["tool_calls"][0]["function"]["name"] for solution in calls]
    row = {
        "tools": [{"name": name, "inputs": [], "outputs": []} for name in dict.fromkeys([*names, "OCR"])],
        "files": [{"type": "image", "path": "image/photo.png", "url": None}],
        "dialogs": dialogs,
        "gt_answer": known,
    }
    return copy.deepcopy(row)


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (64, 48), (200, 220, 240))
    ImageDraw.Draw(image).rectangle((5, 5, 30, 40), fill=(200, 30, 30))
    image.save(path)
    return path


def make_gta(folder: Path) -> Path:
    """Write the made GTA; returns its folder."""
    draw(folder / "image" / "photo.png")
    rows = {str(number): gta_row(number) for number in range(len(GTA_ROWS))}
    (folder / "dataset.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    tools = {
        name: {"name": name, "description": name, "inputs": [{"name": key, "type": "text"} for key in keys]}
        for name, keys in GTA_INPUTS.items()
    }
    (folder / "toolmeta.json").write_text(json.dumps(tools))
    return folder


def gta_agent(model):
    return T3Agent([made_tool(name) for name in GTA_INPUTS], model, prompt="compact", max_steps=4)


def gta_script():
    return Script({number: script for number, (_, _, script) in enumerate(GTA_ROWS)})


def step_script():
    """Writes the solution's turns, but for five of them."""
    turns = {
        number: [*map(code_of, calls), say(final_words(known))] for number, (known, calls, _) in enumerate(GTA_ROWS)
    }
    turns[0][0] = code_of(DESCRIBE)  # another tool
    turns[1][0] = turn("print(OCR(image='image/other.png'))")  # another argument
    turns[2][0] = "I do not know what to write."  # no code
    turns[3][1] = code_of(LOOK)  # a call where the answer was due
    turns[4][1] = say("plums")  # a wrong answer
    return Script(turns)


# Level, attachment, known answer, what the controller answers (`None`: nothing), whether that is right.
GAIA_ROWS = [
    (1, "", "17", "17", True),
    (1, "", "17", "$17.0", True),
    (1, "", "1234.5", "1,234.50", True),
    (1, "", "17", "17 kg", False),
    (1, "notes.txt", "Paris", " paris. ", True),
    (1, "table.csv", "sea gull", "Seagull", True),
    (1, "photo.png", "red", "blue", False),
    (1, "", "Paris", "Paris, France", False),
    (2, "", "a, b, c", "a,b,c", True),
    (2, "", "a, b, c", "a, c, b", False),
    (2, "", "a, b, c", "a, b", False),
    (2, "", "1; 2.5", "1.0; $2.5", True),
    (2, "", "St. John's, 3", "St Johns, 3", False),
    (2, "", "Ærø", "ærø", True),
    (2, "", "5", None, False),
    (2, "data.json", "50", "50%", True),
    (3, "", "right", "", False),
    (3, "", "None", None, False),
    (3, "", "a.b", "ab", True),
    (3, "", "1,000", "1000", False),
]
SECRET = "zanzibar-canary"
"""A word of every question of the made GAIA, to be found nowhere but in trajectories."""


def gaia_rows(split):
    return [
        {
            "task_id": f"made-{number:02d}",
            "Question": f"This is made question {number} ({SECRET}): what is it?",
            "Level": level,
            "Final answer": known if split == "validation" else "?",
            "file_name": name,
            "Annotator Metadata": {"Steps": "1. look", "Tools": "1. eyes"},
        }
        for number, (level, name, known, _, _) in enumerate(GAIA_ROWS)
    ]


def make_gaia(folder: Path, split="validation", parquet=False) -> Path:
    """Write the made GAIA as a copy of its repo; returns the folder."""
    place = folder / "2023" / split
    draw(place / "photo.png")
    (place / "notes.txt").write_text("Paris is in these notes.")
    (place / "table.csv").write_text("bird,number\nsea gull,2\n")
    (place / "data.json").write_text('{"share": 50}')
    rows = gaia_rows(split)
    if parquet:
        import pyarrow
        import pyarrow.parquet

        table = [{**row, "Level": str(row["Level"])} for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), place / "metadata.parquet")
        return folder
    rows.insert(0, {"task_id": "0-0-0-0-0", "Question": "", "Level": 1, "Final answer": "?", "file_name": ""})
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (place / "metadata.jsonl").write_text(text + "\n", encoding="utf-8")
    return folder


def gaia_script():
    return Script(
        {number: [THINK, THINK if row[3] is None else say(row[3]), THINK] for number, row in enumerate(GAIA_ROWS)}
    )


def gaia_agent(model, **settings):
    return T3Agent([], model, prompt="compact", max_steps=3, **settings)
