"""The browsing agent, its engines and its pages, against servers on loopback that answer as the real ones do."""

import gzip
import http.server
import json
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from fpdf import FPDF

from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.scripted import ScriptedModel
from t3_agents.task import Task
from t3_agents.tools.ask_search_agent import AskSearchAgent
from t3_agents.tools.web import pages as web_pages
from t3_agents.tools.web.cache import WebCache
from t3_agents.tools.web.engines import ENGINES, SearchResult
from t3_agents.tools.web.pages import fetch_page, in_time, is_public
from t3_agents.tools.web.search import WebSearchAgent, find_passages
from tests.helpers.tiny_vlm import turn


HILL = """<!doctype html><html><head><title>Blue Hill &amp; its tower</title><style>p {color: red}</style>
<script>document.write("tracking")</script></head><body><h1>Blue Hill</h1>
<p>The tower on Blue Hill is <b>48 metres</b> high. It was built in 1911.</p>
<table><tr><th>year</th><th>visitors</th></tr><tr><td>2020</td><td>1204</td></tr></table>
<a href="/news">News</a></body></html>"""
PAGES = {
    "/hill": (HILL,),
    "/latin": ("<html><head><meta charset='iso-8859-1'></head><p>café</p></html>".encode("latin-1"),),
    "/note.txt": ("plain words", "text/plain; charset=utf-8"),
    "/picture": (b"\x89PNG\r\n\x1a\n\0\0\0", "image/png"),
    "/unnamed": (bytes(range(256)), None),
    "/hostile": ("<html><p>before</p>" + "<div><table><b>" * 50_000 + "<p>&#x0;&bogus; <![CDATA[ </p",),
}
REDIRECTS = {"/loop": "/loop", "/moved": "/hill", "/to-file": "file:///etc/passwd"}


class Site(http.server.BaseHTTPRequestHandler):
    """A small web site with the pages that make trouble, and the four engines with a JSON interface."""

    def do_GET(self):
        parts = urlsplit(self.path)
        self.server.seen.append(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match parts.path:
            case page if page in PAGES:
                self._send(*PAGES[page])
            case page if page in REDIRECTS:
                self._redirect(REDIRECTS[page])
            case "/report.pdf":
                self._send(self.server.pdf, "application/pdf")
            case "/huge":
                self._send("<p>start</p>" + "<p>filling</p>" * 900_000)
            case "/bomb":
                self._send(gzip.compress(b"<p>" + b"a" * 200_000_000), "text/html", encoding="gzip")
            case "/slow":
                time.sleep(3)
                self._send("<p>late</p>")
            case "/drip" | "/drip-headers" | "/drip-status":
                if parts.path != "/drip-status":
                    self.send_response(200)
                    self.flush_headers()
                if parts.path == "/drip":
                    self.end_headers()
                for _ in range(60):
                    try:
                        self.wfile.write(b"x: y\r\n" if parts.path == "/drip-headers" else b"H")
                    except OSError:
                        return
                    time.sleep(0.2)
            case "/cse":
                if query.get("key") != "secret-key" or query.get("cx") != "engine-id":
                    self._send(json.dumps({"error": {"code": 400, "message": "API key not valid."}}), status=400)
                else:
                    item = {"kind": "customsearch#result", "title": "Blue Hill", "link": self.server.url + "/hill"}
                    items = [{**item, "htmlTitle": "<b>Blue</b> Hill", "snippet": "The tower\n on Blue Hill"}]
                    self._send(json.dumps({"kind": "customsearch#search", "items": items}))
            case "/brave":
                if self.headers["X-Subscription-Token"] != "secret-key":
                    self._send(json.dumps({"type": "ErrorResponse", "error": {"status": 422}}), status=422)
                else:
                    page = {"title": "Blue Hill", "url": self.server.url + "/hill", "type": "search_result"}
                    page["description"] = "The <strong>tower</strong> &amp; the hill, 3 &lt; 4"
                    self._send(json.dumps({"type": "search", "web": {"type": "search", "results": [page]}}))
            case "/searxng":
                assert query["format"] == "json"
                row = {"url": self.server.url + "/hill", "title": "Blue Hill", "engines": ["wikipedia"], "score": 1.0}
                rows = [{**row, "content": "The tower"}, {**row, "title": "Second", "content": None}]
                self._send(json.dumps({"query": query["q"], "number_of_results": 2, "results": rows}))
            case _:
                self._send("<p>not here</p>", status=404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body))
        if self.headers["X-API-KEY"] != "secret-key":
            return self._send(json.dumps({"message": "Unauthorized.", "statusCode": 403}), status=403)
        organic = [{"title": "Blue Hill", "link": self.server.url + "/hill", "snippet": "The tower", "position": 1}]
        box = {"snippet": "48 metres", "title": "Height", "link": self.server.url + "/hill"}
        reply = {"searchParameters": body, "answerBox": box, "organic": organic, "credits": 1}
        return self._send(json.dumps(reply))

    def _redirect(self, target):
        self.send_response(302)
        self.send_header("location", target)
        self.send_header("content-length", "0")
        self.end_headers()

    def _send(self, body, content_type="text/html", status=200, encoding=None):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if content_type:
            self.send_header("content-type", content_type)
        if encoding:
            self.send_header("content-encoding", encoding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the client had enough

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="The bridge is 310 metres long.")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.url, server.seen, server.pdf = f"http://127.0.0.1:{server.server_port}", [], bytes(pdf.output())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(server, monkeypatch):
    """The site, with its address allowed."""
    monkeypatch.setenv("T3_ALLOW_PRIVATE", "1")
    server.seen.clear()
    return server


