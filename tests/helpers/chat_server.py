"""A server on loopback that speaks the chat protocol of OpenAI and says given turns."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """Says the given turns; use it as a context manager.

    Args:
        turns (`Sequence`): texts, lists of tool calls, or functions of the request that give texts.
        failures (`Sequence[tuple[int, str]]`): status and message of what is sent before the first turn.
        models (`Sequence[str]`): names that it lists.
        pause (`float`): seconds after each piece of a turn that is streamed.
        fails_on_stops (`bool`): send an error in place of a turn for which stop strings are given.
    """

    daemon_threads = True

    def __init__(
        self,
        turns: Sequence[str | Callable[[dict[str, Any]], str]],
        failures: Sequence[tuple[int, str]] = (),
        models: Sequence[str] = ("some-model",),
        pause: float = 0.0,
        fails_on_stops: bool = False,
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.turns, self.failures, self.models = list(turns), list(failures), list(models)
        self.pause, self.fails_on_stops = pause, fails_on_stops
        self.requests: list[dict[str, Any]] = []
        self.sent = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        if self.server.failures:
            status, message = self.server.failures.pop(0)
            self._json(status, {"error": {"message": message}})
        elif "stop" in request and self.server.fails_on_stops:
            self._stream([{"error": "no attribute get_vocab"}])
        else:
            turn = self.server.turns.pop(0)
            if isinstance(turn, list):
                return self._stream([{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in turn])
            self._say(turn if isinstance(turn, str) else turn(request), bool(request.get("stream")))

    def _say(self, text: str, stream: bool) -> None:
        record = {"id": "x", "object": f"chat.completion{'.chunk' * stream}", "created": 1, "model": "m"}
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        if not stream:
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            return self._json(200, {**record, "choices": [choice], "usage": usage})
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        chunks = [{**record, "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        return self._stream([*chunks, {**record, "choices": [], "usage": usage}])

    def _stream(self, chunks: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for chunk in chunks:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
                self.server.sent += 1
                time.sleep(self.server.pause)
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:  # the client has heard enough
            pass

    def _json(self, status: int, record: dict[str, Any]) -> None:
        data = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
