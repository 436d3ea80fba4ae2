"""Calls to an OpenAI-compatible endpoint from many threads, as many at a time as it bears."""

from __future__ import annotations

import json
import random
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from t3_agents.errors import InputError, T3Error
from t3_agents.interruption import Interruption, current_interruption


BUSY = {408, 425, 429, 500, 502, 503, 504, 529}
"""Statuses after which a call is repeated; so it is after others from 500 on."""
MAX_PAUSE = 60.0
"""Longest pause before a call is repeated, seconds, also where the server asks for more."""
CONNECT_SECONDS = 20.0
"""How long a connection may take to be made."""


class TeacherError(T3Error):
    """A teacher did not do its part for reasons of transport, or refuses this request.

    Args:
        reason (`str`): in one sentence.
        outage (`bool`): nobody got an answer while this call was tried, so the endpoint is down rather than the
            request wrong.
    """

    def __init__(self, reason: str, outage: bool = False):
        super().__init__(reason)
        self.outage = outage


class RefusedRequest(TeacherError):
    """The server says that this request is wrong; repeating it would not help."""


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
        api_key (`str`, *optional*): key.
        timeout (`float`, *optional*, defaults to 300): seconds without a word from the server before a call fails.
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
        timeout: float = 300.0,
        max_concurrency: int = 16,
        max_retries: int = 8,
        first_pause: float = 0.5,
    ):
        if not api_base.startswith(("http://", "https://")):
            raise InputError(f"`{api_base}` is no URL of an endpoint: give one such as http://localhost:8000/v1.")
        self.api_base = api_base.rstrip("/")
        self.timeout = timeout
        self.max_retries = max_retries
        self.first_pause = first_pause
        self.limit = Limit(max_concurrency)
        self.successes = 0
        self._closed = threading.Event()
        self._headers = {"Content-Type": "application/json"}
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
            TeacherError: when it fails after all repetitions.
            InterruptedTurn: when the run in this thread is cancelled or out of time.
        """
        body = json.dumps(request, ensure_ascii=False).encode(errors="replace")
        successes, problem = self.successes, ""
        interruption = current_interruption() or Interruption()
        for attempt in range(self.max_retries + 1):
            self.limit.enter(interruption)
            begun = time.monotonic()
            try:
                reply, problem, pause = self._send(path, body, begun, interruption)
            finally:
                self.limit.leave()
            if reply is not None:
                self.successes += 1
                self.limit.succeeded()
                return reply, attempt + 1
            if attempt < self.max_retries:
                pause = max(pause, self.first_pause * 2**attempt * random.uniform(0.5, 1.0))
                self._rest(min(pause, MAX_PAUSE), interruption)
        raise TeacherError(
            f"The endpoint failed {self.max_retries + 1} times: {problem}", outage=self.successes == successes
        )

    def _send(
        self, path: str, body: bytes, begun: float, interruption: Interruption
    ) -> tuple[dict[str, Any] | None, str, float]:
        """The reply, or what was wrong and the pause that the server asks for."""
        left = interruption.seconds_left()
        timeout = self.timeout if left is None else min(self.timeout, left)
        try:
            response = self._pool.request(
                "POST",
                f"{self.api_base}/{path}",
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(connect=min(timeout, CONNECT_SECONDS), read=timeout),
                retries=False,
            )
        except urllib3.exceptions.ReadTimeoutError:
            interruption.check()
            self.limit.overloaded(begun)
            return None, f"no word for {timeout:g} seconds.", 0.0
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            self.limit.overloaded(begun)
            return None, "no connection.", 0.0
        except urllib3.exceptions.HTTPError as error:
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", 0.0
        if response.status in BUSY or response.status >= 500:
            pause = _retry_after(response)
            if response.status in (408, 429, 503, 529):
                self.limit.overloaded(begun, pause)
            return None, f"status {response.status}. {_words(response)}", pause
        if response.status in (401, 404):
            raise WrongEndpoint(
                f"{self.api_base} refuses with status {response.status}: check the URL, OPENAI_API_KEY and the "
                f"model's name. {_words(response)}"
            )
        if response.status != 200:
            raise RefusedRequest(f"The endpoint refuses the request ({response.status}): {_words(response)}")
        try:
            reply = json.loads(response.data)
        except ValueError:
            return None, "the reply is not JSON.", 0.0
        if not isinstance(reply, dict) or reply.get("error"):
            return None, f"the reply is an error: {str(reply)[:200]}", 0.0
        return reply, "", 0.0

    def _rest(self, seconds: float, interruption: Interruption) -> None:
        left = interruption.seconds_left()
        self._closed.wait(seconds if left is None else min(seconds, left))
        interruption.check()
        if self._closed.is_set():
            raise TeacherError("The connection was closed.", outage=True)

    def close(self) -> None:
        """End the pauses of calls that are to be repeated, and the connections."""
        self._closed.set()
        self._pool.clear()


def _pool_for(url: str, size: int) -> urllib3.PoolManager:
    """Connections to a server, through the environment's proxy where there is one for it."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=size)
    return urllib3.PoolManager(maxsize=size)


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3); a date counts from the server's own clock."""
    value = response.headers.get("retry-after", "")
    try:
        return min(MAX_PAUSE, max(0.0, float(value)))
    except ValueError:
        pass
    try:
        then, now = (parsedate_to_datetime(response.headers[name]) for name in ("retry-after", "date"))
        return min(MAX_PAUSE, max(0.0, (then - now).total_seconds()))
    except (KeyError, ValueError, TypeError):
        return 0.0


def _words(response: urllib3.BaseHTTPResponse) -> str:
    return " ".join(response.data[:2000].decode(errors="replace").split())[:300]
