"""An agent that is saved and loaded is the same agent."""

import json
import shutil

import pytest
from PIL import Image
from smolagents import CodeAgent, tool

from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.agent.config import T3AgentConfig, load_prompt
from t3_agents.errors import InputError
from t3_agents.hub.repos import AGENT_FILE
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.server import ServerModel
from t3_agents.models.vlm import VLMModel
from t3_agents.sandbox import SandboxLimits
from t3_agents.task import File, Task
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.tools.toolbox import make_toolbox
from tests.helpers.chat_server import ChatServer
from tests.helpers.tiny_vlm import turn


SETTINGS = {
    "prompt": "paper",
    "additional_authorized_imports": ["json", "zoneinfo.*"],
    "code_block_tags": ("<code>", "</code>"),
    "instructions": "Answer in one word.",
    "max_steps": 3,
    "max_consecutive_errors": 2,
    "token_budget": 5000,
    "time_limit": 60.5,
    "max_images_per_step": 1,
    "max_observation_length": 300,
    "code_time_limit": 5,
    "planning_interval": 4,
    "max_print_outputs_length": 500,
    "name": "looker",
    "description": "looks",
    "provide_run_summary": True,
    "tuned_for": {"files": ["png"], "questions": ["What is it?"], "words": ["bird"]},
}


@tool
def stranger(name: str) -> str:
    """Not of this package.

    Args:
        name: a name.
    """
    return name


