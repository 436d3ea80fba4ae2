"""Controllers behind a server: a small one on loopback that misbehaves in the usual ways, and `transformers serve`."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from PIL import Image
from smolagents import ToolCallingAgent

from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.commands.serve import Weights, choose_server, command_of, installed_servers, merged, weights_of
from t3_agents.errors import InputError, MissingExtraError
from t3_agents.interruption import InterruptedTurn, interruptible
from t3_agents.models.endpoint import Endpoint, EndpointError
from t3_agents.models.server import SERVED_NAME, ServerModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import File, Task
from tests.helpers import free_port, wait_for_page
from tests.helpers.chat_server import ChatServer
from tests.helpers.conversations import user
from tests.helpers.tiny_vlm import turn


@pytest.fixture
def serve():
    with ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(ChatServer(*args, **kwargs))


class TestServerModel:
    def test_an_agent_runs_on_it(self, serve, make_picture):
        server = serve([turn("print(6 * 7)") + "\nObservation: made up", turn("final_answer('42')")])
        agent = T3Agent(tools=[], model=ServerModel(api_base=server.url), prompt="compact")
        trajectory = agent.run_task(Task.create("What is it?", [File.from_path(make_picture())]))
        assert trajectory.answer == "42" and trajectory.steps[0].observation == "42"
        # The turn stands in the record and in the next prompt as a local model would have left it.
        assert trajectory.steps[0].model_output == turn("print(6 * 7)")
        first, second = server.requests
        assert second["messages"][2]["content"][0]["text"] == turn("print(6 * 7)")
        assert first["model"] == "some-model" and first["temperature"] == 0 and first["max_tokens"] == 512
        assert first["stop"] == ["\nObservation:", "```<end_action>"] and "response_format" not in first
        [picture] = [part for part in first["messages"][1]["content"] if part["type"] == "image_url"]
        header, data = picture["image_url"]["url"].split(",")
        assert header == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (96, 64)

    def test_a_stop_string_that_the_server_ignores_ends_the_turn(self, serve):
        server = serve(["one STOP" + " more" * 2000], pause=0.02)
        answer = ServerModel(api_base=server.url).generate([user("hello")], stop_sequences=["never", " STOP"])
        assert answer.content == "one" and answer.token_usage.output_tokens >= 2
        time.sleep(0.3)
        assert server.sent < 1000, "the server was told to stop"

    def test_a_server_that_fails_on_stop_strings_is_not_told_them(self, serve):
        server = serve(["one STOP two", "three"], fails_on_stops=True)
        model = ServerModel(api_base=server.url)
        assert [model.generate([user("x")], stop_sequences=["STOP"]).content for _ in range(2)] == ["one ", "three"]
        assert ["stop" in request for request in server.requests] == [True, False, False]

    def test_settings_are_those_of_the_protocol(self, serve):
        server = serve(["a", "b"])
        model = ServerModel(api_base=server.url, max_new_tokens=9, do_sample=True, temperature=0.7, seed=3)
        answer = model.generate([user("hello")])
        model.generate([user("hello")], max_new_tokens=4)
        assert answer.token_usage.input_tokens == 11 and answer.token_usage.output_tokens == 5
        assert [request["max_tokens"] for request in server.requests] == [9, 4]
        assert server.requests[0]["temperature"] == 0.7 and server.requests[0]["seed"] == 3
        with pytest.raises(InputError, match="takes no setting num_beams"):
            ServerModel(api_base=server.url, num_beams=3)

    def test_a_busy_server_is_asked_again(self, serve):
        server = serve(["hello"], failures=[(503, "busy"), (429, "slow down")])
        assert ServerModel(api_base=server.url).generate([user("hello")]).content == "hello"
        assert len(server.requests) == 3

    @pytest.mark.parametrize(
        ("status", "message", "expected"),
        [
            (400, "This model's maximum context length is 4096 tokens.", "The conversation is too long"),
            (400, "Server is pinned to 'a'", "refuses the request.*pinned"),
            (401, "no", "check the URL, OPENAI_API_KEY"),
            (404, "The model does not exist", "the model's name"),
            (500, "out of order", "failed 2 times: .*out of order"),
        ],
    )
    def test_refusals_are_one_sentence(self, serve, status, message, expected):
        server = serve([], failures=[(status, message)] * 3)
        with pytest.raises(InputError, match=expected):
            ServerModel(api_base=server.url, max_retries=1).generate([user("hello")])

    def test_a_server_that_is_not_there(self):
        with pytest.raises(InputError, match="http://127.0.0.1:9/v1 failed: no connection; .* `t3 serve`"):
            ServerModel(api_base="http://127.0.0.1:9/v1", max_retries=0)

    def test_a_server_that_falls_silent(self, serve):
        server = serve(["hello"], pause=5)
        with pytest.raises(InputError, match="no word for 0.3 seconds"):
            ServerModel(api_base=server.url, request_time_limit=0.3, max_retries=0).generate([user("hello")])

    @pytest.mark.parametrize(
        "start",
        [
            b"HTT",
            b"HTTP/1.1 200 OK\r\nx",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
        ],
        ids=["status", "headers", "body", "known body"],
    )
    @pytest.mark.parametrize("is_stream", [False, True])
    def test_a_server_that_drips_bytes(self, start, is_stream):
        """A byte now and then is no silence, and does not outwait the time limits either."""
        listener = socket.create_server(("127.0.0.1", 0))
        gone = threading.Event()

        def drip():
            connection, _ = listener.accept()
            with suppress(OSError), connection:
                connection.sendall(start)
                while not gone.wait(0.1):
                    connection.sendall(b"x")

        threading.Thread(target=drip, daemon=True).start()
        endpoint = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", request_time_limit=0.5, max_retries=0)
        try:
            with interruptible(3), pytest.raises((EndpointError, InterruptedTurn)):
                if is_stream:
                    with endpoint.stream("chat", {}) as pieces:
                        list(pieces)
                else:
                    endpoint.post("chat", {})
        finally:
            gone.set()
            listener.close()

    def test_a_turn_is_cut_when_its_time_is_up_or_the_run_is_cancelled(self, serve):
        model = ServerModel(api_base=serve(["word " * 1000] * 2, pause=0.02).url)
        with interruptible(0.4), pytest.raises(InterruptedTurn, match="time is up"):
            model.generate([user("hello")])
        with interruptible() as interruption, pytest.raises(InterruptedTurn, match="cancelled"):
            threading.Timer(0.3, interruption.cancel).start()
            model.generate([user("hello")])

    def test_which_model_is_meant(self, serve):
        assert ServerModel(api_base=serve([], models=["base", SERVED_NAME]).url).model_id == SERVED_NAME
        assert ServerModel("mine", api_base=serve([]).url).model_id == "mine"
        with pytest.raises(InputError, match="offers a, b: name the model"):
            ServerModel(api_base=serve([], models=["a", "b"]).url)
        assert ServerModel(api_base=serve([], models=[]).url).model_id == SERVED_NAME
        assert load_agent(SERVED_NAME, api_base=serve([]).url).model.model_id == "some-model"

    def test_words_come_as_they_are_written(self, serve):
        server = serve(["one two STOP three"])
        stream = ServerModel(api_base=server.url).generate_stream([user("x")], stop_sequences=["STOP"])
        pieces = [piece.content for piece in stream]
        assert len(pieces) > 2 and "".join(pieces) == "one two "

    def test_structured_output_and_tools_are_the_servers(self, serve):
        call = {"index": 0, "id": "a", "function": {"name": "final_answer", "arguments": '{"answer": 3}'}}
        server = serve(["{}", [call]])
        model = ServerModel(api_base=server.url, max_tokens=7)
        assert model.generate([user("x")], response_format={"type": "json_object"}).tool_calls is None
        assert ToolCallingAgent(tools=[], model=model, verbosity_level=0).run("How many?") == 3
        form, tools = server.requests
        assert form["response_format"] == {"type": "json_object"} and form["max_tokens"] == 7
        assert [tool["function"]["name"] for tool in tools["tools"]] == ["final_answer"]
        again = ServerModel.from_dict(json.loads(json.dumps(model.to_dict())))
        assert again.to_dict() == model.to_dict() and again.generation["max_new_tokens"] == 7

    def test_a_saved_agent_keeps_its_settings(self, serve, tiny_vlm, tmp_path):
        model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=33)
        T3Agent(tools=[], model=model, prompt="compact", max_steps=3).save_pretrained(tmp_path / "agent")
        server = serve([turn("final_answer(1)")] * 2)
        agent = load_agent(tmp_path / "agent", api_base=server.url)
        assert agent.run_task(Task.create("?", [])).answer == "1" and agent.max_steps == 3
        bare = load_agent("gpt-x", api_base=server.url)
        assert bare.run_task(Task.create("?", [])).answer == "1"
        assert [r["max_tokens"] for r in server.requests] == [33, 512]
        assert [r["model"] for r in server.requests] == ["some-model", "gpt-x"]


class TestChoosing:
    def test_the_best_one_that_is_installed(self):
        assert choose_server(None, ["sglang", "transformers"]) == "sglang"
        assert choose_server("transformers", ["vllm", "transformers"]) == "transformers"
        with pytest.raises(InputError, match="pip install vllm"):
            choose_server("vllm", ["transformers"])
        with pytest.raises(MissingExtraError, match=r"t3-agents\[serve\]"):
            choose_server(None, [])

    def test_commands(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 24}))
        adapter = Weights("org/base", str(tmp_path), "abc")
        command, name = command_of("vllm", adapter, "localhost", 1)
        words = " ".join(command)
        assert name == SERVED_NAME and "--model org/base --revision abc" in words and "--max-lora-rank 24" in words
        assert words.endswith(f"--lora-modules {SERVED_NAME}={tmp_path}")
        command, _ = command_of("sglang", adapter, "localhost", 1)
        assert f"--lora-paths {SERVED_NAME}={tmp_path}" in " ".join(command)
        command, name = command_of("vllm", Weights("org/whole"), "0.0.0.0", 77)
        assert " ".join(command).endswith(f"--host 0.0.0.0 --port 77 --served-model-name {SERVED_NAME}")
        command, name = command_of("transformers", Weights("/agent"), "localhost", 1)
        assert command[5:7] == ["serve", "/agent"] and name == "/agent"

    def test_weights_of_agents_and_controllers(self, tiny_vlm, tmp_path):
        assert weights_of(str(tiny_vlm)) == Weights(str(tiny_vlm))
        model = VLMModel.from_pretrained(tiny_vlm)
        T3Agent(tools=[], model=model, prompt="compact").save_pretrained(tmp_path / "agent")
        assert weights_of(str(tmp_path / "agent")) == Weights(str(tmp_path / "agent"))
        file = tmp_path / "agent/t3_agent.json"
        record = json.loads(file.read_text())
        record["controller"] = {"base": "org/base", "revision": "abc", "adapter": True}
        file.write_text(json.dumps(record))
        assert weights_of(str(tmp_path / "agent")) == Weights("org/base", str(tmp_path / "agent"), "abc")

    def test_an_adapter_is_merged_for_a_server_without_adapters(self, tiny_vlm, tmp_path):
        import torch
        from peft import LoraConfig, get_peft_model

        model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=8)
        adapted = get_peft_model(model.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        adapted.save_pretrained(tmp_path / "adapter")
        model.processor.save_pretrained(tmp_path / "adapter")
        with torch.no_grad():
            whole = merged(Weights(str(tiny_vlm), str(tmp_path / "adapter")), tmp_path / "whole")
        expected = VLMModel(adapted, model.processor, max_new_tokens=8).generate([user("hello")]).raw
        found = VLMModel.from_pretrained(whole.model, max_new_tokens=8).generate([user("hello")]).raw
        assert found == expected


@pytest.mark.slow
@pytest.mark.skipif("transformers" not in installed_servers(), reason="needs the extra `serve`")
def test_served_and_in_process_write_the_same(tiny_vlm, make_picture, tmp_path):
    """`t3 serve` with the best server that is installed, and the same greedy turns as without it."""
    port = free_port()
    command = [sys.executable, "-m", "t3_agents.cli", "serve", "--agent", str(tiny_vlm), "--port", str(port)]
    # Nothing was ever downloaded here.
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        printed = [process.stdout.readline() for _ in range(3)]
        assert f"--api-base http://localhost:{port}/v1\n" in printed[2]
        wait_for_page(process, f"http://localhost:{port}/health")
        assert json.loads(wait_for_page(process, f"http://localhost:{port}/v1/models"))["object"] == "list"
        served = ServerModel(api_base=f"http://localhost:{port}/v1", max_new_tokens=12)
        local = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=12)
        picture = Image.open(make_picture())
        for messages in ([user("What is shown?", picture)], [user("Go on.")]):
            ours, theirs = local.generate(messages), served.generate(messages)
            words = local.processor.tokenizer.decode(ours.raw.output_ids, skip_special_tokens=True)
            assert theirs.content == words.rstrip("\ufffd")  # half a character is not sent
            assert theirs.token_usage.input_tokens == ours.token_usage.input_tokens
        half = served.generate(messages, stop_sequences=[words[3:6]])
        assert half.content == words[: words.index(words[3:6])]
    finally:
        process.terminate()
        process.wait(30)
