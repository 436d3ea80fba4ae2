import json
import subprocess
import sys
from functools import partial

import pytest
from smolagents import tool as as_tool

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import Task
from t3_agents.tools import gta
from t3_agents.tools.ask_search_agent import AskSearchAgent
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.tools.toolbox import TOOLBOXES, make_toolbox, tool_from_record, tool_record
from t3_agents.tools.visualizer import HubVisualizer, Visualizer
from tests.helpers import in_threads
from tests.helpers.hub_server import HubServer, client_environment
from tests.helpers.tiny_vlm import turn


SIGNATURES = {
    "ask_search_agent": ["query"],
    "visualizer": ["image_path", "question"],
    "inspect_file_as_text": ["file_path", "question"],
    "objectlocation": ["object", "image_path"],
    "facedetection": ["image_path"],
    "segmentation": ["image_path", "prompt"],
    "image_generator": ["prompt"],
    "image_edit": ["prompt", "image_path"],
}


@pytest.mark.parametrize("name", ["embedded", "paper"])
def test_names_and_signatures_are_those_of_the_released_data(name):
    assert {tool.name: list(tool.inputs) for tool in make_toolbox(name)} == SIGNATURES


@pytest.mark.parametrize(
    ("name", "other"), [("gta", "gta-embedded"), ("gaia", "gaia-embedded"), ("paper", "embedded")]
)
def test_another_backend_is_called_the_same_way(name, other):
    def signatures(toolbox):
        return {tool.name: (set(tool.inputs), tool.output_type) for tool in make_toolbox(toolbox)}

    assert signatures(name) == signatures(other)


def test_unknown_toolbox():
    with pytest.raises(InputError, match="no toolbox `other`"):
        make_toolbox("other")


def test_importing_the_toolbox_is_light():
    heavy = "torch transformers diffusers onnxruntime cv2 rapidocr kreuzberg bm25s openpyxl soundfile scipy".split()
    code = "import sys; from t3_agents.tools.toolbox import *; [make_toolbox(name) for name in TOOLBOXES]; "
    code += f"print(set({heavy}) & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("name", TOOLBOXES)
def test_records_make_the_same_tool(name):
    for tool in make_toolbox(name):
        record = json.loads(json.dumps(tool_record(tool)))
        again = tool_from_record(record)
        assert type(again) is type(tool) and again is not tool and again.settings == tool.settings
        assert tool_record(again) == record


def test_settings_are_kept():
    record = tool_record(Visualizer(max_chars=50))
    assert record == {"toolbox": "embedded", "name": "visualizer", "version": "1", "settings": {"max_chars": 50}}
    assert tool_from_record(record).settings == {"max_chars": 50}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "telescope", "settings": {}}, "no tool `telescope`"),
        ({"name": "visualizer", "settings": {"zoom": 2}}, "no setting `zoom`"),
        ({"name": "visualizer", "settings": []}, "settings"),
        ({"name": "visualizer", "code": "print(1)"}, "unknown field `code`"),
        ({"settings": {}}, "name"),
        ({"name": "visualizer", "toolbox": "other"}, "no toolbox"),
        ([], "JSON object"),
    ],
)
def test_records_that_cannot_be_used(record, message):
    with pytest.raises(InputError, match=message):
        tool_from_record(record)


def test_a_tool_of_the_caller_is_not_saved():
    @as_tool
    def double(number: int) -> int:
        """Doubles.

        Args:
            number: what to double.
        """
        return 2 * number

    with pytest.raises(InputError, match="`double` is not of a toolbox"):
        tool_record(double)


@pytest.mark.parametrize(
    "tool",
    [
        HubVisualizer(api_base="http://server"),
        AskSearchAgent(corpus="notes"),
        gta.OCR("hub", {"api_base": "http://server"}),
    ],
    ids=lambda tool: tool.name,
)
def test_a_record_does_not_reach_out_without_trust(tool):
    record = tool_record(tool)
    with pytest.raises(InputError, match=f"makes `{tool.name}` use (http://server|notes)"):
        tool_from_record(record)
    assert tool_from_record(record, trust_remote_code=True).settings == tool.settings