@pytest.fixture(scope="module")
def model(tiny_vlm):
    return VLMModel.from_pretrained(tiny_vlm, max_new_tokens=8, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "agent"
    T3Agent(tools=make_toolbox("embedded"), model=model, **SETTINGS).save_pretrained(folder)
    return folder


@pytest.fixture
def changed(saved, tmp_path):
    """A copy of the saved agent whose configuration is changed."""

    def changed(**fields):
        folder = tmp_path / "changed"
        shutil.copytree(saved, folder)
        record = json.loads((folder / AGENT_FILE).read_text())
        (folder / AGENT_FILE).write_text(json.dumps({**record, **fields}))
        return folder

    return changed


def test_every_setting_comes_back(saved, model):
    first, agent = T3Agent(tools=make_toolbox("embedded"), model=model, **SETTINGS), T3Agent.from_pretrained(saved)
    for name, value in SETTINGS.items():
        assert getattr(agent, name) == value, name
    assert agent.get_config() == first.get_config() and agent.system_prompt == first.system_prompt
    assert {record["name"] for record in first.get_config().tools} == set(agent.tools) - {"final_answer"}
    assert agent.model.generation == model.generation


def test_every_field_of_the_configuration_is_a_setting_that_was_tested():
    default = T3AgentConfig()
    rest = {"prompt_templates", "tools", "controller", "generation"}
    assert set(vars(default)) == set(SETTINGS) | rest
    same = [name for name, value in SETTINGS.items() if value == getattr(default, name)]
    assert same == ["prompt"]


def test_the_loaded_agent_does_the_same(saved, model, make_picture):
    task = Task.create("What?", [File.from_path(make_picture())])
    first = T3Agent(tools=make_toolbox("embedded"), model=model, **{**SETTINGS, "planning_interval": None})
    second = T3Agent.from_pretrained(saved, planning_interval=None)
    one, two = first.run_task(task), second.run_task(task)
    assert [s.output_ids for s in one.steps] == [s.output_ids for s in two.steps] and len(one.steps) == 2
    assert one.to_messages() == two.to_messages()


def test_a_saved_agent_is_an_ordinary_model_folder(saved, model):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    AutoModelForImageTextToText.from_pretrained(saved)
    image = Image.new("RGB", (9, 9))
    stock = AutoProcessor.from_pretrained(saved)(text=["<image>"], images=[[image]])
    assert stock["input_ids"] == model.processor(text=["<image>"], images=[[image]])["input_ids"]
    record = json.loads((saved / AGENT_FILE).read_text())
    assert record["controller"] == {"base": None, "revision": None, "adapter": False}
    assert str(saved) not in json.dumps(record)


def test_a_saved_agent_keeps_its_prompt_when_that_of_the_package_changes(changed):
    templates = load_prompt("compact")
    templates["system_prompt"] = "An old prompt."
    assert T3Agent.from_pretrained(changed(prompt_templates=templates)).system_prompt == "An old prompt."


def test_what_the_caller_gives_wins(saved):
    script = ScriptedModel([])
    agent = T3Agent.from_pretrained(saved, model=script, tools=[stranger], max_steps=7, instructions=None)
    assert (agent.model, agent.max_steps, agent.instructions) == (script, 7, None)
    assert set(agent.tools) == {"stranger", "final_answer"}


def test_load_agent_takes_agents_and_bare_controllers(saved, tiny_vlm):
    assert load_agent(saved, max_steps=6).code_block_tags == ("<code>", "</code>")
    bare = load_agent(tiny_vlm, max_steps=6)
    assert (bare.prompt, bare.max_steps, bare.model.model_id) == ("compact", 6, "model")


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"temperature": 1}, "unknown field `temperature`"),
            ({"format": "t3-agent/9"}, "has format `t3-agent/9`; this version reads `t3-agent/1`"),
            ({"max_steps": "ten"}, "`max_steps` of the t3_agent.json must be int, not str"),
            ({"max_steps": True}, "`max_steps`"),
            ({"token_budget": "many"}, "`token_budget`"),
            ({"instructions": 3}, "`instructions`"),
            ({"tools": {}}, "`tools`"),
            ({"code_block_tags": ["<code>"]}, "`code_block_tags`"),
            ({"tools": [{"name": "os.system"}]}, "has no tool `os.system`"),
            ({"tools": [{"name": "visualizer", "toolbox": "mine"}]}, "no toolbox `mine`"),
            ({"tools": [{"name": "visualizer", "code": "import os"}]}, "unknown field `code`"),
            ({"tools": ["visualizer"]}, "JSON object"),
            ({"prompt_templates": {"system_prompt": "x"}}, "`prompt_templates`"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_a_configuration_that_cannot_be_used(self, changed, fields, sentence):
        with pytest.raises(InputError) as caught:
            T3Agent.from_pretrained(changed(**fields), model=ScriptedModel([]))
        assert sentence in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
    def test_a_file_that_is_no_configuration(self, changed, text):
        folder = changed()
        (folder / AGENT_FILE).write_text(text)
        with pytest.raises(InputError, match=AGENT_FILE) as caught:
            T3Agent.from_pretrained(folder)
        assert "\n" not in str(caught.value)

    def test_a_folder_without_an_agent(self, tmp_path, tiny_vlm):
        for folder in (tmp_path, tiny_vlm):
            with pytest.raises(InputError, match=f"is not a saved agent: it has no {AGENT_FILE}"):
                T3Agent.from_pretrained(folder)

    @pytest.mark.parametrize("name", ["no/such-agent", "runs/nothing/here", "../nothing", "with space"])
    def test_a_folder_that_is_missing(self, name):
        for load in (T3Agent.from_pretrained, load_agent):
            with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
                load(name)
            assert "\n" not in str(caught.value)

    def test_agents_that_cannot_be_saved(self, model, tmp_path):
        helper = CodeAgent(tools=[], model=model, name="helper", description="Helps.")
        for agent, sentence in (
            (T3Agent(tools=[stranger], model=model), "tool `stranger` is not of a toolbox"),
            (T3Agent(tools=[], model=ScriptedModel([])), "ScriptedModel has no weights"),
            (T3Agent(tools=[], model=model, managed_agents=[helper]), "save each agent"),
        ):
            with pytest.raises(InputError, match=sentence):
                agent.save_pretrained(tmp_path / "agent")
            assert not (tmp_path / "agent").exists()


def test_what_smolagents_saves_comes_back(tmp_path):
    """By `to_dict` and `from_dict`, and by `save` and `from_folder`; weights and objects are refused."""

    @tool
    def echo(words: str) -> str:
        """Says it again.

        Args:
            words: what.
        """
        return words

    with ChatServer([turn("final_answer(echo('a'))")] * 2) as server:
        model = ServerModel(api_base=server.url, max_tokens=33)
        settings = {"tools": [InspectFileAsText(), echo], "model": model, "prompt": "compact", "description": "helps"}
        inner = T3Agent(**settings, name="inner", max_steps=4)
        agent = T3Agent(**settings, name="outer", managed_agents=[inner], time_limit=50, code_block_tags="markdown")
        agent.save(tmp_path)
        for again in (T3Agent.from_dict(json.loads(json.dumps(agent.to_dict()))), T3Agent.from_folder(tmp_path)):
            assert again.system_prompt == agent.system_prompt and again.code_block_tags == agent.code_block_tags
            assert (again.name, again.description, again.time_limit) == ("outer", "helps", 50)
            assert again.model.generation == model.generation and again.managed_agents["inner"].max_steps == 4
            assert again.managed_agents["inner"].run("?") == "a"
        agent.executor_kwargs = {"limits": SandboxLimits()}
        with pytest.raises(InputError, match="cannot be saved"):
            agent.to_dict()


def test_weights_go_into_no_dictionary(model):
    with pytest.raises(InputError, match="save_pretrained"):
        T3Agent(tools=[], model=model).to_dict()