@pytest.fixture
def engine(site, monkeypatch):
    """Use an engine of the site, with these keys."""

    def engine(name, path, **keys):
        monkeypatch.setenv("T3_SEARCH_URL", site.url + path)
        for key, value in keys.items():
            monkeypatch.setenv(key, value)
        return ENGINES[name]()

    return engine


class TestPages:
    def test_html(self, site):
        page = fetch_page(f"{site.url}/hill", 5)
        assert page.url == f"{site.url}/hill" and page.title == "Blue Hill & its tower"
        assert "**48 metres** high" in page.text and "1204" in page.text and "title" not in page.text
        assert "tracking" not in page.text and "color" not in page.text

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("/latin", "café"),
            ("/note.txt", "plain words"),
            ("/report.pdf", "310 metres"),
            ("/moved", "48 metres"),
            ("/hostile", "before"),
        ],
    )
    def test_what_can_be_read(self, site, path, text):
        assert text in fetch_page(site.url + path, 10).text

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/nothing", "404"),
            ("/picture", "no page of text but image/png"),
            ("/unnamed", "no page of text but binary data"),
            ("/loop", "redirects more than 5 times"),
            ("/to-file", "file:///etc/passwd` is no web address"),
        ],
    )
    def test_what_cannot(self, site, path, message):
        with pytest.raises(InputError, match=message):
            fetch_page(site.url + path, 5)

    @pytest.mark.parametrize("path", ["/slow", "/drip", "/drip-headers", "/drip-status"])
    def test_a_slow_page(self, site, path):
        with pytest.raises(InputError, match="did not answer in time"):
            fetch_page(site.url + path, 1)
        begun = time.monotonic()
        with pytest.raises(requests.Timeout):
            in_time(lambda session: session.get(site.url + path, timeout=1), 1, allow_private=True)
        assert time.monotonic() - begun < 10, "the page drips for 12 seconds"

    @pytest.mark.parametrize("path", ["/huge", "/bomb"])
    def test_a_huge_page_is_cut(self, site, path):
        assert 0 < len(fetch_page(site.url + path, 20).text) <= web_pages.MAX_CHARS

    def test_nobody_is_there(self, site):
        with pytest.raises(InputError, match=r"127.0.0.1:9/ cannot be reached \(ConnectionError\)"):
            fetch_page("http://127.0.0.1:9/", 2)

    @pytest.mark.parametrize("url", ["", "hill", "ftp://example.org", "http://", "javascript:alert(1)", "http://[::1"])
    def test_no_web_address(self, url):
        with pytest.raises(InputError, match=r"no web address|cannot be reached"):
            fetch_page(url, 2)


