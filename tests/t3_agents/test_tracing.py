"""Spans of real runs, as an exporter gets them."""

import json
import subprocess
import sys
import threading

import pytest

from t3_agents import tracing
from t3_agents.agent.agent import T3Agent
from t3_agents.agent.rollout import rollout
from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.models.vlm import VLMModel
from t3_agents.task import Task
from t3_agents.tracing import start_tracing, stop_tracing
from tests.helpers.tiny_vlm import turn


pytest.importorskip("opentelemetry.sdk")


@pytest.fixture
def exporter():
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    start_tracing(exporter)
    yield exporter
    stop_tracing()


def by_kind(exporter):
    spans = exporter.get_finished_spans()
    return {kind: [s for s in spans if s.attributes[tracing.KIND] == kind] for kind in ("AGENT", "CHAIN", "LLM")}


def test_a_run_its_steps_and_its_model_calls(exporter, tiny_vlm):
    model = VLMModel.from_pretrained(tiny_vlm, max_new_tokens=7)
    agent = T3Agent(tools=[], model=model, prompt="compact", max_steps=2)
    trajectory = agent.run_task(Task.create("What is it?", []))
    spans = by_kind(exporter)
    [run] = spans["AGENT"]
    assert run.attributes["input.value"] == "What is it?" and run.parent is None
    assert [s.name for s in spans["CHAIN"]] == ["Step 1", "Step 2"]
    assert {s.parent.span_id for s in spans["CHAIN"]} == {run.context.span_id}
    assert [s.parent.span_id for s in spans["LLM"]] == [s.context.span_id for s in spans["CHAIN"]]
    for number, (call, step) in enumerate(zip(spans["LLM"], trajectory.actions, strict=True)):
        found = call.attributes
        assert found["llm.token_count.prompt"] == step.input_tokens
        assert found["llm.token_count.completion"] == step.output_tokens
        assert found["llm.token_count.total"] == step.input_tokens + step.output_tokens
        assert (found["llm.token_count.prompt_details.cache_read"] > 100) == bool(number)
        assert found["llm.model_name"] == model.model_id and found[tracing.BATCH_SIZE] == 1
        assert json.loads(found["llm.invocation_parameters"])["max_new_tokens"] == 7


def test_runs_of_several_threads_stay_apart(exporter):
    """Every model call and step lies below the run of its own thread."""

    def make_agent():
        return T3Agent(tools=[], model=ScriptedModel([turn("final_answer(1)")] * 9), prompt="compact")

    tasks = [Task(id=f"task-{i}", query=f"{i}?") for i in range(6)]
    assert len(list(rollout(make_agent, tasks, num_workers=3))) == 6
    spans = by_kind(exporter)
    assert len(spans["AGENT"]) == 6 == len({s.context.trace_id for s in spans["AGENT"]})
    assert sorted(s.parent.span_id for s in spans["CHAIN"]) == sorted(s.context.span_id for s in spans["AGENT"])


def test_an_error_is_recorded(exporter, tiny_vlm):
    model = VLMModel.from_pretrained(tiny_vlm)
    with pytest.raises(ValueError, match="no_such_setting"):
        model.generate([{"role": "user", "content": "hello"}], no_such_setting=1)
    [call] = by_kind(exporter)["LLM"]
    assert not call.status.is_ok and call.events[0].name == "exception"


def test_the_names_are_those_of_openinference():
    from openinference.semconv.trace import OpenInferenceSpanKindValues, SpanAttributes

    assert tracing.KIND == SpanAttributes.OPENINFERENCE_SPAN_KIND
    assert (tracing.INPUT, tracing.OUTPUT) == (SpanAttributes.INPUT_VALUE, SpanAttributes.OUTPUT_VALUE)
    assert (tracing.MODEL, tracing.PARAMETERS) == (
        SpanAttributes.LLM_MODEL_NAME,
        SpanAttributes.LLM_INVOCATION_PARAMETERS,
    )
    assert tracing.PROMPT_TOKENS == SpanAttributes.LLM_TOKEN_COUNT_PROMPT
    assert tracing.COMPLETION_TOKENS == SpanAttributes.LLM_TOKEN_COUNT_COMPLETION
    assert tracing.TOTAL_TOKENS == SpanAttributes.LLM_TOKEN_COUNT_TOTAL
    assert tracing.CACHED_TOKENS == SpanAttributes.LLM_TOKEN_COUNT_PROMPT_DETAILS_CACHE_READ
    assert {"AGENT", "CHAIN", "LLM"} <= {kind.value for kind in OpenInferenceSpanKindValues}


def test_a_file_gets_a_line_per_span(tmp_path):
    start_tracing(tmp_path / "deep/spans.jsonl")
    try:
        with pytest.raises(InputError, match="recorded already"):
            start_tracing(tmp_path / "other.jsonl")
        agent = T3Agent(tools=[], model=ScriptedModel([turn("final_answer('ü')")]), prompt="compact")
        agent.run_task(Task.create("?", []))
    finally:
        stop_tracing()
    spans = [json.loads(line) for line in (tmp_path / "deep/spans.jsonl").read_text().splitlines()]
    assert [s["name"] for s in spans] == ["generate", "Step 1", "T3Agent.run_task"]
    assert spans[2]["attributes"]["output.value"] == "ü"


def test_a_collector_gets_them(tmp_path):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from http.server import BaseHTTPRequestHandler, HTTPServer

    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    start_tracing(f"http://127.0.0.1:{server.server_port}/v1/traces")
    with tracing.span("AGENT", "a run"):
        pass
    stop_tracing()
    server.shutdown()
    server.server_close()
    assert [path for path, _ in received] == ["/v1/traces"] and b"a run" in received[0][1]


def test_nothing_is_imported_or_recorded_before_it_is_asked_for():
    code = (
        "import sys\n"
        "from t3_agents.agent.agent import T3Agent\n"
        "from t3_agents.models.scripted import ScriptedModel\n"
        "from t3_agents.task import Task\n"
        "model = ScriptedModel(['Code:\\n```py\\nfinal_answer(1)\\n```<end_action>'])\n"
        "assert T3Agent(tools=[], model=model, prompt='compact').run_task(Task.create('?', [])).answer == '1'\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
