"""Teachers against servers that answer in all the ways that servers do."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel
from smolagents.models import ChatMessage, MessageRole

from dataset_builder.synthesis.progress import BudgetSpent, Ledger, Prices, metered
from dataset_builder.synthesis.teacher import ReplyError, Teacher, TeacherModel, parse_reply
from t3_agents.models.endpoint import Endpoint, EndpointError, Limit, WrongEndpoint


class Color(BaseModel):
    """A color."""

    name: str
    shares: list[int]


GOOD = '{"name": "red", "shares": [255, 0, 0]}'


@contextmanager
def server(*replies: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give each reply to one request, the last one to all others; the URL and the requests that came."""
    requests: list[dict[str, Any]] = []
    waiting = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(reply, bytes):
                self.wfile.write(reply)
                self.close_connection = True
                return
            status, headers, body = reply if isinstance(reply, tuple) else (200, {}, chat(reply))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/v1", requests
        running.shutdown()


def chat(text: str, model: str = "m-2024") -> dict[str, Any]:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"model": model, "choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}


def teacher(url: str, retries: int = 3, time_limit: float = 5, **settings: Any) -> Teacher:
    endpoint = Endpoint(url, request_time_limit=time_limit, max_retries=retries, first_pause=0.01)
    return Teacher(endpoint, "m", **settings)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here it is:\n```json\n{GOOD}\n```\nAnything else?",
        f"Sure! {GOOD} I hope that helps {{you}}.",
        '{"name": "red", "shares": [255, 0, 0,],}',
        "{'name': 'red', 'shares': [255, 0, 0]}",
        f"<think>First {{}} maybe</think>{GOOD}",
        'A first try: {"name": "blue"} - no, better: ' + GOOD,
    ],
)
def test_replies_that_are_nearly_json_are_read(text):
    assert parse_reply(text, Color) == Color(name="red", shares=[255, 0, 0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (GOOD[:-6], "no complete JSON"),
        ("Je ne sais pas.", "no complete JSON"),
        ('{"name": "red"}', "`shares`: Field required"),
        ('{"name": "red", "shares": ["much"]}', "shares.0"),
        ("[" * 100_000, "no complete JSON"),
        ("{" * 300_000, "300,000 characters"),
        ("{'name': __import__('os').system('true'), 'shares': []}", "no complete JSON"),
    ],
)
def test_replies_that_cannot_be_used_say_why(text, reason):
    with pytest.raises(ReplyError, match=reason):
        parse_reply(text, Color)


def test_a_good_reply_is_asked_for_by_its_schema_and_paid():
    ledger = Ledger()
    with server(GOOD) as (url, requests), metered() as usage:
        picture = {"type": "image", "image": Image.new("RGB", (3000, 10), "red")}
        parts = [{"type": "text", "text": "Which color?"}, picture]
        answer = teacher(url, ledger=ledger, prices=Prices(1.0, 2.0)).ask("paint", parts, Color, system="Be brief.")
    assert answer.value.name == "red" and answer.model == "m-2024" and answer.attempts == 1
    request = requests[0]
    assert request["response_format"]["json_schema"]["schema"]["required"] == ["name", "shares"]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert request["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert ledger.stages["paint"].tokens == usage.tokens == 110 and usage.cost == pytest.approx(120e-6)


def test_a_wrong_reply_is_sent_back_once_with_what_is_wrong():
    with server('{"name": "red"}', GOOD) as (url, requests):
        answer = teacher(url).ask("paint", "Which color?", Color)
    assert answer.attempts == 2 and answer.usage.calls == 2
    assert "shares" in requests[1]["messages"][-1]["content"]
    with server("Je ne sais pas.") as (url, requests), pytest.raises(ReplyError, match="no complete JSON"):
        teacher(url).ask("paint", "Which color?", Color)
    assert len(requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0.01"}, {"error": "slow down"}),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}),
        (503, {}, b"<html>"),
        (500, {}, b""),
        (200, {}, b'{"choices": [{"mess'),
        (200, {}, {"error": {"message": "overloaded"}}),
        b"\x00\xffgarbage\r\n\r\n",
        b"",
    ],
)
def test_faults_of_transport_are_tried_again(fault):
    with server(fault, GOOD) as (url, requests):
        answer = teacher(url).ask("paint", "Which color?", Color)
    assert answer.attempts == len(requests) == 2 and answer.usage.retries == 1