class TestPrivateAddresses:
    """The server would answer; the request must not get there."""

    # `127.1` and `2130706433` are no literal addresses: the system resolves them, as it would any name.
    @pytest.mark.parametrize(
        "host",
        "127.0.0.1 localhost [::ffff:127.0.0.1] 127.1 2130706433 0.0.0.0 0x7f.1 0177.0.0.1 localhost. LOCALHOST "
        "[64:ff9b::127.0.0.1] [2002:7f00:1::] [::7f00:1] \u2460\u2461\u2466.0.0.1".split(),
    )
    def test_refused(self, server, host):
        server.seen.clear()
        with pytest.raises(InputError, match="private address and is not visited"):
            fetch_page(f"http://{host}:{server.server_port}/hill", 3)
        assert server.seen == []

    @pytest.mark.parametrize(
        ("address", "public"),
        [
            ("93.184.216.34", True),
            ("2606:2800:220:1::1", True),
            ("10.0.0.1", False),
            ("192.168.1.1", False),
            ("169.254.169.254", False),
            ("100.64.0.1", False),
            ("224.0.0.1", False),
            ("::1", False),
            ("fe80::1%eth0", False),
            ("fd00::1", False),
            ("2001:db8::1", False),
            *(
                (f"64:ff9b::{ip}", public)
                for ip, public in (("8.8.8.8", True), ("127.0.0.1", False), ("10.0.0.1", False))
            ),
            *(
                (f"::ffff:{ip}", public)
                for ip, public in (("8.8.8.8", True), ("169.254.169.254", False), ("0.0.0.0", False))
            ),
            ("64:ff9b:1::8.8.8.8", False),
            ("64:ff9b:1:a9fe:a9:fe00::", False),
            ("2002:7f00:1::", False),
            ("2002:a9fe:a9fe::1", False),
            ("2001:0:7f00:1::", False),
            ("2001:0:808:808:0:0:80ff:fffe", False),
            ("::127.0.0.1", False),
            ("::8.8.8.8", False),
            ("::ffff:0:127.0.0.1", False),
            ("2606:2800::5efe:127.0.0.1", False),
            ("2606:2800::200:5efe:192.168.1.1", False),
            ("2606:2800::5efe:8.8.8.8", True),
            ("fec0::1", False),
            ("feff::1", False),
            ("::", False),
            ("0.0.0.0", False),
            ("ff02::1", False),
            ("ff0e::1", False),
            ("2606:2800::1%1", False),
            ("240.0.0.1", False),
            ("255.255.255.255", False),
            ("198.18.0.1", False),
        ],
    )
    def test_which_are_public(self, address, public):
        assert is_public(address) is public


