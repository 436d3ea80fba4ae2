import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from t3_agents.evaluation.results import Attempt, ScoredRun, read_results, read_scores, write_results
from t3_agents.reports.page import MAX_TEXT, SIDES, html_page, markdown_page, read_runs, render_page, write_report
from t3_agents.reports.plots import Plot, Series, draw_bars
from t3_agents.reports.tables import Table
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from tests.helpers.evaluated_run import HOSTILE, make_run


VOID = {"meta", "link", "img", "input", "br", "hr", "path", "circle", "rect", "line"}


class Page(HTMLParser):
    """Elements of a page with their attributes and text, after checking that tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        element = {"tag": tag, "attrs": dict(attrs), "text": ""}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": ""})

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run in which every text is hostile, with one picture per two tasks and one drawing per task."""
    folder = tmp_path_factory.mktemp("runs")
    run = make_run(folder / "run", [True, False, True], name=HOSTILE, words=HOSTILE, output=HOSTILE)
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    for row in rows:
        row["task"]["ground_truth"] = HOSTILE
        row["answer"] = f"{HOSTILE}\ud800"
        row["steps"][0].update(thought=HOSTILE, error=HOSTILE, tools=[HOSTILE])
        row["provenance"]["failure"] = HOSTILE
    (run / "trajectories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = {"error_type": HOSTILE, "reason": HOSTILE, "groups": {HOSTILE: HOSTILE}}
    write_results(run, read_results(run), [replace(score, **texts) for score in read_scores(run)])
    return run


@pytest.fixture(scope="module")
def page(hostile):
    return Page(write_report(hostile).html.read_bytes().decode())


def test_the_page_asks_nothing_of_any_server(page):
    for element in page.elements:
        for name, value in element["attrs"].items():
            assert not name.startswith("on") and name != "style", element
            if name in ("src", "href", "action", "srcset", "data", "poster", "formaction"):
                assert value.startswith(("data:image/", "#")) or value == "data:,", element
    assert not page.all("iframe", "object", "embed", "form", "base")


def test_the_policy_allows_exactly_the_style_and_the_script(page):
    (policy,) = [e["attrs"]["content"] for e in page.all("meta") if "http-equiv" in e["attrs"]]
    (style,), (script,) = page.all("style"), page.all("script")
    for kind, element in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(element["text"].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_hostile_text_is_shown_as_it_is(page):
    seen = HOSTILE.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066")
    seen = seen.replace("\x00", "\\u0000").replace("\x1b", "\\u001b")
    blocks = [element["text"] for element in page.all("code")]
    assert blocks.count(seen) >= 6, "known answer, thought, error and failure of every task"
    assert f"{seen}\\ud800" in blocks
    assert seen in [element["text"] for element in page.all("option", "h1", "td", "span")]


def test_a_document_shows_hostile_text_as_it_is():
    pytest.importorskip("matplotlib")
    plot = Plot("bars.png", HOSTILE, draw_bars({HOSTILE: ([HOSTILE], [Series(HOSTILE, [1.0], texts=["1"])])}, "share"))
    table = Table(HOSTILE, [HOSTILE], [[HOSTILE], [HOSTILE]], right=1)
    sections = {"": [HOSTILE], HOSTILE: [None, table, plot], "left out": [None]}
    page = Page(html_page(HOSTILE, sections))
    assert not page.all("script", "a") and "left out" not in html_page(HOSTILE, sections)
    assert "script-src 'none'" in page.all("meta")[1]["attrs"]["content"]
    for tag, number in (("h1", 1), ("h2", 1), ("p", 1), ("caption", 1), ("th", 3)):
        assert [e["text"].startswith("</code></pre></script><script>") for e in page.all(tag)] == [True] * number
    assert [image["attrs"]["src"][:22] for image in page.all("img")] == ["data:image/png;base64,"]
    blocks = MarkdownIt("commonmark").enable("table").parse(markdown_page(HOSTILE, sections))
    tokens = [token for block in blocks for token in (block, *(block.children or ()))]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline", "link_open")]
    assert [token.attrGet("src") for token in tokens if token.type == "image"] == ["bars.png"]


def test_headings_go_down_one_level_at_a_time(page):
    levels = [int(element["tag"][1]) for element in page.elements if re.fullmatch("h[1-6]", element["tag"])]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_everything_has_a_name_and_ids_are_single(page):
    ids = [element["attrs"]["id"] for element in page.elements if "id" in element["attrs"]]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        if element["attrs"].get("href", "").startswith("#"):
            assert element["attrs"]["href"][1:] in ids
    assert all(image["attrs"]["alt"] for image in page.all("img"))
    assert page.elements[0]["attrs"]["lang"] == "en"
    labeled = [element["text"].strip().split()[0] for element in page.all("label")]
    assert labeled == ["outcome", "error", "text"]


def test_equal_pictures_are_kept_once(page):
    images = page.all("img")
    # Tasks 0 and 1 have the same photograph.
    assert len(images) == 6
    assert len([image for image in images if "src" in image["attrs"]]) == 5
    (copy,) = [image for image in images if "src" not in image["attrs"]]
    assert copy["attrs"]["data-copy-of"] == images[0]["attrs"]["id"]


def noise(number, size=(900, 600)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def run_of(number, observation="", picture=None):
    attempts = []
    for index in range(number):
        files = () if picture is None else (File.from_bytes(picture(index), "files/noise.png"),)
        task = Task(id=f"task-{index}", query=f"Question {index}", files=files)
        step = Step(thought="Look.", code="look()", observation=observation)
        attempts.append(Attempt(Trajectory(task=task, steps=[step], images=list(files))))
    return ScoredRun("run", attempts)


def test_pictures_shrink_to_the_budget_and_what_is_left_out_is_said():
    whole = render_page([run_of(3, picture=noise)])
    assert f"at most {SIDES[0]} pixels" in whole and "left out" not in whole
    width, height = re.search(r'width="(\d+)" height="(\d+)"', whole).groups()
    assert (int(width), int(height)) == (800, 533)
    budget = 150_000
    small = render_page([run_of(3, picture=noise)], max_bytes=budget)
    shown = re.findall(r"data:image/\w+;base64,([\w+/=]+)", small)
    assert len(shown) == 3 and sum(len(base64.b64decode(data)) for data in shown) <= budget
    assert f"at most {SIDES[0]} pixels" not in small
    tiny = render_page([run_of(3, picture=noise)], max_bytes=20_000)
    left_out = tiny.count("(left out for size)")
    assert left_out in (1, 2) and f"{left_out} pictures are left out" in tiny
    assert len(re.findall("data:image/", tiny)) == 3 - left_out


def test_huge_outputs_are_shortened_and_that_is_said():
    html = render_page([run_of(4, observation="x" * 3_000_000)])
    assert len(html) < 4 * 1.5 * MAX_TEXT
    assert html.count("characters left out]") == 4 and "4 long texts are shortened" in html


def test_a_picture_that_is_gone_or_broken_is_named():
    assert "its content is not at hand" in render_page([run_of(1, picture=lambda index: b"no picture")])


def test_a_run_without_scores_is_shown_as_trajectories(tmp_path):
    run = ScoredRun.read(make_run(tmp_path / "run", [True, False], scored=False))
    html = render_page([run])
    assert "no verdict" in html and "Published" not in html and "1 / 0" in html
    assert [e["text"] for e in Page(html).all("h1")] == ["run"]


def test_places_of_this_machine_are_hidden(tmp_path):
    run = run_of(1, observation=f"FileNotFoundError: {tmp_path}/run/x.png and {Path.home()}/y.png")
    html = render_page([run], hide=[tmp_path])
    assert str(tmp_path) not in html and str(Path.home()) + "/y" not in html and "…/y.png" in html


def test_runs_stand_side_by_side(tmp_path):
    first = make_run(tmp_path / "first", [True, False, True], name="user/first")
    second = make_run(tmp_path / "second", [False, False, True, True], name="user/second")
    page = Page(render_page(read_runs([first, second])))
    facets = [json.loads(card["attrs"]["data-facets"]) for card in page.all("article")]
    assert [[attempt[:2] for attempt in card["attempts"]] for card in facets] == [
        [["user/first", "right"], ["user/second", "wrong"]],
        [["user/first", "wrong"], ["user/second", "wrong"]],
        [["user/first", "right"], ["user/second", "right"]],
        [["user/second", "right"]],
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_the_page_in_a_browser(hostile, tmp_path, size):
    sync_api = pytest.importorskip("playwright.sync_api")
    other = make_run(tmp_path / "other", [True, True, False], name="user/other")
    path = write_report(hostile, [other]).html
    problems, requests = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())

        def focused():
            return page.evaluate("document.activeElement.closest('article')?.id")

        # The first stop of the Tab key leads past the numbers, and each control is a stop.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.filter") == "run"
        # j and k move between tasks, Enter opens one, and its pictures are there.
        page.keyboard.press("j")
        assert focused() is None, "letters belong to a select while it has the focus"
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert focused() == "task-2"
        page.keyboard.press("k")
        assert focused() == "task-1"
        page.keyboard.press("Enter")
        assert page.locator("#task-1 details").get_attribute("open") is not None
        page.wait_for_function("[...document.querySelectorAll('#task-1 img')].every(i => i.naturalWidth > 0)")
        assert page.locator("#task-1 img").first.is_visible()
        # `/` leads to the search; text and outcome filter.
        page.keyboard.press("/")
        page.keyboard.type("secret-2")
        assert page.locator("article:visible").count() == 1 and page.inner_text("#count") == "1 of 3 tasks"
        page.keyboard.press("Escape")
        assert page.locator("article:visible").count() == 3
        page.select_option("[data-filter=run]", "user/other")
        page.select_option("[data-filter=outcome]", "wrong")
        assert page.locator("article:visible").evaluate_all("cards => cards.map(card => card.id)") == ["task-3"]
        page.select_option("[data-filter=run]", "")
        page.select_option("[data-filter=outcome]", "")
        page.click("#open-all")
        assert page.locator("article details[open]").count() == 3
        for image in page.locator("article img").all():
            image.scroll_into_view_if_needed()
        page.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
        # Code scrolls by itself; the page does not.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        scrolling = "[...document.querySelectorAll('article pre')].filter(b => b.scrollWidth > b.clientWidth)"
        assert page.evaluate(f"{scrolling}.length > 0 && {scrolling}.every(block => block.tabIndex === 0)")
        browser.close()
    assert problems == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
