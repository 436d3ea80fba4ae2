"""The one client of the OpenAI protocol: calls from many threads, with retries and adaptive concurrency."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connectionpool import HTTPConnectionPool

from ..errors import InputError, T3Error
from ..interruption import Interruption, current_interruption


BUSY = {408, 409, 425, 429}
"""Statuses below 500 after which a call is repeated; so it is after all from 500 on."""
OVERLOADED = {408, 429, 503, 529}
"""Statuses that say that there are too many calls."""
MAX_PAUSE = 60.0
"""Longest pause before a call is repeated, seconds, also where the server asks for more."""
CONNECT_SECONDS = 20.0
"""How long a connection may take to be made."""


class EndpointError(T3Error):
    """A server gave no reply for reasons of transport, or refuses this request.

    Args:
        reason (`str`): in one sentence.
        outage (`bool`, *optional*, defaults to `False`): nobody got an answer while this call was tried, so the
            endpoint is down rather than the request wrong.
    """

    def __init__(self, reason: str, outage: bool = False):
        super().__init__(reason)
        self.outage = outage


class RefusedRequest(EndpointError):
    """The server says that this request is wrong; repeating it would not help."""


class BrokenReply(EndpointError):
    """A reply that had begun reports an error of the server."""


class WrongEndpoint(InputError):
    """The endpoint, the key or the model's name is wrong."""


