"""What of a controller is trained, how it is held meanwhile, and what the agent is at the end."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError, MissingExtraError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from t3_agents.tools.toolbox import make_toolbox, toolbox_of
from t3_agents.turns import CODE_CLOSE, CODE_OPEN
from tests.helpers import ROOT
from tests.helpers.hub_client import Client
from tests.helpers.hub_server import HubServer
from tests.helpers.training_rows import TINY, make_dataset, make_row, write_dataset
from tests.helpers.training_runs import losses, weights
from trainers.collators import TrajectoryCollator
from trainers.config import TrajectoryConfig
from trainers.loading import ROWS_PROMPT, load_controller, load_rows, new_agent, saved_agent
from trainers.sft import train


ROWS = [make_row(number, attached=number % 2) for number in range(1, 5)]


@pytest.fixture(scope="module")
def recipe(tiny_vlm, tmp_path_factory) -> dict:
    dataset = write_dataset(tmp_path_factory.mktemp("data") / "dataset", ROWS)
    paths = {"dataset_name": str(dataset), "model_name_or_path": str(tiny_vlm)}
    return {**TINY, "lora_modules_to_save": None, **paths}


# Prompt, toolbox, tags and imports


def solved_row(number: int, **settings) -> dict:
    """A row that an agent with these settings made."""
    opening, closing = settings.get("code_block_tags", (CODE_OPEN, CODE_CLOSE))
    turn = f"Thought: add.\nCode:\n{opening}\nimport csv\nfinal_answer({number} + 1)\n{closing}"
    agent = T3Agent(model=ScriptedModel([turn]), executor_type="local", **settings)
    return agent.run_task(Task.create(f"What is {number} + 1?", [])).to_row()


MADE = {"prompt": "compact", "additional_authorized_imports": ["csv"]}
MAKERS = {
    "compact": MADE,
    "paper": {"prompt": "paper", "additional_authorized_imports": ["csv", "numpy"]},
    "tags": {**MADE, "prompt": "paper", "code_block_tags": ("<code>", "</code>")},
    "instructions": {**MADE, "instructions": "Say {{ nothing }} twice: '\"%}\u00e9\U0001f600."},
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("toolbox", ["embedded", "gta-embedded"])
@pytest.mark.parametrize("says", [True, False], ids=["provenance", "text"])
def test_an_agent_has_the_prompt_the_toolbox_the_tags_and_the_imports_of_its_rows(
    maker, toolbox, says, recipe, tmp_path
):
    rows = [solved_row(number, tools=make_toolbox(toolbox), **MAKERS[maker]) for number in range(2)]
    for row in rows if not says else ():
        row["provenance"] = {}
    agent = new_agent(TrajectoryConfig(**recipe, output_dir=str(tmp_path)), make_dataset(rows))
    assert agent.initialize_system_prompt() == rows[0]["messages"][0]["content"][0]["text"]
    assert agent.code_block_tags == MAKERS[maker].get("code_block_tags", (CODE_OPEN, CODE_CLOSE))
    assert set(agent.additional_authorized_imports) >= {"csv"}
    if says:
        assert agent.additional_authorized_imports == MAKERS[maker]["additional_authorized_imports"]
        assert toolbox_of(agent.tools.values()) == toolbox
        assert agent.prompt == (ROWS_PROMPT if maker == "instructions" else MAKERS[maker]["prompt"])
    agent.save_pretrained(tmp_path / "agent")
    loaded = T3Agent.from_pretrained(tmp_path / "agent", model=agent.model)
    assert loaded.initialize_system_prompt() == agent.initialize_system_prompt()


@pytest.mark.parametrize(
    ("others", "options", "message"),
    [
        ({}, {"prompt": "paper"}, "`paper` with toolbox `embedded` is not what the rows begin with. They"),
        ({}, {"toolbox": "gta-embedded"}, "`compact` with toolbox `gta-embedded` is not what the rows begin with"),
        (MAKERS["paper"], {}, "2 different system prompts"),
        ({**MADE, "code_block_tags": ("```python", "```")}, {}, "2 different system prompts"),
        ({**MADE, "tools": "paper"}, {}, '"embedded" and "paper" as `toolbox_name`'),
    ],
)
def test_a_prompt_that_is_not_that_of_the_rows_stops_the_run_at_its_start(others, options, message, recipe, tmp_path):
    rows = [solved_row(1, tools=make_toolbox("embedded"), **MADE)]
    if others:
        rows.append(solved_row(2, **{**others, "tools": make_toolbox(others.get("tools", "embedded"))}))
    dataset = write_dataset(tmp_path / "data", rows)
    # No such controller: nothing is loaded before.
    settings = {**recipe, **options, "dataset_name": str(dataset), "model_name_or_path": str(tmp_path / "nowhere")}
    with pytest.raises(InputError, match=re.escape(message)):
        train(TrajectoryConfig(**settings, output_dir=str(tmp_path / "run")))


def test_a_saved_agent_is_not_tuned_on_rows_of_another_one(tiny_vlm, tmp_path):
    rows = make_dataset([solved_row(1, tools=make_toolbox("embedded"), **MADE)])
    model = VLMModel.from_pretrained(tiny_vlm, device="cpu")
    for prompt in ("compact", "paper"):
        T3Agent(make_toolbox("embedded"), model, prompt=prompt).save_pretrained(tmp_path / prompt)
    config = {**TINY, "output_dir": str(tmp_path / "run")}
    saved_agent(TrajectoryConfig(**config, model_name_or_path=str(tmp_path / "compact")), rows)
    with pytest.raises(InputError, match="The rows are not those of .*paper: they begin with another system prompt"):
        saved_agent(TrajectoryConfig(**config, model_name_or_path=str(tmp_path / "paper")), rows)


# Weights in four bits


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra `qlora` is not installed"
)


@needs_bitsandbytes
def test_only_the_language_model_is_held_in_four_bits(recipe, tmp_path):
    config = TrajectoryConfig(**{**recipe, "load_in_4bit": True}, output_dir=str(tmp_path))
    model = load_controller(config).model
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    small = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    assert small == {n for n, kind in kinds.items() if ".text_model." in n and kind.startswith("Linear")}
    assert any("vision_model" in name and kind == "Linear" for name, kind in kinds.items())


@needs_bitsandbytes
def test_an_adapter_of_four_bits_is_saved_on_the_weights_as_they_were(recipe, tiny_vlm, tmp_path):
    train(
        TrajectoryConfig(**{**recipe, "load_in_4bit": True, "num_train_epochs": 2}, output_dir=str(tmp_path / "run"))
    )
    base, tuned = weights(tiny_vlm), weights(tmp_path / "run" / "agent")
    assert base.keys() == tuned.keys()
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed == {n for n in base if "text_model" in n and n.split(".")[-2] in ("q_proj", "k_proj", "v_proj")}
    # Four bits are not far from the whole weights, and not the same.
    train(TrajectoryConfig(**recipe, output_dir=str(tmp_path / "whole")))
    pairs = list(zip(losses(tmp_path / "run"), losses(tmp_path / "whole"), strict=True))
    assert all(a == pytest.approx(b, rel=0.1) and a != b for a, b in pairs)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="the extra `qlora` is installed")
def test_four_bits_need_their_extra(recipe, tmp_path):
    with pytest.raises(MissingExtraError, match=r"t3-agents\[qlora\]"):
        train(TrajectoryConfig(**{**recipe, "load_in_4bit": True}, output_dir=str(tmp_path / "run")))


# Kernels


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_liger_kernels_need_a_gpu_and_their_extra(recipe, tmp_path):
    with pytest.raises((MissingExtraError, InputError), match=r"t3-agents\[liger\]|need a GPU: set use_liger_kernel"):
        train(TrajectoryConfig(**{**recipe, "use_liger_kernel": True}, output_dir=str(tmp_path / "run")))


# A controller of the Hub


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


def upload(hub: HubServer, folder: Path, repo: str, kind: str, scratch: Path) -> None:
    code = f"""