class TestEngines:
    def test_serper(self, engine, site):
        found = engine("serper", "/search", SERPER_API_KEY="secret-key").search("blue hill", 5, 3)
        assert [result.title for result in found] == ["Height", "Blue Hill"]
        assert found[1] == SearchResult("Blue Hill", f"{site.url}/hill", "The tower")
        assert site.seen == [("/search", {"q": "blue hill", "num": 5})]

    def test_google_cse(self, engine, site):
        found = engine("google_cse", "/cse", GOOGLE_API_KEY="secret-key", GOOGLE_CSE_ID="engine-id").search("x", 5, 3)
        assert found == [SearchResult("Blue Hill", f"{site.url}/hill", "The tower on Blue Hill")]

    def test_brave(self, engine, site):
        found = engine("brave", "/brave", BRAVE_API_KEY="secret-key").search("blue hill", 5, 3)
        assert found == [SearchResult("Blue Hill", f"{site.url}/hill", "The tower & the hill, 3 < 4")]

    def test_searxng(self, engine):
        found = engine("searxng", "/searxng").search("blue hill", 1, 3)
        assert [(result.title, result.snippet) for result in found] == [("Blue Hill", "The tower")]

    def test_offline(self):
        found = ENGINES["offline"]().search("capital of Norway", 3, 3)
        assert found[0].url == "offline:Norway%20-%20Capital" and "Oslo" in found[0].snippet

    @pytest.mark.parametrize("name", ["serper", "google_cse", "brave", "searxng"])
    def test_a_missing_key(self, name, monkeypatch):
        for key in ENGINES[name].keys:
            monkeypatch.delenv(key, raising=False)
        with pytest.raises(InputError, match=rf"needs a key: set {ENGINES[name].keys[0]}"):
            ENGINES[name]().search("x", 3, 3)

    @pytest.mark.parametrize(
        ("name", "path", "keys", "message"),
        [
            ("serper", "/search", {"SERPER_API_KEY": "wrong-key"}, "status 403"),
            ("google_cse", "/cse", {"GOOGLE_API_KEY": "wrong-key", "GOOGLE_CSE_ID": "e"}, "status 400"),
            ("brave", "/brave", {"BRAVE_API_KEY": "wrong-key"}, "status 422"),
            ("searxng", "/hill", {}, "form that is not understood"),
            ("searxng", "/nothing", {}, "status 404"),
        ],
    )
    def test_failures_hold_no_key(self, engine, name, path, keys, message):
        with pytest.raises(InputError, match=message) as raised:
            engine(name, path, **keys).search("x", 3, 3)
        assert "wrong-key" not in str(raised.value) and raised.value.__cause__ is None

    def test_an_engine_that_is_not_there(self, monkeypatch):
        monkeypatch.setenv("T3_SEARCH_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("GOOGLE_API_KEY", "secret-key")
        monkeypatch.setenv("GOOGLE_CSE_ID", "engine-id")
        with pytest.raises(InputError, match=r"cannot be reached \(ConnectionError\)") as raised:
            ENGINES["google_cse"]().search("x", 3, 2)
        assert "secret-key" not in str(raised.value)


class TestCache:
    def test_kept_and_repeated(self, tmp_path):
        assert WebCache(tmp_path).get(("page", "u"), lambda: [1, "ü"]) == [1, "ü"]
        assert WebCache(tmp_path, cache_only=True).get(("page", "u"), dict) == [1, "ü"]
        assert [path.suffix for path in tmp_path.iterdir()] == [".json"]

    def test_what_is_not_kept(self, tmp_path):
        with pytest.raises(InputError, match="'u' is not in the cache"):
            WebCache(tmp_path, cache_only=True).get(("page", "u"), lambda: 1)
        with pytest.raises(ZeroDivisionError):
            WebCache(tmp_path).get(("page", "u"), lambda: 1 / 0)
        assert not list(tmp_path.iterdir())

    def test_age(self, tmp_path):
        WebCache(tmp_path).get(("page", "u"), lambda: 1)
        assert WebCache(tmp_path, max_age=0).get(("page", "u"), lambda: 2) == 2
        assert WebCache(tmp_path, max_age=0, cache_only=True).get(("page", "u"), lambda: 3) == 2

    def test_a_clock_that_was_set_back(self, tmp_path):
        WebCache(tmp_path).get(("page", "u"), lambda: 1)
        path = next(tmp_path.iterdir())
        entry = json.loads(path.read_text())
        path.write_text(json.dumps({**entry, "created": entry["created"] + 3600}))
        assert WebCache(tmp_path).get(("page", "u"), lambda: 2) == 2
        assert WebCache(tmp_path).get(("page", "u"), lambda: 3) == 2

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "t3-web/1"}', '{"value": 5, "created": 9e9}'])
    def test_a_broken_entry_is_fetched_again(self, tmp_path, content):
        WebCache(tmp_path).get(("page", "u"), lambda: 1)
        next(tmp_path.iterdir()).write_text(content)
        assert WebCache(tmp_path).get(("page", "u"), lambda: 2) == 2
        assert WebCache(tmp_path, cache_only=True).get(("page", "u"), lambda: 3) == 2


def make_tool(tmp_path, *turns, **settings):
    tool = WebSearchAgent(**{"engine": "searxng", "cache": str(tmp_path / "web"), **settings})
    T3Agent([tool], ScriptedModel(list(turns)))
    return tool


