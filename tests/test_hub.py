"""Every artifact goes to the Hub and comes back: the real client, real sockets, a fresh process for each call."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from t3_agents.storage import Shard
from tests.helpers.finished_run import write_finished_run
from tests.helpers.hub_client import Client
from tests.helpers.hub_server import READ, STRANGER, WRITE, Fault, HubServer
from tests.helpers.run_samples import make_trajectory, write_shard


pytestmark = pytest.mark.slow
PLANTED = "hf_PlantedPlantedPlanted42"
ANSWER = """
from t3_agents.task import Task
agent.model.generation["max_new_tokens"] = 8
steps = agent.run_task(Task.create("What is shown?")).steps
result = [step.output_ids for step in steps]
"""


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


@pytest.fixture
def client(server, tmp_path):
    return Client(server, tmp_path)


@pytest.fixture
def agent_folder(tiny_vlm, tmp_path):
    from t3_agents.agent.agent import load_agent

    load_agent(tiny_vlm, max_steps=2).save_pretrained(tmp_path / "agent")
    return tmp_path / "agent"


@pytest.fixture
def run_folder(tmp_path):
    run = tmp_path / "run"
    for split, first, number in (("train", 0, 6), ("test", 50, 2)):
        write_shard(run, f"{split}-a", [make_trajectory(tmp_path / "files", first + n) for n in range(number)])
    return run


def commits(server, name, kind="models"):
    repo = server.repos.get((kind, name))
    return len(repo.history()) if repo else 0


class TestAgents:
    def test_an_agent_comes_back_and_answers_the_same(self, client, server, agent_folder):
        load = f"from t3_agents.agent.agent import T3Agent\nagent = T3Agent.from_pretrained({str(agent_folder)!r})\n"
        push = 'agent.push_to_hub("user/t3-agent", private=True, commit_message="First")\n'
        first = client.python(load + push + ANSWER)
        assert server.repos["models", "user/t3-agent"].private
        assert server.repos["models", "user/t3-agent"].history()[0].title == "First"
        pull = 'from t3_agents.agent.agent import load_agent\nagent = load_agent("user/t3-agent", max_steps=2)\n'
        assert client.python(pull + ANSWER) == first and len(first) == 2

        # A second time without the Hub: what is in the cache is recognized as an agent.
        home = str(client.folder / "shared")
        client.python(pull + ANSWER, home=home)
        assert client.python(pull + ANSWER, home=home, HF_HUB_OFFLINE="1") == first
        server.shutdown()
        assert client.python(pull + ANSWER, home=home, HF_ENDPOINT="http://127.0.0.1:9") == first

    def test_a_space_and_other_libraries_take_an_agent_that_is_there(self, client, server, agent_folder):
        early = client.t3("push", "space", "user/t3-agent", "user/demo")
        assert early.returncode == 2 and "holds no agent on the Hub" in early.stderr
        assert client.t3("push", "agent", agent_folder, "user/t3-agent").returncode == 0
        assert client.t3("push", "space", "user/t3-agent", "user/demo").returncode == 0
        assert server.repos["spaces", "user/demo"].history()[0].title == "Upload a Space for user/t3-agent"
        # Other libraries read the repo of the agent.
        code = """
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained("user/t3-agent")
result = [type(model).__name__, type(AutoProcessor.from_pretrained("user/t3-agent")).__name__]
"""
        assert client.python(code) == ["Idefics3ForConditionalGeneration", "Idefics3Processor"]

    def test_an_adapter_stands_on_its_base_of_the_hub(self, client, server, tiny_vlm, agent_folder):
        server.put("org/base", {path.name: path.read_bytes() for path in tiny_vlm.iterdir()})
        commit = server.repos["models", "org/base"].refs["refs/heads/main"]
        client.python(f"""
