"""Twenty and more hostile repositories: none runs code, each is refused with one sentence or is inert."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest

from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.agent.config import load_prompt
from t3_agents.errors import InputError
from t3_agents.hub.repos import AGENT_FILE
from t3_agents.hub.safe_loading import check_listing, check_template, strict_json
from t3_agents.tools.toolbox import make_toolbox


SENTINEL = "T3_SENTINEL"


class Bomb:
    """A pickle that writes a file when it is read."""

    def __reduce__(self):
        return os.system, ('touch "$T3_SENTINEL"',)


@pytest.fixture(scope="module")
def saved(tiny_vlm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "agent"
    agent = load_agent(tiny_vlm, max_steps=2)
    T3Agent(tools=make_toolbox("embedded"), model=agent.model, prompt="compact").save_pretrained(folder)
    return folder


@pytest.fixture
def repo(saved, tmp_path):
    """A copy of a harmless agent, to be made hostile."""
    return Path(shutil.copytree(saved, tmp_path / "repo"))


@pytest.fixture(autouse=True)
def sentinel(tmp_path, monkeypatch):
    """A file that hostile code makes; no test may leave it."""
    path = tmp_path / "sentinel"
    monkeypatch.setenv(SENTINEL, str(path))
    yield path
    assert not path.exists(), "code of the repository ran"


def change(name, **fields):
    def make(repo):
        path = repo / name
        record = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**record, **fields}))

    return make


def prompt(text):
    return change(AGENT_FILE, prompt_templates={**load_prompt("compact"), "system_prompt": text})


def write(name, content):
    def make(repo):
        data = content if isinstance(content, bytes) else content.encode()
        (repo / name).write_bytes(data)

    return make


def only_pickle(repo):
    (repo / "model.safetensors").unlink()
    (repo / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def adapter(**fields):
    def make(repo):
        settings = {"peft_type": "LORA", "base_model_name_or_path": "org/base", **fields}
        (repo / "adapter_config.json").write_text(json.dumps(settings))
        shutil.copy(repo / "model.safetensors", repo / "adapter_model.safetensors")

    return make


def link_out(repo):
    (repo / "config.json").unlink()
    (repo / "config.json").symlink_to("/etc/passwd")


def index_out(repo):
    (repo / "model.safetensors").rename(repo / "model-00001-of-00001.safetensors")
    places = {"weight_map": {"a": "../../../etc/passwd"}}
    (repo / "model.safetensors.index.json").write_text(json.dumps(places))


def header_bomb(repo):
    (repo / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def header_lies(repo):
    header = json.dumps({"a": {"dtype": "F32", "shape": [9**9], "data_offsets": [0, 4 * 9**9]}}).encode()
    (repo / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def twice(repo):
    text = (repo / AGENT_FILE).read_text()
    (repo / AGENT_FILE).write_text(text.replace('"max_steps": 10', '"max_steps": 10, "max_steps": 999'))


def text_config(**fields):
    def make(repo):
        config = json.loads((repo / "config.json").read_text())
        change("config.json", text_config={**config["text_config"], **fields})(repo)

    return make


def tokenizer(**fields):
    return change("tokenizer.json", **fields)


DOUBLING = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40,
}
JINJA_ESCAPE = "{{ tools.__class__.__init__.__globals__['os'].system('touch \"$T3_SENTINEL\"') }}"
LONG_HEADER = json.dumps(
    {f"{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(700_000)}
).encode()
REFUSED = {
    **{
        f"a chat template with {text[:60]}": (write("chat_template.jinja", text), "cannot be used: ")
        for text in (
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{{ 'a' * 9999999999 }}",
            "{{ [1] * 9999999999 }}",
            "{{ [['a' * 9999] * 9999] * 9999 }}",
            "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x='aa') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
            "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(99) }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% for i in range(9999) recursive %}{% if loop.depth < 9 %}{{ loop(range(999)) }}{% endif %}{% endfor %}",
            "{% set x %}{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}",
            "{{ 'a' | center(9999999999) }}",
            "{{ 'a\nb' | indent(9999999999) }}",
            "{{ [1] | batch(9999999999, 'x') | list }}",
            "{{ range(99999) | join('a' * 99999) }}",
            "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
            "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
            "{{ 'a'.ljust(9999999999) }}",
            "{{ '{:>9999999999}'.format(1) }}",
            "{{ '{:>{}}'.format(1, 9999999999) }}",
            "{{ '%9999999999d' % 1 }}",
            "{{ {} | tojson(indent=9999999999) }}",
            "{{ 2 ** 9999999999 }}",
            f"{{{{ {'9' * 5000} }}}}",
            f"{{{{ {'(' * 9999}1{')' * 9999} }}}}",
            "{# x #}" * 99999,
            "{{ 1 / 0 }}",
        )
    },
    "a header of 700,000 tensors": (
        write("model.safetensors", struct.pack("<Q", len(LONG_HEADER)) + LONG_HEADER),
        "is not a safetensors file: its header would have",
    ),
    "a field twice among many": (
        write(AGENT_FILE, "{" + ",".join(f'"{n}": 1' for n in range(200_000)) + ', "199999": 1}'),
        "has the field `199999` twice",
    ),
    "millions of lists": (write("config.json", "[" + "[]," * 2_000_000 + "[]]"), "more than 500,000 values"),
    "an infinite number": (write(AGENT_FILE, '{"max_steps": 1e999}'), "has 1e999"),
    "a long number": (write(AGENT_FILE, '{"max_steps": ' + "9" * 100_000 + "}"), "is not JSON"),
    "layers without end": (change("config.json", num_hidden_layers=10**9), "which no model has"),
    "a number no tensor has": (change("config.json", text_config={"vocab_size": 10**40}), "which no model has"),
    "a huge vocabulary": (text_config(vocab_size=10**9), "is of "),
    "a huge width": (text_config(hidden_size=10**15), "is of "),
    "a number that is none": (text_config(hidden_size="many"), "cannot be loaded"),
    "a head of no size": (text_config(num_attention_heads=0), "cannot be loaded"),
    "pictures of a million pixels a side": (
        change("preprocessor_config.json", size={"longest_edge": 10**6}),
        "which no model has",
    ),
    "a trillion tokens for a picture": (change("processor_config.json", image_seq_len=10**12), "which no model has"),
    "text that doubles": (tokenizer(normalizer=DOUBLING), "more than 1000 times as long"),
    "text that is filled up": (tokenizer(padding={"strategy": {"Fixed": 10**12}}), "more than 1000 times as long"),
    "a slow pattern": (
        tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}),
        "may take forever",
    ),
    "a rank without weights": (adapter(r=10**9), "a rank that its weights do not have"),
    "a slow pattern of modules": (adapter(target_modules="(.*)*x"), "by the pattern"),
    "weights are a pickle": (only_pickle, "pickle file (pytorch_model.bin)"),
    "a link to another file": (link_out, "config.json in repo is a link"),
    "an index that leaves the folder": (index_out, "names `../../../etc/passwd`"),
    "a header of 4 exabytes": (header_bomb, "its header would have"),
    "a header with wrong offsets": (header_lies, "cannot be loaded"),
    "20 MB of settings": (write(AGENT_FILE, " " * 20_000_000), "8,388,608 are the most"),
    "200 MB of configuration": (write("config.json", b"[" * 9_000_000), "8,388,608 are the most"),
    "deep JSON": (write(AGENT_FILE, "[" * 100_000 + "]" * 100_000), "nested more than 64 deep"),
    "a field twice": (twice, "has the field `max_steps` twice"),
    "not a number": (write(AGENT_FILE, '{"format": "t3-agent/1", "max_steps": NaN}'), "has NaN"),
    "an unknown field": (change(AGENT_FILE, on_load="os.system('id')"), "unknown field `on_load`"),
    "a newer format": (change(AGENT_FILE, format="t3-agent/9"), "this version reads `t3-agent/1`"),
    "an unknown tool": (change(AGENT_FILE, tools=[{"name": "shell"}]), "has no tool `shell`"),
    "a tool with code": (change(AGENT_FILE, tools=[{"name": "visualizer", "code": "x"}]), "unknown field `code`"),
    "a tool with a server": (
        change(AGENT_FILE, tools=[{"name": "visualizer", "settings": {"api_base": "http://evil.example"}}]),
        "would talk to a server (`api_base`)",
    ),
    "code for generate": (
        change(AGENT_FILE, generation={"custom_generate": "evil/repo", "trust_remote_code": True}),
        "`custom_generate`",
    ),
    "code in the generation config": (change("generation_config.json", custom_generate="evil/x"), "`custom_generate`"),
    "a kernel": (change("config.json", attn_implementation="evil/kernel"), "names a kernel of the Hub"),
    "a template that reaches Python": (prompt(JINJA_ESCAPE), "`system_prompt` does more than fill in values"),
    "a template that uses the tools": (prompt("{{ tools.visualizer.save('/tmp/x') }}"), "more than fill in values"),
    "a template that includes": (prompt("{% include '/etc/passwd' %}"), "more than fill in values"),
    "a template that never ends": (prompt("{% for a in 'x' * 9999999999 %}{% endfor %}"), "more than fill in values"),
    "a base on this machine": (adapter(base_model_name_or_path="/etc"), "names `/etc`"),
    "a base above": (adapter(base_model_name_or_path="../../other"), "names `../../other`"),
    "a base in the settings": (
        change(AGENT_FILE, controller={"base": "file:///etc", "revision": None, "adapter": True}),
        "names `file:///etc`",
    ),
    "an adapter with modules": (adapter(auto_mapping={"parent_library": "evil"}), "names Python modules to import"),
    "a chat template that reaches Python": (
        write("chat_template.jinja", "{{ messages.__class__.__init__.__globals__ }}"),
        "chat template",
    ),
    "a model that needs code": (
        change("config.json", model_type="evil", auto_map={"AutoModelForImageTextToText": "evil.Evil"}),
        "cannot be loaded",
    ),
    "a configuration of another class": (
        change("config.json", model_type="qwen2_vl"),
        "are not those of a Qwen2VLForConditionalGeneration",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_sentence(repo, name):
    make, sentence = REFUSED[name]
    make(repo)
    (repo / "evil.py").write_text(f"import os; open(os.environ['{SENTINEL}'], 'w')")
    with pytest.raises(InputError) as caught:
        T3Agent.from_pretrained(repo)
    assert len(str(caught.value)) < 600
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


INERT = {
    "code beside the agent": write("modeling_evil.py", f"import os; open(os.environ['{SENTINEL}'], 'w')"),
    "a pickle beside the weights": lambda repo: only_pickle_beside(repo),
    "code for a class that is known": change("config.json", auto_map={"AutoConfig": "evil.Evil"}),
    "code for the processor": change("processor_config.json", auto_map={"AutoProcessor": "evil.Evil"}),
    "code for the tokenizer": change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
    "a card with a script": write("README.md", "---\ntags: [x]\n---\n<script>alert(1)</script>{{ 7 * 7 }}"),
}


def only_pickle_beside(repo):
    (repo / "training_args.bin").write_bytes(pickle.dumps(Bomb()))
    (repo / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("name", INERT)
def test_inert(repo, name):
    INERT[name](repo)
    (repo / "evil.py").write_text(f"import os; open(os.environ['{SENTINEL}'], 'w')")
    assert T3Agent.from_pretrained(repo).max_steps == 10


@pytest.mark.parametrize("module", ["os", "pandas", "*"])
def test_imports_are_the_callers_choice_where_there_is_no_sandbox(repo, module):
    """In the sandbox, whatever code imports reaches nothing outside."""
    change(AGENT_FILE, additional_authorized_imports=[module])(repo)
    assert T3Agent.from_pretrained(repo).additional_authorized_imports == [module]
    with pytest.raises(InputError, match="lets code import"):
        T3Agent.from_pretrained(repo, executor_type="local")
    assert T3Agent.from_pretrained(repo, executor_type="local", additional_authorized_imports=["numpy"])
    assert T3Agent.from_pretrained(repo, executor_type="local", trust_remote_code=True)


@pytest.mark.parametrize("path", ["../x.json", "/etc/x.json", "a/../../x.json", "a\\..\\x.json", "a\n.json"])
def test_paths_that_leave_a_folder(path):
    with pytest.raises(InputError, match="leaves its folder"):
        check_listing("user/repo", {path: 10})


def test_sizes_are_looked_at_before_the_download():
    check_listing("user/repo", {"tokenizer.json": 40 * 2**20, "model.safetensors": 10**12})
    with pytest.raises(InputError, match="config.json of `user/repo` has 10,000,000 bytes"):
        check_listing("user/repo", {"config.json": 10**7})


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_the_prompts_of_the_package_pass(name):
    for key, value in load_prompt(name).items():
        for text in value.values() if isinstance(value, dict) else [value]:
            check_template(key, text)


def test_the_prompts_of_smolagents_pass():
    import importlib.resources

    import yaml

    text = importlib.resources.files("smolagents.prompts").joinpath("code_agent.yaml").read_text()
    check_template("system_prompt", yaml.safe_load(text)["system_prompt"])


def test_strict_json_is_json():
    assert strict_json('{"a": [1, {"b": null}]}', "x") == {"a": [1, {"b": None}]}
    with pytest.raises(InputError, match="x is not JSON"):
        strict_json("{", "x")
