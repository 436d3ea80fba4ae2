"""A scripted teacher behind real sockets: an OpenAI-compatible server in a process of its own.

```bash
python -m tests.helpers.teacher_server --latency 0.2   # its first line is the URL to call
```

`GET /stats` tells the calls by stage, and how many were under way at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers import ROOT
from tests.helpers.teacher_faults import OTHER_MODEL, Faults, fail, spoil
from tests.helpers.teacher_replies import PLAIN_KINDS, reply_to


MODEL = "scripted-teacher"


class TeacherServer:
    """Answers requests of the chat protocol, plain or streamed, after a pause.

    Args:
        latency (`float`): seconds before each reply.
        faults (`float`): share of the calls that meet each kind of fault, see [`~teacher_faults.Faults`].
        plain (`bool`): plan documents that need no library.
    """

    def __init__(self, latency: float = 0.0, faults: float = 0.0, plain: bool = False):
        self.latency = latency
        self.kinds = {"kinds": PLAIN_KINDS} if plain else {}
        self.faults = Faults(faults)
        self.calls: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which is kept open between requests."""
        try:
            while line := await reader.readline():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                body = await reader.readexactly(await _length(reader))
                if not await self._answer(method, path, body, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; whether the connection can be used for another one."""
        if method == "GET":
            known = {
                "/stats": {
                    "calls": self.calls,
                    "most_under_way": self.most_under_way,
                    "faults": self.faults.met,
                },
                "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model"}]},
            }
            await _send(writer, 200 if path in known else 404, known.get(path, {"error": {"message": "not found"}}))
            return True
        if (fault := self.faults.transport()) is not None:
            return await fail(writer, fault)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            request = json.loads(body)
            scripted = reply_to(request, **self.kinds)
            self.calls[scripted.stage] += 1
            if self.latency:
                await asyncio.sleep(self.latency)
            fault = self.faults.content(body)
            text = spoil(scripted.text, fault)
            if request.get("stream"):
                await _stream(writer, text, _usage(body, text))
            else:
                model = OTHER_MODEL if fault == "model" else MODEL
                await _send(writer, 200, completion(text, body, model))
            return True
        finally:
            self.under_way -= 1


def completion(text: str, body: bytes, model: str = MODEL) -> dict[str, Any]:
    """A reply in the form of the protocol."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": _usage(body, text)}


def _usage(body: bytes, text: str) -> dict[str, int]:
    read, written = len(body) // 4, len(text) // 4 + 1
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _length(reader: asyncio.StreamReader) -> int:
    """Read the headers of a request; the size of its body."""
    length = 0
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


async def _send(writer: asyncio.StreamWriter, status: int, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, text: str, usage: dict[str, int]) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    base = {"id": "1", "object": "chat.completion.chunk", "model": MODEL}
    pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
    events = [{**base, "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**base, "choices": [], "usage": usage})
    for event in [*map(json.dumps, events), "[DONE]"]:
        data = f"data: {event}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _run(port: int, latency: float, faults: float, plain: bool) -> None:
    teacher = TeacherServer(latency, faults, plain)
    # Pictures come as data URLs in one body, so the limit of a line counts for headers only.
    server = await asyncio.start_server(teacher.serve, "127.0.0.1", port, limit=2**20, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def teacher_server(*arguments: str) -> Iterator[str]:
    """Run the server in a process of its own and give its URL."""
    command = [sys.executable, "-m", "tests.helpers.teacher_server", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the calls that meet each kind of fault")
    parser.add_argument("--plain", action="store_true", help="plan documents that need no library")
    options = parser.parse_args(argv)
    asyncio.run(_run(options.port, options.latency, options.faults, options.plain))


if __name__ == "__main__":
    main(sys.argv[1:])