from peft import LoraConfig, get_peft_model
from t3_agents.agent.agent import T3Agent
from t3_agents.models.vlm import VLMModel
base = VLMModel.from_pretrained("org/base")
model = get_peft_model(base.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
model.peft_config["default"].base_model_name_or_path = "org/base"
controller = VLMModel(model, base.processor, revision={commit!r})
T3Agent(tools=[], model=controller, prompt="compact", max_steps=2).push_to_hub("user/adapter")
result = None
""")
        files = server.files("user/adapter")
        assert "adapter_model.safetensors" in files and "model.safetensors" not in files
        assert json.loads(files["t3_agent.json"])["controller"] == {
            "base": "org/base", "revision": commit, "adapter": True,
        }  # fmt: skip
        code = """
from t3_agents.agent.agent import T3Agent
from t3_agents.hub.repos import has_file
agent = T3Agent.from_pretrained("user/adapter")
result = [type(agent.model.model).__name__, agent.model.model_id, agent.model.revision,
          has_file("user/adapter", "adapter_config.json")]
"""
        assert client.python(code)[1:] == ["org/base", commit, True]

    def test_branches_and_pull_requests(self, client, server, agent_folder):
        for arguments in ((), ("--revision", "next"), ("--create-pr",)):
            (agent_folder / "chat_template.jinja").open("a").write("{# one more #}")
            done = client.t3("push", "agent", agent_folder, "user/t3-agent", *arguments)
            assert done.returncode == 0, done.stderr
        repo = server.repos["models", "user/t3-agent"]
        assert set(repo.refs) == {"refs/heads/main", "refs/heads/next", "refs/pr/1"}
        assert len({repo.refs[ref] for ref in repo.refs}) == 3 and "discussions/1" in done.stdout

    def test_weights_of_an_earlier_push_do_not_stay(self, client, server, agent_folder):
        server.put("user/t3-agent", {"t3_agent.json": b"{}", "adapter_config.json": b"{}", "notes.md": b"mine"})
        plan = client.t3("push", "agent", agent_folder, "user/t3-agent", "--dry-run").stdout
        assert "deleted " in plan and "adapter_config.json" in plan and commits(server, "user/t3-agent") == 2
        client.t3("push", "agent", agent_folder, "user/t3-agent")
        files = server.files("user/t3-agent")
        assert "adapter_config.json" not in files and files["notes.md"] == b"mine" and "model.safetensors" in files


class TestDatasets:
    def test_a_run_is_loaded_whole_in_part_and_as_a_stream(self, client, server, run_folder):
        assert client.t3("push", "dataset", run_folder, "user/mm-traj").returncode == 0
        code = """
from datasets import load_dataset
whole = load_dataset("user/mm-traj")
part = load_dataset("user/mm-traj", "tasks", split="test")
stream = load_dataset("user/mm-traj", split="train", streaming=True)
rows = list(stream)
result = [{k: len(v) for k, v in whole.items()}, part.column_names, len(part), len(rows),
          rows[0]["images"][0].size, sorted(row["id"] for row in rows) == sorted(whole["train"]["id"])]
"""
        found = client.python(code)
        assert found[0] == {"train": 6, "test": 2} and "messages" not in found[1] and found[2:4] == [2, 6]
        assert found[4] == [24, 16] and found[5] is True

    def test_only_new_rows_travel_and_other_files_stay(self, client, server, run_folder, tmp_path):
        client.t3("push", "dataset", run_folder, "user/mm-traj")
        server.put("user/mm-traj", {"LICENSE-of-photos.txt": b"mine"}, "datasets")
        before = {p for p in server.files("user/mm-traj", "datasets") if p.endswith(".parquet")}
        write_shard(run_folder, "train-b", [make_trajectory(tmp_path / "files", 100 + n) for n in range(3)])
        sent = len(server.requests)
        plan = client.t3("push", "dataset", run_folder, "user/mm-traj", "--dry-run").stdout
        done = client.t3("push", "dataset", run_folder, "user/mm-traj")
        assert done.returncode == 0, done.stderr
        files = server.files("user/mm-traj", "datasets")
        assert before < {p for p in files if p.endswith(".parquet")} and "LICENSE-of-photos.txt" in files
        put = [r.path for r in server.requests[sent:] if r.method == "PUT"]
        assert len([p for p in put if p]) <= 4 and "deleted" not in plan  # two Parquet files, two plots
        count = "from datasets import load_dataset\nresult = load_dataset('user/mm-traj', split='train').num_rows"
        assert client.python(count) == 9

        # A row that is gone from the run leaves the dataset, and only its file is written again.
        (run_folder / "shards" / "train-b.jsonl").unlink()
        write_shard(run_folder, "train-c", [make_trajectory(tmp_path / "files", 101)])
        client.t3("push", "dataset", run_folder, "user/mm-traj")
        assert client.python(count) == 7
        assert before < set(server.files("user/mm-traj", "datasets"))

    def test_nothing_new_makes_no_commit(self, client, server, run_folder):
        client.t3("push", "dataset", run_folder, "user/mm-traj")
        number = commits(server, "user/mm-traj", "datasets")
        done = client.t3("push", "dataset", run_folder, "user/mm-traj")
        assert done.returncode == 0 and "0 files, 0 bytes" in done.stdout, done.stdout
        assert commits(server, "user/mm-traj", "datasets") == number


class TestResults:
    def test_results_are_read_back_with_the_api(self, client, server, agent_folder, tmp_path):
        client.t3("push", "agent", agent_folder, "user/t3-agent")
        run = write_finished_run(tmp_path / "eval")
        done = client.t3("push", "results", run, "user/t3-agent")
        assert done.returncode == 0, done.stderr
        found = client.python("""
from huggingface_hub import HfApi, ModelCard
info = HfApi().model_info("user/t3-agent", expand=["evalResults"])
card = ModelCard.load("user/t3-agent")
entry = info.eval_results[0]
result = [entry.dataset_id, entry.task_id, entry.value, entry.dataset_revision, entry.notes, entry.source_url,
          card.data.eval_results[0].metric_value, card.data.eval_results[0].metric_name]
""")
        assert found[:4] == ["open-compass/GTA", "gta_ans_acc", 50.0, "a" * 40]
        assert "official scoring; 4 tasks" in found[4]
        assert found[5].endswith("/user/t3-agent/blob/main/run/results/gta.json")
        assert found[6:] == [50.0, "AnsAcc"] and "run/results/gta.json" in server.files("user/t3-agent")

    def test_results_for_the_repo_of_another_are_a_pull_request(self, client, server, agent_folder, tmp_path):
        client.t3("push", "agent", agent_folder, "user/t3-agent")
        before = server.files("user/t3-agent")
        done = client.t3("push", "results", write_finished_run(tmp_path / "eval"), "user/t3-agent", token=STRANGER)
        assert done.returncode == 0 and "/discussions/1" in done.stdout, done.stderr
        assert server.files("user/t3-agent") == before
        assert ".eval_results/gta.yaml" in server.files("user/t3-agent", revision="refs/pr/1")

    def test_an_unfinished_run_is_refused(self, client, server, tmp_path):
        run = write_finished_run(tmp_path / "eval")
        lines = (run / "scores.jsonl").read_text().splitlines()
        (run / "scores.jsonl").write_text("\n".join(lines[:-1]) + "\n")
        done = client.t3("push", "results", run, "user/t3-agent")
        assert done.returncode == 2 and "3 of 4 tasks have a score" in done.stderr

    def test_a_collection_ties_model_dataset_and_paper(self, client, server, agent_folder):
        options = ("--collection", "T3 agents", "--dataset", "user/mm-traj")
        for _ in range(2):
            done = client.t3("push", "agent", agent_folder, "user/t3-agent", *options)
            assert done.returncode == 0, done.stderr
        (collection,) = server.collections.values()
        items = {item["id"]: item["type"] for item in collection["items"]}
        assert items == {"user/t3-agent": "model", "2412.15606": "paper", "user/mm-traj": "dataset"}


class TestFaults:
    """Each ends in one sentence, and a second try completes; what a reader sees in between is the old state."""

    def push(self, client, folder, **kwargs):
        return client.t3("push", "dataset", folder, "user/mm-traj", **kwargs)

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("POST .*/commit/", 503),
            Fault("POST .*/commit/", 429, headers={"Retry-After": "1"}),
            Fault("POST /api/repos/create", 500),
            Fault("POST .*/commit/", 0),
            Fault("POST .*/commit/", 0, lost=True),
            Fault("PUT /lfs/", 0, after=200),
            Fault("PUT /lfs/", 503),
            Fault("GET /api/whoami", 429, headers={"Retry-After": "1"}),
        ],
        ids=lambda fault: f"{fault.status} at {fault.pattern}{' lost' * fault.lost}",
    )
    def test_one_fault_is_waited_for(self, client, server, run_folder, fault):
        server.faults = [Fault(**vars(fault))]
        done = self.push(client, run_folder)
        assert done.returncode == 0, done.stderr
        assert commits(server, "user/mm-traj", "datasets") == 2 and server.faults[0].count == 0

    def test_a_cut_upload_leaves_nothing_that_loads_and_is_resumed(self, client, server, run_folder):
        # Files whose digest begins with 0 to 7 never arrive, for as long as the client tries.
        server.faults = [Fault(r"PUT /lfs/[0-7]", 0, after=10, count=1000)]
        done = self.push(client, run_folder)
        assert done.returncode == 2 and "cannot be reached for `user/mm-traj`" in done.stderr
        assert "Traceback" not in done.stderr
        assert set(server.files("user/mm-traj", "datasets")) <= {".gitattributes"}
        arrived = set(server.blobs)
        server.faults, sent = [], len(server.requests)
        assert self.push(client, run_folder).returncode == 0
        put = {r.path.rpartition("/")[2] for r in server.requests[sent:] if r.method == "PUT"}
        assert put and not put & arrived
        assert commits(server, "user/mm-traj", "datasets") == 2

    @pytest.mark.parametrize(
        ("token", "fault", "sentence"),
        [
            ("hf_wrongwrongwrongwrong", None, "does not know this token"),
            (None, None, "needs a token: log in with `hf auth login`"),
            (READ, None, "may not write to `user/mm-traj`"),
            (STRANGER, None, "may not write to `user/mm-traj`"),
            (WRITE, Fault("POST .*/commit/", 413, "too large", count=9), "quota of the account is used up"),
            (WRITE, Fault("POST .*/batch", 403, "Private repository storage limit reached", count=9), "quota"),
            (WRITE, Fault("POST .*/commit/", 503, count=9), "has a problem of its own (503)"),
            (WRITE, Fault("POST .*/commit/", 429, headers={"Retry-After": "0"}, count=9), "asks to slow down"),
            (WRITE, Fault("POST .*/commit/", 412, count=9), "pushed to `user/mm-traj` at the same time"),
        ],
        ids=["wrong token", "no token", "read token", "stranger", "too large", "quota", "down", "busy", "race"],
    )
    def test_a_refusal_is_one_sentence(self, client, server, run_folder, token, fault, sentence):
        server.faults = [fault] if fault else []
        done = self.push(client, run_folder, token=token)
        assert done.returncode == 2 and sentence in done.stderr, done.stderr[-1500:]
        assert "Traceback" not in done.stderr and commits(server, "user/mm-traj", "datasets") <= 1
        server.faults = []
        assert self.push(client, run_folder).returncode == 0

    def test_repos_that_hold_something_else_are_left_alone(self, client, server, run_folder):
        server.put("user/mm-traj", {"data.csv": b"a,b\n"}, "datasets")
        server.put("user/model", {"config.json": b"{}"})
        done = self.push(client, run_folder)
        assert done.returncode == 2 and "holds something else" in done.stderr
        done = client.t3("push", "dataset", run_folder, "user/model")
        assert done.returncode == 2 and "is the name of a model repo already" in done.stderr
        assert set(server.files("user/mm-traj", "datasets")) == {".gitattributes", "data.csv"}

    @pytest.mark.parametrize("name", ["mm-traj", "a/b/c", "user/..", "user/a b", ""])
    def test_names_that_no_repo_has(self, client, server, run_folder, name):
        done = client.t3("push", "dataset", run_folder, name)
        assert done.returncode == 2 and "is not a name of a Hub repo" in done.stderr

    def test_without_the_hub(self, client, run_folder):
        done = self.push(client, run_folder, HF_HUB_OFFLINE="1")
        assert done.returncode == 2 and "HF_HUB_OFFLINE is set" in done.stderr

    def test_gated_private_and_missing_repos(self, client, server):
        server.add_repo("org/gated", gated=True)
        server.add_repo("org/private", private=True)
        load = """
from t3_agents.agent.agent import load_agent
from t3_agents.errors import InputError
result = []
for name in ("org/gated", "org/private", "org/nothing"):
    try:
        load_agent(name)
    except InputError as error:
        result.append(str(error))
"""
        gated, private, missing = client.python(load)
        assert "is gated: ask for access" in gated
        assert "`org/private`" in private and "private" in private and "`org/nothing`" in missing


class TestPull:
    def test_code_stays_on_the_hub(self, client, server, agent_folder):
        client.t3("push", "agent", agent_folder, "user/t3-agent")
        server.put("user/t3-agent", {"evil.py": b"boom", "weights.pkl": b"boom"})
        done = client.t3("pull", "user/t3-agent", "pulled")
        assert done.returncode == 0, done.stderr
        names = {path.name for path in (client.folder / "pulled").iterdir()}
        assert "t3_agent.json" in names and not names & {"evil.py", "weights.pkl"}
        assert client.t3("pull", "user/nothing", "other").returncode == 2
        assert client.t3("pull", "user/t3-agent", client.folder).returncode == 2


class TestPlantedToken:
    def test_the_token_is_in_the_header_and_nowhere_else(self, client, server, agent_folder, run_folder, tmp_path):
        server.users[PLANTED] = server.users[WRITE]
        secrets = {"token": PLANTED, "OPENAI_API_KEY": PLANTED}
        private = PurePosixPath("/", "root", "x")
        evaluation = write_finished_run(tmp_path / "eval", text=f"I am {PLANTED}, of ann@example.org, {private}/y.txt")
        for kind, source, name in (
            ("agent", agent_folder, "user/t3-agent"),
            ("dataset", run_folder, "user/mm-traj"),
            ("results", evaluation, "user/t3-agent"),
            ("report", evaluation, "user/traces"),
        ):
            done = client.t3("push", kind, source, name, **secrets)
            assert done.returncode == 0, done.stderr
        traces = server.files("user/traces", "datasets")
        found = json.loads(traces["redaction.json"])["replaced"]
        assert found["e-mail address"] >= 1 and found["home path"] >= 1
        assert b"ann@example.org" not in server.stored() and bytes(private) not in server.stored()
        sent = [request for request in server.requests if PLANTED.encode() in request.body or PLANTED in request.path]
        headers = {n for r in server.requests for n, v in r.headers.items() if PLANTED in v}
        assert sent == [] and headers == {"authorization"}
        assert PLANTED.encode() not in server.stored() and PLANTED not in client.output
        decode = """
from datasets import load_dataset
result = [str(load_dataset("user/mm-traj", name)["train"].remove_columns("images").to_list())
          for name in ("default", "tasks")]
"""
        assert PLANTED not in json.dumps(client.python(decode))

    def test_a_dataset_with_a_token_in_it_is_not_pushed(self, client, server, run_folder, tmp_path):
        with Shard(run_folder / "shards" / "train-a.jsonl") as shard:
            row = json.loads(json.dumps(shard.rows[0]))
        row["task"]["id"], row["steps"][0]["observation"] = "f" * 16, f"the key is {PLANTED}"
        with Shard(run_folder / "shards" / "train-z.jsonl") as shard:
            shard.append(row)
        done = client.t3("push", "dataset", run_folder, "user/mm-traj")
        assert done.returncode == 2 and "looks like a secret (Hugging Face token)" in done.stderr, done.stderr
        assert server.files("user/mm-traj", "datasets") == {} and PLANTED not in client.output
