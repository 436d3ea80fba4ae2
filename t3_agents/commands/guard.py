"""Refuse what web pages of others send to a server of this machine (DNS rebinding, requests across sites).

`python -m t3_agents.commands.guard HOST MODULE ARGUMENT...` runs a module, such as `trackio.cli show`, and guards the
server that it starts with uvicorn.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import runpy
import socket
import sys
from collections.abc import Iterable
from typing import Any


_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?", re.IGNORECASE)


def refusal(headers: Iterable[tuple[str, str]], host: str) -> str | None:
    """Why a request is refused; `None` for one of this server's own pages, or of a program.

    A page that has bound its name to this machine sends that name as `Host`; any other page sends its own `Origin`, or
    `Sec-Fetch-Site` where a browser sends no origin. A link that is followed to the server is served.

    Args:
        headers (`Iterable`): names and values.
        host (`str`): where the server listens. Loopback names are always served; a server that listens everywhere is
            also reached by addresses and by the name of this machine.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    hosts = found.get("host", [])
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None or not _is_served((match[1] or match[2]).lower(), host.strip("[]").lower()):
        return "This address is not served: use localhost, or name the address with --host."
    origins = (f"http://{hosts[0]}", f"https://{hosts[0]}")
    is_foreign = found.get("sec-fetch-site", ["none"])[0] in ("cross-site", "same-site")
    if not all(origin in origins for origin in found.get("origin", [])) or (
        is_foreign and found.get("sec-fetch-dest") != ["document"]
    ):
        return "Pages of other addresses may not use this server."
    return None


def _is_served(name: str, host: str) -> bool:
    if name in _LOOPBACK or name == host:
        return True
    if host not in ("", "0.0.0.0", "::"):
        return False
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return name in _own_names()


@functools.cache
def _own_names() -> tuple[str, str]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


class Guard:
    """ASGI middleware with [`refusal`], for pages, streams and websockets.

    Args:
        app (`Callable`): an ASGI application.
        host (`str`): where its server listens.
    """

    def __init__(self, app: Any, host: str):
        self.app = app
        self.host = host

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope.get("headers", [])]
        reason = None if scope["type"] == "lifespan" else refusal(headers, self.host)
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": reason.encode()})


def _run(host: str, module: str, *arguments: str) -> None:
    import uvicorn

    from ..models.chat_templates import bound_chat_templates

    bound_chat_templates()
    load = uvicorn.Config.load

    def guarded(config: uvicorn.Config) -> None:
        load(config)
        config.loaded_app = Guard(config.loaded_app, host)

    # Servers make their applications in their own ways, but all hand them to uvicorn.
    uvicorn.Config.load = guarded
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run(*sys.argv[1:])
