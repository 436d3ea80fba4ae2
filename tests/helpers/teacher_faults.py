"""What goes wrong at a scripted teacher, each kind in a share of the calls.

Faults of content are decided by the request, so a request that is repeated, also by another process, meets the same
one. Faults of transport are decided by a counter, so a request that is repeated gets through.
"""

from __future__ import annotations

import asyncio
import hashlib
from itertools import count


OTHER_MODEL = "a-cheaper-model"
FRENCH = "Je suis désolé, je ne peux pas répondre dans ce format. Voici quelques idées en français."
TRANSPORT = ("busy", "down", "hang", "garbage", "closed")
CONTENT = ("half", "schema", "language", "model")


class Faults:
    """Faults at a server.

    Args:
        share (`float`): share of the calls that meet each kind.
    """

    def __init__(self, share: float):
        self.share = share
        self._number = count(1)

    def transport(self) -> str | None:
        """What happens to the next call on its way."""
        if not self.share:
            return None
        period = round(1 / self.share)
        # Spread over the period, so that one call meets no two in a row.
        places = {period * place // len(TRANSPORT): kind for place, kind in enumerate(TRANSPORT)}
        return places.get(next(self._number) % period)

    def content(self, body: bytes) -> str | None:
        """What is wrong with the reply to this request."""
        place = int.from_bytes(hashlib.sha256(body).digest()[:4], "big") / 2**32
        kind = int(place / self.share) if self.share else len(CONTENT)
        return CONTENT[kind] if kind < len(CONTENT) else None


def spoil(text: str, fault: str | None) -> str:
    """A reply with a fault in its content."""
    if fault == "half":
        return text[: len(text) // 2]
    if fault == "schema":
        return '{"result": ["something", "else"], "ok": "perhaps"}'
    return FRENCH if fault == "language" else text


async def fail(writer: asyncio.StreamWriter, fault: str) -> bool:
    """Treat a call as a server does that is not well; whether the connection can still be used."""
    if fault == "hang":
        await asyncio.sleep(3600)
    elif fault == "garbage":
        writer.write(b"\x00\xff<html>502 \x7f garbage\r\n\r\n")
    elif fault in ("busy", "down"):
        status = "429 Too Many Requests" if fault == "busy" else "503 Service Unavailable"
        body = b'{"error": {"message": "try again"}}'
        head = (
            f"HTTP/1.1 {status}\r\nRetry-After: 0.05\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        return True
    return False
