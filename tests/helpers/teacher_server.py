"""A scripted teacher behind real sockets: an OpenAI-compatible server in a process of its own.

```bash
python -m tests.helpers.teacher_server --latency 0.2   # its first line is the URL to call
```

`GET /stats` tells the calls by stage.
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
    """Answers requests of the chat protocol after a pause.

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
            known = {"/stats": {"calls": self.calls}}
            await _send(writer, 200 if path in known else 404, known.get(path, {"error": {"message": "not found"}}))
            return True
        if (fault := self.faults.transport()) is not None:
            return await fail(writer, fault)
        stage, text = reply_to(json.loads(body), **self.kinds)
        self.calls[stage] += 1
        await asyncio.sleep(self.latency)
        fault = self.faults.content(body)
        model = OTHER_MODEL if fault == "model" else MODEL
        await _send(writer, 200, completion(spoil(text, fault), body, model))
        return True


def completion(text: str, body: bytes, model: str) -> dict[str, Any]:
    """A reply in the form of the protocol."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    read, written = len(body) // 4, len(text) // 4 + 1
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


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


async def _run(latency: float, faults: float, plain: bool) -> None:
    teacher = TeacherServer(latency, faults, plain)
    # Pictures come as data URLs in one body, so the limit of a line counts for headers only.
    server = await asyncio.start_server(teacher.serve, "127.0.0.1", 0, limit=2**20, backlog=512)
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
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--faults", type=float, default=0.0, help="share of the calls that meet each kind of fault")
    parser.add_argument("--plain", action="store_true", help="plan documents that need no library")
    options = parser.parse_args(argv)
    asyncio.run(_run(options.latency, options.faults, options.plain))


if __name__ == "__main__":
    main(sys.argv[1:])