from huggingface_hub import HfApi
api = HfApi()
api.create_repo({repo!r}, repo_type={kind!r})
result = str(api.upload_folder(repo_id={repo!r}, repo_type={kind!r}, folder_path={str(folder)!r}).oid)
"""
    Client(hub, scratch).python(code)


@pytest.mark.slow
def test_the_agent_of_a_controller_of_the_hub_is_an_adapter_that_can_be_pushed(hub, recipe, tiny_vlm, tmp_path):
    client = Client(hub, tmp_path)
    upload(hub, tiny_vlm, "user/tiny", "model", tmp_path)
    options = [f"--{name}={value}" for name, value in recipe.items() if value is not None]
    options += ["--model_name_or_path=user/tiny", f"--output_dir={tmp_path / 'run'}"]
    options += ["--hub_model_id=user/agent", "--push-to-hub"]
    done = client.t3("train", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    files = {path.name for path in (tmp_path / "run" / "agent").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    found = client.python(
        """
from huggingface_hub import HfApi, ModelCard
from t3_agents.agent.agent import T3Agent
agent = T3Agent.from_pretrained("user/agent", device="cpu")
card = ModelCard.load("user/agent")
files = HfApi().list_repo_files("user/agent")
result = {"base": agent.model.model_id, "files": files, "card": card.data.base_model}
"""
    )
    assert found["base"] == "user/tiny" and found["card"] == "user/tiny"
    assert {"README.md", "t3_agent.json", "adapter_model.safetensors", "run/train.json"} <= set(found["files"])

    merged = [f"--output_dir={tmp_path / 'merged'}" if o.startswith("--output") else o for o in options[:-1]]
    done = client.t3("train", *merged, "--merge")
    assert done.returncode == 0, done.stderr[-3000:]
    agent = T3Agent.from_pretrained(tmp_path / "merged" / "agent", device="cpu")
    assert weights(tmp_path / "merged" / "agent").keys() == weights(tiny_vlm).keys()
    assert agent.model.model_id


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "--output_dir=o"], "`--dataset-name` is missing"),
        (["train", "--dataset_name", "a/b/c", "--output_dir=o"], "`--dataset-name` names `a/b/c`"),
        (["dpo", "--dataset-name=a/b", "--output-dir=o", "--model_name_or_path=./x"], "names `./x`"),
        (["improve", "--agent=a", "--dataset=/a", "--output=o", "--recipe=embedded"], "`dataset` names `/a`"),
    ],
)
def test_what_is_not_there_is_said_before_trl_is_imported(argv, says):
    code = "import sys; from t3_agents.cli import main; print(main(sys.argv[1:]), 'trl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "2 False\n" and says in done.stderr


@pytest.mark.slow
def test_a_wrong_name_of_a_repo_is_said_before_the_training(recipe, hub, tmp_path):
    options = [f"--{name}={value}" for name, value in recipe.items() if value is not None]
    done = Client(hub, tmp_path).t3(
        "train", *options, f"--output_dir={tmp_path / 'run'}", "--push-to-hub", "--hub_model_id=agent"
    )
    assert done.returncode == 2 and "`agent` is not a name of a Hub repo" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_row_cannot_have_a_picture_of_this_machine_opened(encoder, tmp_path):
    """`datasets` opens a path that stands in the place of a picture's bytes."""
    Image.new("RGB", (31, 17)).save(tmp_path / "private.png")
    features = datasets.Features({"id": datasets.Value("string"), "images": datasets.List(datasets.Image())})
    images = [{"bytes": None, "path": str(tmp_path / "private.png")}]
    (tmp_path / "data").mkdir()
    table = pyarrow.table({"id": ["a"], "images": [images]}, schema=features.arrow_schema)
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train.parquet")
    (row,) = load_rows(str(tmp_path / "data"), "train")
    assert row["images"] == images, "named, not opened"
    with pytest.raises(InputError, match="Row a: a picture of it is not a readable image"):
        TrajectoryCollator(encoder).encode({**row, "messages": [{"role": "user", "content": "What?"}]})
