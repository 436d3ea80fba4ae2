import io
import json
import re
import sys
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from t3_agents.reports.markdown import PathScrubber, escape, fenced
from t3_agents.reports.quickstart import build_results, choose_trajectories, family_of, print_table, write_report
from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from tests.helpers import png


pytest.importorskip("matplotlib")

HOSTILE = "```\n````\n~~~\n<script>alert(1)</script>\n# Owned\n![x](http://evil.example/x.png)\n\x1b[2J\u202e\r\n| a |"


def make(number, right, family="receipts", query="What is the total?", pictures=True):
    receipt, table = (png((number, 0, 0)), "files/receipt.png"), (b"a,b\n1,2\n", "files/a.csv")
    task = Task(
        id=f"{family}-{number}",
        query=query,
        files=tuple(File.from_bytes(*file) for file in (receipt, table) if pictures),
        ground_truth="5",
        tools=("inspect_file_as_text",),
        origin={"family": family},
    )
    edited = [File.from_bytes(png((0, number, 9), (1600, 20)), "outputs/edit_1.png")] if pictures else []
    first = Step(
        model_output="…",
        thought="Read it.",
        code="print(inspect_file_as_text('files/receipt.png'))",
        observation="total 5",
        error=None if right else "ValueError: no total",
        tools=["inspect_file_as_text" if right else "visualizer"],
        images=[1] if pictures else [],
    )
    last = Step(model_output="…", thought="Done.", code="final_answer(5)", tools=["final_answer"], is_final=True)
    return Trajectory(
        task=task,
        steps=[first, last],
        images=[*task.images, *edited],
        answer="$5.00" if right else "6",
        provenance={"controller": "tiny-vlm"},
    )


def make_runs(untuned=(0, 0), tuned=(3, 1)):
    return {
        run: {
            "seen": [make(i, i < right[0]) for i in range(4)],
            "unseen": [make(i, i < right[1], "charts") for i in range(2)],
        }
        for run, right in (("untuned", untuned), ("tuned", tuned))
    }


def make_results(runs):
    vision = {"images": runs["tuned"]["seen"], "blanked": runs["untuned"]["seen"]}
    return build_results(runs, vision, {"build tasks": 1.26, "train": 224.04}, 17, {"torch": "2.13.0"})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    runs = make_runs()
    write_report(folder, make_results(runs), runs, "A tiny controller.")
    return folder


def test_the_page_has_its_sections_in_order(report):
    page = (report / "report.md").read_text()
    assert re.findall(r"^#+ .*", page, re.MULTILINE) == [
        "# Report",
        "## What was run",
        "## Untuned and tuned",
        "## Does it look at the pictures?",
        "## Time",
        "## Three trajectories of the tuned controller",
        "### A success",
        "### A failure",
        "### An unseen family",
    ]
    assert "| seen | AnsAcc | 0.0 (0.0 to 0.4899) | 4 | 0.75 (0.3006 to 0.9544) | 4 |" in page
    assert "| unseen | CodeExec | 0.5 (0.15 to 0.85) | 4 | 0.75 (0.3006 to 0.9544) | 4 |" in page
    assert "| blanked | 0.0 (0.0 to 0.4899) | 4 |" in page
    assert "| seen | 4 | receipts |" in page and "| unseen | 2 | charts |" in page
    assert "| tuned | tiny-vlm |" in page
    assert "A tiny controller." in page


def numbers_in(text):
    return set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", text))


def test_every_number_of_the_page_is_in_the_json(report):
    page = (report / "report.md").read_text().split("## Three trajectories")[0]
    page = page.replace("95 % interval", "").replace("2.13.0", "")
    results = json.loads((report / "report.json").read_text())
    assert results["stage_seconds"] == {"build tasks": 1.3, "train": 224.0} and results["seed"] == 17
    known = numbers_in(json.dumps(results))
    assert len(numbers_in(page)) > 10
    assert numbers_in(page) <= known


def test_trajectories_are_complete_and_links_lead_somewhere(report):
    page = (report / "report.md").read_text()
    shown = page.split("## Three trajectories")[1]
    for text in ("What is the total?", "Read it.", "print(inspect_file_as_text('files/receipt.png'))", "total 5"):
        assert shown.count(f"\n{text}\n") == 3
    assert "Error: ValueError: no total" in shown
    assert "**Answer**: right" in shown and "**Answer**: wrong" in shown
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert {"results.png", "families.png"} < set(links)
    assert len([link for link in links if link.startswith("report_files/")]) == 9
    for link in links:
        assert (report / link).is_file()
        if link.endswith(".png"):
            assert max(Image.open(report / link).size) <= (2000 if "/" not in link else 800)


def test_plots_are_readable_pictures(report):
    for name, wanted in (("results.png", {(0, 114, 178), (230, 159, 0)}), ("families.png", {(0, 114, 178)})):
        image = Image.open(report / name).convert("RGB")
        assert image.width > 1000 and wanted <= {color for _, color in image.getcolors(2**24)}


def test_the_same_runs_give_the_same_report(report, tmp_path):
    runs = make_runs()
    write_report(tmp_path, make_results(runs), runs, "A tiny controller.")
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (report, tmp_path)
    )
    assert first == second


def test_which_trajectories_are_shown():
    chosen = choose_trajectories(make_runs())
    assert [(title, t.task.id) for title, t, _ in chosen] == [
        ("A success", "receipts-0"),
        ("A failure", "receipts-3"),
        ("An unseen family", "charts-0"),
    ]
    runs = make_runs()
    runs["tuned"]["seen"].insert(0, make(9, True, pictures=False))
    assert choose_trajectories(runs)[0][1].task.id == "receipts-0"
    # A failure that is of an unseen family is not shown twice while there is another one.
    runs = make_runs(tuned=(4, 0))
    assert [t.task.id for _, t, _ in choose_trajectories(runs)] == ["receipts-0", "charts-0", "charts-1"]