def test_a_server_that_hangs_or_is_not_there_is_an_outage():
    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10_000)
            ended.wait(10)

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as silent:
        threading.Thread(target=silent.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{silent.server_address[1]}/v1"
        with pytest.raises(EndpointError, match=r"no word for 0\.2 seconds") as caught:
            teacher(url, retries=1, time_limit=0.2).ask("paint", "Which color?", Color)
        assert caught.value.outage
        ended.set()
        silent.shutdown()
    with pytest.raises(EndpointError, match="no connection"):
        teacher(url, retries=1).ask("paint", "Which color?", Color)


def test_requests_that_are_refused_are_not_repeated():
    with server((400, {}, {"error": "this picture is forbidden"})) as (url, requests):
        with pytest.raises(EndpointError, match="forbidden") as caught:
            teacher(url).ask("paint", "Which color?", Color)
        assert len(requests) == 1 and not caught.value.outage
    with server((401, {}, {"error": "no key"})) as (url, _), pytest.raises(WrongEndpoint, match="OPENAI_API_KEY"):
        teacher(url).ask("paint", "Which color?", Color)


def test_an_endpoint_without_schemas_is_told_them_in_words():
    refused = (400, {}, {"error": "response_format json_schema is not supported"})
    with server(refused, GOOD) as (url, requests):
        asked = teacher(url)
        asked.ask("paint", "Which color?", Color)
        asked.ask("paint", "Which color?", Color)
    assert "response_format" not in requests[-1] and '"shares"' in requests[-1]["messages"][0]["content"]


def test_another_model_is_refused_unless_it_is_named():
    with server((200, {}, chat(GOOD, "cheaper"))) as (url, requests):
        with pytest.raises(EndpointError, match="`cheaper` answers in the place of `m`"):
            teacher(url).ask("paint", "Which color?", Color)
        assert len(requests) == 3
        assert teacher(url, other_models=["cheaper"]).ask("paint", "?", Color).model == "cheaper"


def test_the_budget_ends_before_the_next_call():
    with server(GOOD) as (url, requests):
        asked = teacher(url, ledger=Ledger(max_tokens=200))
        asked.ask("paint", "Which color?", Color)
        asked.ask("paint", "Which color?", Color)
        with pytest.raises(BudgetSpent, match="200 tokens"):
            asked.ask("paint", "Which color?", Color)
    assert len(requests) == 2


def test_the_limit_falls_at_overload_and_rises_again():
    limit = Limit(16)
    begun = limit._decreased + 1
    limit.overloaded(begun)
    assert limit.value == pytest.approx(11.2)
    limit.overloaded(begun=0.0)  # a call from before the decrease says nothing new
    assert limit.value == pytest.approx(11.2)
    for _ in range(20):
        limit.succeeded()
    assert limit.value == 16


def test_turns_of_an_agent_share_the_ledger_and_end_at_their_stop():
    ledger = Ledger()
    with server("I look.\nCode:\n```py\nprint(1)\n```<end_action>Observation: 2") as (url, requests):
        model = TeacherModel(teacher(url, ledger=ledger), "solve", max_tokens=50)
        turn = model.generate([ChatMessage(role=MessageRole.USER, content="Go.")], stop_sequences=["```<end_action>"])
    assert turn.content.endswith("print(1)\n") and turn.token_usage.input_tokens == 100
    assert requests[0]["max_tokens"] == 50 and ledger.stages["solve"].calls == 1
