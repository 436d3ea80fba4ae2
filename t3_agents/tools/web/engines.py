"""Search engines: each turns a query into a list of titles, URLs and snippets.

Keys and addresses come from environment variables only, so that they are never saved with an agent and a downloaded
agent cannot send a key elsewhere. `T3_SEARCH_URL` replaces the address of an engine (a proxy, say).
"""

from __future__ import annotations

import html
import os
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from t3_agents.errors import InputError, needs_extra

from ..ask_search_agent import find_passages
from ..local.corpus import best_sentences
from .pages import in_time


class SearchResult(NamedTuple):
    """One line of a list of results.

    Args:
        title (`str`), url (`str`): of the page.
        snippet (`str`): what the engine shows of it, without markup.
    """

    title: str
    url: str
    snippet: str


class Engine(ABC):
    """A search engine.

    Args:
        corpus (`str`, *optional*): a folder of texts, for the offline engine.
    """

    keys: ClassVar[tuple[str, ...]] = ()
    """Environment variables that must be set."""

    def __init__(self, corpus: str | None = None):
        self.corpus = corpus

    @abstractmethod
    def search(self, query: str, limit: int, seconds: float) -> list[SearchResult]:
        """The best results first.

        Args:
            query (`str`): what to search for.
            limit (`int`): how many results.
            seconds (`float`): how long to wait for the engine.

        Raises:
            InputError: when a key is missing or the engine fails; no message holds a key.
        """


class HttpEngine(Engine):
    """An engine with a JSON interface over HTTP."""

    url: ClassVar[str]

    @abstractmethod
    def request(self, query: str, limit: int) -> dict[str, Any]:
        """Keyword arguments of `requests.request`, without the URL."""

    @abstractmethod
    def results(self, reply: dict[str, Any]) -> list[SearchResult]:
        """Results of a reply."""

    def search(self, query: str, limit: int, seconds: float) -> list[SearchResult]:
        import requests

        name = type(self).__name__
        missing = [key for key in self.keys if not os.environ.get(key)]
        if missing:
            raise InputError(f"The search engine {name} needs a key: set {' and '.join(missing)} in the environment.")
        # The text of these errors may hold the URL with the key in it.
        try:
            address = os.environ.get("T3_SEARCH_URL") or self.url
            settings = {"url": address, "timeout": seconds, **self.request(query, limit)}
            reply = in_time(lambda session: session.request(**settings), seconds, allow_private=True)
        except requests.RequestException as error:
            raise InputError(f"The search engine {name} cannot be reached ({type(error).__name__}).") from None
        if reply.status_code != 200:
            reason = _STATUS.get(reply.status_code, "it failed")
            raise InputError(f"The search engine {name} gave no results: {reason} (status {reply.status_code}).")
        try:
            found = self.results(reply.json())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"The search engine {name} answered in a form that is not understood.") from None
        return [SearchResult(_plain(r.title), r.url, _plain(r.snippet)) for r in found][:limit]


_STATUS = {
    400: "it did not understand the query or the key",
    401: "the key is not valid",
    403: "the key is not valid, or this interface is switched off",
    429: "too many searches, wait or use another engine",
}


class Serper(HttpEngine):
    """Google results by serper.dev (https://serper.dev)."""

    keys = ("SERPER_API_KEY",)
    url = "https://google.serper.dev/search"

    def request(self, query: str, limit: int) -> dict[str, Any]:
        key = os.environ["SERPER_API_KEY"]
        return {"method": "POST", "headers": {"X-API-KEY": key}, "json": {"q": query, "num": limit}}

    def results(self, reply: dict[str, Any]) -> list[SearchResult]:
        found = [SearchResult(r["title"], r["link"], r.get("snippet", "")) for r in reply.get("organic", [])]
        box = reply.get("answerBox", {})
        answer = box.get("answer") or box.get("snippet")
        return [SearchResult(box.get("title", "Answer"), box.get("link", ""), answer), *found] if answer else found