def test_nothing_was_run(tmp_path):
    runs = {run: {"seen": [], "unseen": []} for run in ("untuned", "tuned")}
    results = build_results(runs, {"images": [], "blanked": []}, {}, 0, {})
    write_report(tmp_path, results, runs)
    page = (tmp_path / "report.md").read_text()
    assert "| seen | AnsAcc | – | 0 | – | 0 |" in page and "No task of an unseen family was run." in page
    assert "No task was answered right." in page and "There is no failure" in page and "nan" not in page
    print_table(results, Console(file=io.StringIO()))


def test_hostile_text_stays_text(tmp_path):
    runs = make_runs()
    bad = make(0, False, family="$\\frac{ | <b>x</b> [y](z)", query=HOSTILE)
    bad.steps[0].thought = bad.steps[0].observation = bad.steps[0].error = bad.answer = HOSTILE
    bad.steps.insert(1, Step(model_output=HOSTILE, error="no code"))
    bad.steps.insert(2, Step(kind="plan", model_output=HOSTILE))
    bad.provenance["failure"] = HOSTILE
    html = File.from_bytes(b"<script>alert(1)</script>", "files/[x](y) `z`.html")
    broken = File.from_bytes(b"no picture", "files/broken.png")
    bad.task = Task(**{**vars(bad.task), "files": (html, *bad.task.files, broken)})
    bad.images.insert(1, broken)
    bad.steps[0].images = [2]
    runs["tuned"]["unseen"].insert(0, bad)
    runs["tuned"]["seen"] = [make(i, True) for i in range(2)]
    write_report(tmp_path, make_results(runs), runs, HOSTILE)
    page = (tmp_path / "report.md").read_text()
    assert "\x1b" not in page and "\u202e" not in page and "\r" not in page
    blocks = MarkdownIt("commonmark").enable("table").parse(page)
    tokens = [token for block in blocks for token in (block, *(block.children or []))]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline", "link_reference")]
    titles = [after.content for block, after in pairwise(blocks) if block.type == "heading_open"]
    assert len(titles) == 9 and not any("Owned" in title for title in titles)
    links = [token for token in tokens if token.type in ("image", "link_open")]
    targets = [token.attrGet("src") or token.attrGet("href") for token in links]
    assert len(targets) > 9 and all((tmp_path / target).is_file() for target in targets)
    cells = [after for block, after in pairwise(blocks) if block.type == "td_open"]
    assert f"charts, {family_of(bad)}" in ["".join(child.content for child in cell.children) for cell in cells]
    assert not list(tmp_path.rglob("*.html"))
    assert "its content is not at hand" in page


@pytest.mark.parametrize(
    "text", ["", "`", "```", "a\n`````\nb", "\n\n```py\n", "~~~", "   ```", "x" * 10 + "`" * 50, "\r```\r"]
)
def test_a_fence_cannot_be_closed_from_inside(text):
    blocks = MarkdownIt("commonmark").parse(f"before\n\n{fenced(text)}\n\nafter")
    kinds = [block.type for block in blocks if block.type in ("inline", "fence") or block.nesting == 0]
    assert kinds == ["inline", "fence", "inline"]
    assert blocks[3].content.strip("\n") == text.replace("\r", "\n").strip("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_a_", "\\_a\\_"),
        ("a|b", "a\\|b"),
        ("[x](y)", "\\[x\\](y)"),
        ("<b>&amp;", "\\<b\\>\\&amp;"),
        ("http://x.example", "http\\://x.example"),
        (":smile: a: b", "\\:smile: a: b"),
        ("WWW.x.example", "www\\.x.example"),
        ("@someone", "&#64;someone"),
        ("- a\nb", "\\- a b"),
        ("1. a", "1\\. a"),
        ("2.13.0", "2.13.0"),
        ("plain words, 100 % – né 中文", "plain words, 100 % – né 中文"),
        (5, "5"),
    ],
)
def test_inline_text(text, expected):
    assert escape(text) == expected


def test_no_path_of_this_machine(tmp_path):
    runs = make_runs()
    secret = f'File "{tmp_path}/scratch/x.py" and {sys.prefix}/lib/python3/site-packages/a.py; see http://a.example{tmp_path}'
    for trajectory in runs["tuned"]["seen"]:
        trajectory.steps[0].observation = secret
        trajectory.provenance["controller"] = f"{tmp_path}/models/tiny"
    write_report(tmp_path / "out", make_results(runs), runs)
    page = (tmp_path / "out" / "report.md").read_text()
    # The address of a web page stays what it was, although its path looks the same.
    assert str(tmp_path) not in page.replace(f"http://a.example{tmp_path}", "")
    assert sys.prefix not in page
    assert "…/lib/python3/site-packages/a.py" in page
    assert "| tuned | tiny, tiny-vlm |" in page


def test_the_scrubber_keeps_other_paths(tmp_path):
    scrub = PathScrubber(tmp_path / "run")
    assert scrub(f"{tmp_path}/run/a and {tmp_path}/running").startswith("…/a and ")
    for text in ("files/receipt.png", "/", "and/or", "x/usr", "1/2"):
        assert scrub(text) == text


def test_the_table_fits_a_terminal():
    stream = io.StringIO()
    print_table(make_results(make_runs()), Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("AnsAcc" in line and "0.00 (0.00 to 0.49)" in line and "0.75 (0.30 to 0.95)" in line for line in lines)
