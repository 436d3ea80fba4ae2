"""The app of `t3 chat` and of a Space."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from smolagents.models import ChatMessageStreamDelta

from t3_agents.agent.agent import T3Agent, load_agent
from t3_agents.commands.chat import Conversation, build_app
from t3_agents.models.scripted import ScriptedModel
from t3_agents.tools.image_generator import ImageGenerator
from tests.helpers import free_port, wait_for_page
from tests.helpers.tiny_vlm import turn
from tests.t3_agents.commands.test_guard import status_of


def test_a_question_with_a_picture_is_answered_step_by_step(make_picture):
    outputs = [turn("print(open('files/photo.png', 'rb').read(4))"), turn("final_answer('red')")]
    agent = T3Agent(tools=[], model=ScriptedModel(outputs))
    shown = list(Conversation(agent).ask("Which colour?", [str(make_picture())]))
    assert sorted({len(messages) for messages in shown}) == [1, 2, 3]
    assert "PNG" in shown[-1][0] and "**red**" in shown[-1][-1] and "s in 2 steps" in shown[-1][-1]


def test_a_further_question_knows_the_files_and_the_answer_before(make_picture):
    reads = turn("final_answer(len(open('files/photo.png', 'rb').read()))")
    agent = T3Agent(tools=[], model=ScriptedModel([turn("final_answer('red')"), reads, turn("final_answer('new')")]))
    first, other = Conversation(agent), Conversation(agent)
    *_, shown = first.ask("Which colour?", [str(make_picture())])
    *_, shown = other.ask("Another user's?")
    assert "red" not in shown[-1] and "Error" in shown[0], "it has no such file"
    agent.model = ScriptedModel([reads])
    *_, shown = first.ask("How many bytes?")
    assert str(make_picture().stat().st_size) in shown[-1]
    assert [step.observation[:13] for step in agent.steps if step.kind == "task"] == ["Which colour?", "How many byte"]


class Writing(ScriptedModel):
    """A scripted model that writes word by word."""

    def generate_stream(self, *args, **kwargs):
        for word in re.findall(r"\S+\s*", self.generate(*args, **kwargs).content):
            time.sleep(0.02)
            yield ChatMessageStreamDelta(content=word)


def test_words_are_shown_as_they_are_written():
    agent = T3Agent(tools=[], model=Writing([turn("final_answer('red')", thought="I look at it for a while.")]))
    shown = [messages[-1] for messages in Conversation(agent).ask("Which colour?")]
    assert any(text.endswith("I look ") for text in shown) and "**red**" in shown[-1]


def test_pictures_that_a_step_made_are_shown():
    outputs = [turn("print(image_generator('a red circle'))"), turn("final_answer('done')")]
    *_, messages = Conversation(T3Agent(tools=[ImageGenerator()], model=ScriptedModel(outputs))).ask(
        "Draw a red circle.", []
    )
    assert messages[1].open_image().size > (0, 0) and "**done**" in messages[-1]


def test_a_run_without_an_answer_says_so():
    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)")]), max_steps=1)
    *_, messages = Conversation(agent).ask("What?", [])
    assert messages[-1].startswith("There is no answer: its steps were used up.")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    [messages] = Conversation(T3Agent(tools=[], model=ScriptedModel([]))).ask("What?", [str(tmp_path / "gone.png")])
    assert "gone.png" in messages[0]


def test_leaving_ends_the_run():
    agent = T3Agent(tools=[], model=ScriptedModel([turn("print(1)"), *[turn("while True: pass")] * 5]))
    shown = Conversation(agent).ask("What?", [])
    next(messages for messages in shown if "Observation" in messages[0])
    shown.close()
    assert agent.model.position <= 2, "the step that ran was cut, and none came after it"


@pytest.mark.slow
def test_the_command_serves_the_app(tiny_vlm, tmp_path):
    pytest.importorskip("gradio")
    load_agent(tiny_vlm).save_pretrained(tmp_path / "agent")
    assert build_app(str(tmp_path / "agent")).title.startswith("T3-Agents: ")
    port = free_port()
    command = [sys.executable, "-m", "t3_agents.cli", "chat", "--agent", str(tmp_path / "agent"), "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"})
    try:
        assert b"gradio" in wait_for_page(process, f"http://127.0.0.1:{port}/")
        for path in (
            "/",
            "/config",
            "/gradio_api/upload",
            "/gradio_api/queue/join",
            "/gradio_api/queue/data",
            "/none",
        ):
            for method in ("GET", "POST"):
                assert status_of(port, method, path) != 403
                assert status_of(port, method, path, Host="evil.example") == 403
                assert status_of(port, method, path, Origin="http://evil.example") == 403
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_browser_asks_attaches_streams_stops_and_follows_up(make_picture, tmp_path):
    """In a headless Chromium, at the width of a desk and of a phone."""
    pytest.importorskip("gradio")
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    slow = turn("final_answer('never')", thought="word " * 2000)
    reads = turn("final_answer(len(open('files/photo.png', 'rb').read()))")
    agent = T3Agent(tools=[], model=Writing([turn("final_answer('red')", thought="I look."), reads, slow]))
    app, port = build_app(agent, "demo"), free_port()
    app.launch(server_port=port, prevent_thread_lock=True, quiet=True)
    shots = Path(os.environ.get("T3_SCREENSHOTS", tmp_path))
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"http://127.0.0.1:{port}/", timeout=60_000)
            box = page.locator("textarea").first
            box.wait_for(timeout=60_000)
            assert "T3-Agents: demo" in page.content() and "What is the due date of this invoice?" in page.content()

            def ask(question, waits_for):
                box.fill(question)
                box.press("Enter")
                page.get_by_text(waits_for).last.wait_for(timeout=60_000)

            page.locator("input[type=file]").first.set_input_files(str(make_picture()))
            page.get_by_text("photo.png").or_(page.locator("img[src*=photo]")).first.wait_for(timeout=60_000)
            ask("Which colour?", "in 1 step")
            assert page.get_by_text("red", exact=True).count() >= 1
            page.screenshot(path=shots / "answer_1280.png")
            ask("How many bytes?", str(make_picture().stat().st_size))
            ask("Go on.", "word word")
            page.locator("button.stop-button").first.click()
            page.get_by_text("Stopped: the run was ended").wait_for(timeout=60_000)
            page.set_viewport_size({"width": 390, "height": 844})
            page.screenshot(path=shots / "stopped_390.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            browser.close()
    finally:
        app.close()
