"""The tool `ask_search_agent` with a browsing agent of its own: it searches, reads pages and cites them."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import unquote

from smolagents import Tool

from t3_agents.errors import InputError
from t3_agents.hub.wheel_weights import cache_dir
from t3_agents.task import Task
from t3_agents.workspace import Workspace

from ..ask_search_agent import AskSearchAgent
from ..base import WorkspaceTool
from ..hub_models.shared_models import CONTROLLER, ask, choose_model
from ..local.corpus import shared_index
from ..local.text import content_words, shorten
from .cache import WebCache
from .engines import ENGINES, OFFLINE, SearchResult, check_engine
from .pages import NoPageError, Page, fetch_page


_RESULTS = 8
_PAGE_CHARS = 6000
_REQUEST_SECONDS = 15
_EXCERPT = 300


class WebSearchAgent(WorkspaceTool):
    """An agent that searches the web, visits pages and answers with numbered sources.

    It is spawned by the agent that has this tool, in a workspace of its own, so its controller writes code turns like
    that of its caller. The code runs in the sandbox, since what stands on a page may be meant to mislead a model.

    Args:
        engine (`str`, *optional*, defaults to `"ddgs"`): `ddgs` (needs no key), `serper`, `google_cse`, `brave`,
            `searxng`, or `offline`, which searches the CIA World Factbook and `corpus`. Keys and addresses come from
            the environment, see [`web_engines`].
        model (`str`, *optional*, defaults to `"controller"`): what drives it: the model of the agent that uses this
            tool, or Hub id, folder or name at an endpoint, see [`~shared_models.choose_model`].
        api_base (`str`, *optional*): URL of an OpenAI-compatible server.
        corpus (`str`, *optional*): a folder of .txt and .md files for the offline engine.
        max_steps (`int`, *optional*, defaults to 8): steps of the browsing agent.
        max_pages (`int`, *optional*, defaults to 5): pages it may visit.
        max_seconds (`float`, *optional*, defaults to 50): for one question, looked at between steps and at every
            request. The `code_time_limit` of the calling agent must be longer.
        max_chars (`int`, *optional*, defaults to 3000): longest answer without its sources, in characters.
        cache (`str`, *optional*): folder of what was fetched; `web` in the cache folder of the package by default.
        max_age (`float`, *optional*, defaults to 86400): seconds after which something is fetched again.
        cache_only (`bool`, *optional*, defaults to `False`): repeat an earlier run: fetch nothing.
    """

    name = AskSearchAgent.name
    description = "Asks an agent that searches the web and reads pages; returns its answer with numbered sources."
    inputs = {"query": {"type": "string", "description": "the question, as a whole sentence with all context"}}

    engine: str = "ddgs"
    model: str = CONTROLLER
    api_base: str | None = None
    corpus: str | None = None
    max_steps: int = 8
    max_pages: int = 5
    max_seconds: float = 50
    max_chars: int = 3000
    cache: str | None = None
    max_age: float = 86400
    cache_only: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_engine(self.engine)

    def forward(self, query: str) -> str:
        if not isinstance(query, str) or not query.strip():
            raise InputError("`query` must be a question to search for.")
        if self.spawn is None:
            raise InputError("This tool starts an agent and belongs to no agent: give it to one.")
        model = choose_model(self.controller, self.model, self.api_base)
        browser = Browser(self)
        with Workspace() as workspace:
            agent = self.spawn(
                tools=[WebSearch(browser), VisitPage(browser), FindOnPage(browser)],
                model=model,
                prompt="search",
                max_steps=self.max_steps,
                time_limit=self.max_seconds,
                code_time_limit=self.max_seconds,
                max_observation_length=_PAGE_CHARS + 1000,
            )
            answer = agent.run_task(Task.create(query.strip()), workspace).answer
        if not answer:
            answer = ask(model, browser.last_question(query))
        return f"{shorten(answer, self.max_chars)}\n{browser.sources(answer)}"


class Browser:
    """What one question may fetch and has fetched.

    Args:
        settings ([`WebSearchAgent`]): the tool that browses.
    """

    def __init__(self, settings: WebSearchAgent):
        self._settings = settings
        self._engine = ENGINES[settings.engine](settings.corpus)
        folder = settings.cache or cache_dir() / "web"
        self._cache = WebCache(folder, settings.max_age, settings.cache_only)
        self._deadline = time.monotonic() + settings.max_seconds
        self.pages: list[Page] = []
        self.results: list[SearchResult] = []
        self._numbers: dict[str, int] = {}

    def search(self, query: str) -> list[SearchResult]:
        """Results of the engine, from the cache where they are kept."""
        if not isinstance(query, str) or not query.strip():
            raise InputError("`query` must be a few words to search for.")
        query = " ".join(query.split())
        if self._settings.engine == "offline":
            found = self._engine.search(query, _RESULTS, self._seconds())
        else:
            key = ("search", self._settings.engine, str(_RESULTS), query)
            rows = self._cache.get(key, lambda: self._engine.search(query, _RESULTS, self._seconds()))
            found = [SearchResult(*row) for row in rows]
        self.results += [result for result in found if result not in self.results]
        return found

    def visit(self, url: str) -> tuple[int, Page]:
        """A page and its number among the visited ones."""
        url = str(url).strip()
        if url not in self._numbers:
            if len(self.pages) >= self._settings.max_pages:
                raise InputError(
                    f"{self._settings.max_pages} pages were visited and no more may be: answer from these."
                )
            page = self._offline_page(url) if url.startswith(OFFLINE) else self._web_page(url)
            self.pages.append(page)
            self._numbers[url] = len(self.pages)
        return self._numbers[url], self.pages[self._numbers[url] - 1]

    def _web_page(self, url: str) -> Page:
        def fetch() -> dict[str, Any]:
            try:
                return {"page": fetch_page(url, self._seconds())}
            except NoPageError as error:
                return {"error": str(error)}

        found = self._cache.get(("page", url), fetch)
        if "error" in found:
            raise InputError(found["error"])
        return Page(*found["page"])

    def _offline_page(self, url: str) -> Page:
        title = unquote(url.removeprefix(OFFLINE))
        passages = [passage for passage in shared_index(self._settings.corpus).passages if passage.title == title]
        if not passages:
            raise InputError(f"`{url}` is not in the corpus: use a URL of a search result.")
        return Page(url, f"{title} ({passages[0].source})", "\n\n".join(passage.text for passage in passages))

    def _seconds(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise InputError("The time for this question is used up: answer with final_answer now.")
        return min(left, _REQUEST_SECONDS)

    def last_question(self, query: str) -> str:
        """One prompt with all that was found, for the time when the steps are used up."""
        notes = [f"[{number}] {page.title}\n{page.text[:2000]}" for number, page in enumerate(self.pages, start=1)]
        notes += [f"{result.title}: {result.snippet}" for result in self.results[:_RESULTS]]
        found = "\n\n".join(notes) or "Nothing was found."
        return (
            f"{found}\n\nAnswer this question in one paragraph from the notes above, with the numbers of the pages in "
            f"square brackets; say so if they do not answer it. Question: {query}"
        )

    def sources(self, answer: str) -> str:
        """The visited pages that an answer cites, all of them if it cites none."""
        cited = {
            int(number) for group in re.findall(r"\[([\d,\s]+)\]", answer) for number in re.findall(r"\d+", group)
        }
        visited = range(1, len(self.pages) + 1)
        numbers = [number for number in visited if number in cited] or list(visited)
        if not numbers:
            return "Sources: no page was visited" + (", only search results were seen." if self.results else ".")
        pages = [(number, self.pages[number - 1]) for number in numbers]
        return "\n".join(["Sources:", *(f"[{number}] {page.title} - {page.url}" for number, page in pages)])


class _BrowserTool(Tool):
    output_type = "string"

    def __init__(self, browser: Browser):
        super().__init__()
        self.browser = browser


class WebSearch(_BrowserTool):
    """Searches with the engine of a [`Browser`]."""

    name = "web_search"
    description = "Searches; returns titles, URLs and snippets."
    inputs = {"query": {"type": "string", "description": "a few words to search for"}}

    def forward(self, query: str) -> str:
        results = self.browser.search(query)
        if not results:
            return f"Nothing was found for `{query}`: use fewer or other words."
        return "\n".join(f"- {result.title}\n  {result.url}\n  {result.snippet}" for result in results)


class VisitPage(_BrowserTool):
    """Reads a page, a part at a time."""

    name = "visit_page"
    description = f"Reads a web page or pdf; returns {_PAGE_CHARS} characters of its text from position `start`."
    inputs = {
        "url": {"type": "string", "description": "URL of the page"},
        "start": {"type": "integer", "description": "first character, 0 by default", "nullable": True},
    }

    def forward(self, url: str, start: int | None = 0) -> str:
        number, page = self.browser.visit(url)
        start = max(0, int(start or 0))
        text = page.text[start : start + _PAGE_CHARS]
        rest = len(page.text) - start - len(text)
        more = f"\n[{rest} more characters: visit_page(url, start={start + len(text)})]" if rest > 0 else ""
        return f"[{number}] {page.title}\n{text or '(no text here)'}{more}"


class FindOnPage(_BrowserTool):
    """Finds words on a page."""

    name = "find_on_page"
    description = "Finds words on a web page or pdf; returns the passages that hold most of them."
    inputs = {
        "url": {"type": "string", "description": "URL of the page"},
        "words": {"type": "string", "description": "what to look for"},
    }

    def forward(self, url: str, words: str) -> str:
        number, page = self.browser.visit(url)
        passages = find_passages(page.text, str(words))
        if not passages:
            return f"[{number}] {page.title}\n`{words}` is not on this page."
        return "\n".join([f"[{number}] {page.title}", *(f"at {at}: {text}" for at, text in passages)])


def find_passages(text: str, words: str, limit: int = 5) -> list[tuple[int, str]]:
    """Positions and texts of the pieces that hold a phrase, else of those that share most words with it.

    Args:
        text (`str`): the page.
        words (`str`): what to look for.
        limit (`int`, *optional*, defaults to 5): number of pieces.
    """
    half = _EXCERPT // 2
    phrase = words.strip()
    places = [match.start() for match in re.finditer(re.escape(phrase), text, re.IGNORECASE)] if phrase else []
    if places:
        apart: list[int] = []
        for at in places:
            if len(apart) < limit and (not apart or at - apart[-1] > _EXCERPT):
                apart.append(at)
        return [(at, " ".join(text[max(0, at - half) : at + half].split())) for at in apart]
    wanted = content_words(words)
    pieces = [(match.start(), match.group()) for match in re.finditer(r"[^\n]{1,600}", text)]
    scored = [(len(wanted & content_words(piece)), at, piece) for at, piece in pieces]
    best = sorted((row for row in scored if row[0]), key=lambda row: (-row[0], row[1]))[:limit]
    return [(at, shorten(" ".join(piece.split()), 2 * _EXCERPT)) for _, at, piece in best]