class GoogleCse(HttpEngine):
    """Google's programmable search (https://developers.google.com/custom-search/v1/reference/rest/v1/cse/list)."""

    keys = ("GOOGLE_API_KEY", "GOOGLE_CSE_ID")
    url = "https://www.googleapis.com/customsearch/v1"

    def request(self, query: str, limit: int) -> dict[str, Any]:
        key, engine = (os.environ[name] for name in self.keys)
        return {"method": "GET", "params": {"key": key, "cx": engine, "q": query, "num": min(limit, 10)}}

    def results(self, reply: dict[str, Any]) -> list[SearchResult]:
        return [SearchResult(r["title"], r["link"], r.get("snippet", "")) for r in reply.get("items", [])]


class Brave(HttpEngine):
    """Brave Search (https://api-dashboard.search.brave.com/app/documentation)."""

    keys = ("BRAVE_API_KEY",)
    url = "https://api.search.brave.com/res/v1/web/search"

    def request(self, query: str, limit: int) -> dict[str, Any]:
        headers = {"X-Subscription-Token": os.environ["BRAVE_API_KEY"], "Accept": "application/json"}
        return {"method": "GET", "headers": headers, "params": {"q": query, "count": min(limit, 20)}}

    def results(self, reply: dict[str, Any]) -> list[SearchResult]:
        found = reply.get("web", {}).get("results", [])
        return [SearchResult(r["title"], r["url"], r.get("description", "")) for r in found]


class Searxng(HttpEngine):
    """A SearXNG server with `json` among its formats (https://docs.searxng.org/dev/search_api.html)."""

    keys = ("T3_SEARCH_URL",)

    def request(self, query: str, limit: int) -> dict[str, Any]:
        return {"method": "GET", "params": {"q": query, "format": "json"}}

    def results(self, reply: dict[str, Any]) -> list[SearchResult]:
        return [SearchResult(r["title"], r["url"], r.get("content") or "") for r in reply["results"]]


class Ddgs(Engine):
    """Several engines without a key, by the `ddgs` package."""

    def search(self, query: str, limit: int, seconds: float) -> list[SearchResult]:
        import requests

        with needs_extra("ddgs", "search", "Searching the web without a key"):
            from ddgs import DDGS
            from ddgs.exceptions import DDGSException
        try:
            client = DDGS(timeout=max(1, int(seconds)))
            found = in_time(lambda _: client.text(query, max_results=limit), seconds, allow_private=True)
        except (DDGSException, requests.Timeout) as error:
            if "No results" in str(error):
                return []
            raise InputError(f"The search engine Ddgs failed ({type(error).__name__}); try again later.") from None
        return [SearchResult(r["title"], r["href"], r["body"]) for r in found]


class Offline(Engine):
    """BM25 over the CIA World Factbook and a folder of texts; its URLs are `offline:TITLE`."""

    def search(self, query: str, limit: int, seconds: float) -> list[SearchResult]:
        found, words = find_passages(query, self.corpus)
        rows = [(p.title, OFFLINE + quote(p.title), best_sentences(p, words, 300)) for p in found]
        return [SearchResult(*row) for row in dict.fromkeys(rows)][:limit]


OFFLINE = "offline:"
ENGINES: dict[str, type[Engine]] = {
    "ddgs": Ddgs,
    "serper": Serper,
    "google_cse": GoogleCse,
    "brave": Brave,
    "searxng": Searxng,
    "offline": Offline,
}


def check_engine(name: str) -> None:
    """
    Raises:
        InputError: when there is no such engine.
    """
    if name not in ENGINES:
        raise InputError(f"There is no search engine `{name}`; choose one of: {', '.join(ENGINES)}.")


def _plain(text: str) -> str:
    """A snippet without its markup."""
    return " ".join(html.unescape(re.sub(r"</?[a-zA-Z][^>]*>", "", text)).split())