MCP_SERVER = """
from mcp.server.fastmcp import FastMCP

server = FastMCP("shop")


@server.tool()
def price(article: str, pieces: int = 1) -> str:
    '''Price of an article in euros.'''
    if article not in ("tea", "bread"):
        raise ValueError(f"there is no {article}")
    return f"{pieces * {'tea': 3, 'bread': 2}[article]} euros"


server.run("stdio")
"""


def test_tools_of_an_mcp_server(tmp_path):
    from mcp import StdioServerParameters
    from smolagents import MCPClient

    (tmp_path / "server.py").write_text(MCP_SERVER)
    server = StdioServerParameters(command=sys.executable, args=[str(tmp_path / "server.py")])
    with MCPClient(server, structured_output=False) as tools:
        assert [(tool.name, set(tool.inputs)) for tool in tools] == [("price", {"article", "pieces"})]
        script = [turn("print(price(article='tea', pieces=4))"), turn("print(price(article='gold'))")]
        model = ScriptedModel([*script, turn("final_answer('12 euros')")])
        agent = T3Agent([*make_toolbox("embedded"), *tools], model, prompt="compact")
        trajectory = agent.run_task(Task.create("What do four packets of tea cost?"))
        with pytest.raises(InputError, match="`price` is not of a toolbox"):
            agent.get_config()
    assert "price(article, pieces)" in trajectory.system_prompt
    first, second, _ = trajectory.actions
    assert first.observation == "12 euros" and first.tools == ["price"]
    assert "there is no gold" in (second.error or second.observation)
    assert trajectory.answer == "12 euros"


HUB_TOOL = """
from smolagents import Tool


class Double(Tool):
    name = "double"
    description = "Doubles a number."
    inputs = {"number": {"type": "integer", "description": "what to double"}}
    output_type = "integer"

    def forward(self, number: int) -> int:
        return 2 * number
"""


@pytest.fixture
def hub_script(tmp_path):
    """Run a script with a Hub on loopback, which has to be named before `huggingface_hub` is imported."""
    with HubServer() as server:
        server.put("anna/double", {"tool.py": HUB_TOOL.encode()}, "spaces")
        repo = server.repos["spaces", "anna/double"]
        repo.refs["refs/tags/v1"] = repo.refs["refs/heads/main"]
        environment = client_environment(server.url, tmp_path / "home", token=None) | {"HF_HUB_OFFLINE": "0"}

        def run(code):
            imports = "from t3_agents.tools.toolbox import load_hub_tool\n"
            imports += "from t3_agents.tools.toolbox import *\n"
            done = subprocess.run(
                [sys.executable, "-c", imports + code], env=environment, capture_output=True, text=True
            )
            return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

        run.commit = repo.refs["refs/tags/v1"]
        yield run


def test_a_tool_of_the_hub(hub_script):
    code = "tool = load_hub_tool('anna/double', 'v1', trust_remote_code=True)\n"
    code += "print(tool.name, tool.inputs['number']['type'], tool(21), tool(number=4), tool_record(tool))\n"
    code += "print(tool_record(tool_from_record(tool_record(tool), trust_remote_code=True)) == tool_record(tool))"
    record = {"hub": "anna/double", "revision": hub_script.commit}
    assert hub_script(code) == f"double integer 42 8 {record}\nTrue"


def test_a_tool_of_the_hub_that_is_not_there(hub_script):
    answer = hub_script("load_hub_tool('anna/nothing', trust_remote_code=True)")
    assert answer.startswith(
        "t3_agents.errors.InputError: The tool `anna/nothing` cannot be downloaded from the Hub ("
    )


def test_code_of_the_hub_is_not_run_without_trust():
    with pytest.raises(InputError, match="read it, then pass `trust_remote_code=True`"):
        tool_from_record({"hub": "anna/double", "revision": "0123456789" * 4})


def test_another_version_warns():
    with pytest.warns(UserWarning, match="version 0"):
        tool_from_record({"name": "visualizer", "version": "0"})


def test_without_a_workspace_paths_are_taken_as_they_are(tmp_path):
    (tmp_path / "note.txt").write_text("Meet at noon.")
    assert InspectFileAsText()(str(tmp_path / "note.txt")) == "Meet at noon."
    with pytest.raises(InputError, match="no file"):
        InspectFileAsText()("nothing.txt")


def test_threads_share_one_model(receipt):
    assert in_threads([partial(Visualizer(), str(receipt), "total")] * 4) == ["Total 6.25"] * 4