class TestAgent:
    def script(self, site):
        return [
            turn("print(web_search('height of the tower'))"),
            turn(f"print(visit_page('{site.url}/hill'))"),
            turn(f"print(find_on_page('{site.url}/hill', 'built'))"),
            turn("final_answer('The tower is 48 metres high [1].')"),
        ]

    def test_an_answer_with_its_source(self, site, engine, tmp_path):
        engine("searxng", "/searxng")
        answer = make_tool(tmp_path, *self.script(site))("How high is the tower on Blue Hill?")
        assert answer == (f"The tower is 48 metres high [1].\nSources:\n[1] Blue Hill & its tower - {site.url}/hill")
        assert [path.split("?")[0] for path in site.seen] == ["/searxng", "/hill"]

    def test_repeated_without_the_web(self, site, engine, tmp_path):
        engine("searxng", "/searxng")
        script = [*self.script(site)[:2], turn(f"print(visit_page('{site.url}/nothing'))"), turn("final_answer('?')")]
        seen = []
        for cache_only in (False, True):
            tool = make_tool(tmp_path, *script, cache_only=cache_only)
            tool.controller = Listening(script)
            answer = tool("How high is the tower?")
            seen.append((answer, tool.controller.observations))
            if not cache_only:
                site.seen.clear()
        assert site.seen == [] and seen[0] == seen[1] and "404" in seen[1][1]

    def test_the_offline_corpus(self, tmp_path):
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "zoo.txt").write_text("The zoo keeps four okapis.")
        turns = [turn("print(web_search('okapis in the zoo'))"), turn("print(visit_page('offline:zoo'))")]
        turns += [turn("final_answer('Four [1].')")]
        tool = make_tool(tmp_path, *turns, engine="offline", corpus=str(tmp_path / "corpus"), cache_only=True)
        assert tool("How many okapis?") == "Four [1].\nSources:\n[1] zoo (zoo.txt) - offline:zoo"

    def test_limits(self, site, tmp_path):
        visits = [turn(f"print(visit_page('{site.url}{path}'))") for path in ("/hill", "/note.txt", "/latin")]
        tool = make_tool(tmp_path, *visits, "It is 48 metres [1]. " * 50, max_steps=3, max_pages=2, max_chars=80)
        answer, sources = tool("How high?").split("\nSources:\n")
        assert len(answer) < 130 and answer.startswith("It is 48 metres [1].")
        assert sources == f"[1] Blue Hill & its tower - {site.url}/hill" and "/latin" not in site.seen

    def test_time_is_up(self, site, tmp_path):
        tool = make_tool(
            tmp_path, turn(f"print(visit_page('{site.url}/slow'))"), *["Nothing is known."] * 9, max_seconds=1
        )
        assert tool("How high?") == "Nothing is known.\nSources: no page was visited."

    def test_the_caller_is_an_agent(self, site, engine, tmp_path):
        engine("searxng", "/searxng")
        outer = [turn("answer = ask_search_agent(query='How high is it?')\nprint(answer)"), turn("final_answer('48')")]
        tool = make_tool(tmp_path)
        agent = T3Agent([tool], ScriptedModel([outer[0], *self.script(site), outer[1]]), prompt="compact")
        trajectory = agent.run_task(Task.create("How high is the tower?"))
        assert trajectory.answer == "48" and "Sources:\n[1]" in trajectory.actions[0].observation

    def test_without_a_model(self):
        with pytest.raises(InputError, match="belongs to no agent"):
            WebSearchAgent()("How high?")

    def test_bad_input(self, tmp_path):
        with pytest.raises(InputError, match="no search engine `altavista`"):
            WebSearchAgent(engine="altavista")
        with pytest.raises(InputError, match="must be a question"):
            make_tool(tmp_path)(" ")

    def test_it_is_called_like_the_offline_tool(self):
        assert WebSearchAgent.name == AskSearchAgent.name and WebSearchAgent.output_type == AskSearchAgent.output_type
        assert set(WebSearchAgent.inputs) == set(AskSearchAgent.inputs)


class Listening(ScriptedModel):
    """A script that notes the last conversation it was shown."""

    def generate(self, messages, stop_sequences=None, **kwargs):
        self.observations = "\n".join(part.get("text", "") for m in messages for part in m.content)
        return super().generate(messages, stop_sequences, **kwargs)


def test_finding_on_a_page():
    text = "Alpha beta.\n\nThe tower is high.\n" + "filler words here\n" * 100 + "A tower of cards, high and thin."
    assert [passage for _, passage in find_passages(text, "TOWER IS")] and find_passages(text, "zebra") == []
    assert find_passages(text, "high tower")[0][1] == "The tower is high."
    assert find_passages(text, "") == [] and len(find_passages("tower " * 1000, "tower")) == 5


@pytest.mark.parametrize("piece", ["<title ", "<head ", "<title>", "<meta charset=", "</"])
def test_no_search_goes_back(piece):
    web_pages._split_html("<html>" + piece * 500_000)  # what goes back for each piece would take hours