class Limit:
    """How many calls may be under way: one more after a row of good ones, fewer when the endpoint is overloaded.

    Additive increase and multiplicative decrease, as TCP does it. Signs of overload from calls that began before the
    last decrease do not count, so one burst of refusals is one decrease.

    Args:
        maximum (`int`): upper bound, with which it starts.
    """

    DECREASE, INCREASE = 0.7, 0.5

    def __init__(self, maximum: int):
        self.maximum = maximum
        self.value = float(maximum)
        self.lowest = float(maximum)
        self._running = 0
        self._decreased = self._open_at = time.monotonic()
        self._changed = threading.Condition()

    def enter(self, interruption: Interruption) -> None:
        """Wait for a place."""
        with self._changed:
            while True:
                interruption.check()
                now = time.monotonic()
                if self._running < max(1, int(self.value)) and now >= self._open_at:
                    self._running += 1
                    return
                self._changed.wait(min(1.0, max(0.01, self._open_at - now)))

    def leave(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify()

    def succeeded(self) -> None:
        if self.value < self.maximum:
            with self._changed:
                self.value = min(self.maximum, self.value + self.INCREASE)
                self._changed.notify()

    def overloaded(self, begun: float, pause: float = 0.0) -> None:
        """Allow fewer calls, and none for `pause` seconds.

        Args:
            begun (`float`): when the call began, by `time.monotonic`.
            pause (`float`, *optional*, defaults to 0): what the endpoint asked for.
        """
        with self._changed:
            now = time.monotonic()
            self._open_at = max(self._open_at, now + pause)
            if begun > self._decreased:
                self.value = max(1.0, self.value * self.DECREASE)
                self.lowest = min(self.lowest, self.value)
                self._decreased = now


class Endpoint:
    """One connection pool to one server, for all threads.

    Args:
        api_base (`str`): URL, such as `https://api.openai.com/v1`.
        api_key (`str`, *optional*): key; by default that of the environment variable `OPENAI_API_KEY`, if any.
        request_time_limit (`float`, *optional*, defaults to 300): seconds of silence before a call fails.
        max_concurrency (`int`, *optional*, defaults to 16): calls under way at a time; fewer when it is overloaded.
        max_retries (`int`, *optional*, defaults to 8): times that a call is repeated.
        first_pause (`float`, *optional*, defaults to 0.5): seconds before the first repetition; doubled each time,
            with jitter.

    Raises:
        InputError: when the URL is none.
    """

    def __init__(
        self,
        api_base: str,
        api_key: str | None = None,
        request_time_limit: float = 300.0,
        max_concurrency: int = 16,
        max_retries: int = 8,
        first_pause: float = 0.5,
    ):
        if not api_base.startswith(("http://", "https://")):
            raise InputError(f"`{api_base}` is no URL of an endpoint: give one such as http://localhost:8000/v1.")
        self.api_base = api_base.rstrip("/")
        self.request_time_limit = request_time_limit
        self.max_retries = max_retries
        self.first_pause = first_pause
        self.limit = Limit(max_concurrency)
        self.successes = 0
        self._closed = threading.Event()
        self._headers = {"Content-Type": "application/json"}
        api_key = api_key or os.environ.get("OPENAI_API_KEY")
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        # urllib3 rather than httpx: with 64 threads it takes half of the processor's time for each call.
        self._pool = _pool_for(self.api_base, max_concurrency)

    def post(self, path: str, request: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """Send a request until a JSON object comes back that is no error.

        Args:
            path (`str`): after the URL's base, such as `chat/completions`.
            request (`dict`): JSON-safe body.

        Returns:
            `tuple[dict, int]`: the reply's body, and how often the request was sent.

        Raises:
            WrongEndpoint: when the key or the model's name is wrong, so no request will ever succeed.
            RefusedRequest: when the server refuses this request.
            EndpointError: when it fails after all repetitions.
            InterruptedTurn: when the run in this thread is cancelled or out of time.
        """
        return self._call("POST", path, request)

    def get(self, path: str) -> dict[str, Any]:
        """What lies at a path, such as `models`; errors are those of [`post`]."""
        return self._call("GET", path)[0]

    @contextmanager
    def stream(self, path: str, request: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
        """Send a request and read its reply piece by piece; leaving the block ends it, at the server too.

        A server that does not stream gives its whole reply as the only piece. Errors are those of [`post`], and:

        Raises:
            BrokenReply: when the server reports an error after the reply has begun.
        """
        response, _ = self._call("POST", path, {**request, "stream": True}, is_stream=True)
        try:
            yield self._pieces(response, current_interruption() or Interruption())
        finally:
            self.limit.leave()
            response.close()

    def _call(
        self, method: str, path: str, request: dict[str, Any] | None = None, is_stream: bool = False
    ) -> tuple[Any, int]:
        """The reply, and how often the request was sent. That of a stream is open, and its place still taken."""
        body = None if request is None else json.dumps(request, ensure_ascii=False).encode(errors="replace")
        successes, problem = self.successes, ""
        interruption = current_interruption() or Interruption()
        for attempt in range(self.max_retries + 1):
            self.limit.enter(interruption)
            begun, reply = time.monotonic(), None
            try:
                reply, problem, pause = self._send(method, path, body, is_stream, begun, interruption)
            finally:
                if reply is None or not is_stream:
                    self.limit.leave()
            if reply is not None:
                self.successes += 1
                self.limit.succeeded()
                return reply, attempt + 1
            if attempt < self.max_retries:
                pause = max(pause, self.first_pause * 2**attempt * random.uniform(0.5, 1.0))
                self._rest(min(pause, MAX_PAUSE), interruption)
        times = f" {self.max_retries + 1} times" if self.max_retries else ""
        raise EndpointError(f"{self.api_base} failed{times}: {problem}", outage=self.successes == successes)

    def _send(
        self, method: str, path: str, body: bytes | None, is_stream: bool, begun: float, interruption: Interruption
    ) -> tuple[Any, str, float]:
        """The reply, or what was wrong and the pause that the server asks for."""
        left = interruption.seconds_left()
        timeout = self.request_time_limit if left is None else min(self.request_time_limit, left)
        try:
            response = self._pool.request(
                method,
                f"{self.api_base}/{path}",
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(connect=min(timeout, CONNECT_SECONDS), read=timeout),
                retries=False,
                preload_content=False,
            )
            if is_stream and response.status == 200:
                return response, "", 0.0
            data = b"".join(_chunks(response, time.monotonic() + timeout))
            response.release_conn()
        except urllib3.exceptions.ReadTimeoutError:
            interruption.check()
            self.limit.overloaded(begun)
            return None, _silence(timeout), 0.0
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            self.limit.overloaded(begun)
            return None, "no connection; start the server, an agent's own with `t3 serve`, or check the URL.", 0.0
        except urllib3.exceptions.HTTPError as error:
            return None, _problem(error), 0.0
        words = " ".join(data[:2000].decode(errors="replace").split())[:300]
        if response.status in BUSY or response.status >= 500:
            pause = _retry_after(response)
            if response.status in OVERLOADED:
                self.limit.overloaded(begun, pause)
            return None, f"status {response.status}. {words}", pause
        if response.status in (401, 404):
            raise WrongEndpoint(
                f"{self.api_base} refuses with status {response.status}: check the URL, OPENAI_API_KEY and the "
                f"model's name. {words}"
            )
        if response.status != 200:
            raise RefusedRequest(f"{self.api_base} refuses the request ({response.status}): {words}")
        try:
            reply = json.loads(data)
        except ValueError:
            return None, "the reply is not JSON.", 0.0
        if not isinstance(reply, dict) or reply.get("error"):
            return None, f"the reply is an error: {str(reply)[:200]}", 0.0
        return reply, "", 0.0

    def _pieces(self, response: urllib3.BaseHTTPResponse, interruption: Interruption) -> Iterator[dict[str, Any]]:
        """The events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        is_stream = "event-stream" in response.headers.get("content-type", "")
        try:
            chunks = _chunks(response, None, interruption)
            for line in _lines(chunks) if is_stream else [b"data:" + b"".join(chunks)]:
                content = line[5:].strip() if line.startswith(b"data:") else b""
                if content == b"[DONE]":
                    return
                if not content:
                    continue
                piece = json.loads(content)
                if not isinstance(piece, dict) or piece.get("error"):
                    raise BrokenReply(f"{self.api_base} failed in the middle of a reply: {str(piece)[:300]}")
                yield piece
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            interruption.check()
            silent = isinstance(error, urllib3.exceptions.ReadTimeoutError)
            problem = _silence(self.request_time_limit) if silent else _problem(error)
            raise EndpointError(f"{self.api_base} failed in the middle of a reply: {problem}") from None

    def _rest(self, seconds: float, interruption: Interruption) -> None:
        left = interruption.seconds_left()
        self._closed.wait(seconds if left is None else min(seconds, left))
        interruption.check()
        if self._closed.is_set():
            raise EndpointError("The connection was closed.", outage=True)

    def close(self) -> None:
        """End the pauses of calls that are to be repeated, and the connections."""
        self._closed.set()
        self._pool.clear()


def _pool_for(url: str, size: int) -> urllib3.PoolManager:
    """Connections to a server, through the environment's proxy where there is one for it."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    manager = urllib3.ProxyManager(proxy, maxsize=size) if proxy else urllib3.PoolManager(maxsize=size)
    manager.pool_classes_by_scheme = {name: _punctual(pool) for name, pool in manager.pool_classes_by_scheme.items()}
    return manager


def _punctual(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """A pool whose timeout for reading holds for all headers together, not for each byte of them."""

    class Connection(pool.ConnectionCls):
        def getresponse(self) -> urllib3.HTTPResponse:
            if not isinstance(self.timeout, (int, float)):
                return super().getresponse()
            began = time.monotonic()
            timer = threading.Timer(self.timeout + 0.1, _shut, [self.sock])
            timer.daemon = True
            timer.start()
            try:
                return super().getresponse()
            finally:
                timer.cancel()
                # Headers that were cut off look whole, or broken.
                if time.monotonic() - began > self.timeout:
                    raise TimeoutError("the headers took too long")

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3)."""
    try:
        return min(MAX_PAUSE, urllib3.Retry().get_retry_after(response) or 0.0)
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _chunks(
    response: urllib3.BaseHTTPResponse, deadline: float | None, interruption: Interruption | None = None
) -> Iterator[bytes]:
    """What a server sends as soon as it comes, so that one that drips bytes does not outwait a time limit."""
    while data := response.read1(2**16, decode_content=True):
        yield data
        if interruption is not None:
            interruption.check()
        if deadline is not None and time.monotonic() > deadline:
            raise urllib3.exceptions.ReadTimeoutError(None, "", "the reply took too long")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines as soon as they come."""
    rest = b""
    for data in chunks:
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    yield rest


def _silence(seconds: float) -> str:
    return f"no word for {seconds:g} seconds."


def _problem(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def tokens_of(reply: dict[str, Any]) -> tuple[int, int] | None:
    """Tokens read and written by the `usage` of a reply or a piece of one; `None` where it says nothing."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return read if isinstance(read, int) else 0, written if isinstance(written, int) else 0
