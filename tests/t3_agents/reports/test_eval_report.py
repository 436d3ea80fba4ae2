import json
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from t3_agents.cli import main as t3
from t3_agents.errors import InputError
from t3_agents.evaluation.results import ScoredRun
from t3_agents.reports.inspect_log import HIDDEN, export_inspect_log
from t3_agents.reports.page import read_runs, write_report
from t3_agents.reports.plots import draw_cost_accuracy, points_of
from t3_agents.reports.tables import error_kinds, percent, usage_means
from tests.helpers.evaluated_run import HOSTILE, make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "first", [True, False, True, False], name="user/first")
    make_run(folder / "second", [True, True, True, False], name="user/second")
    return folder


def cells_of(markdown):
    """The cells of every table of a Markdown page, as plain text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [
        "".join(child.content for child in tokens[i + 1].children)
        for i, token in enumerate(tokens)
        if token.type in ("td_open", "th_open")
    ]


def test_results_stand_beside_the_published_ones(runs):
    paths = write_report(runs / "first", [runs / "second"])
    page = paths.markdown.read_text()
    headings = ["Results", "By group", "Errors", "Cost", "Trajectories", "What was run"]
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == headings
    cells = cells_of(page)
    row = cells.index("user/first")
    metrics = json.loads((runs / "first" / "results.json").read_text())["metrics"]
    shown = {name: percent(metric) for name, metric in metrics.items()}
    beside = ["user/first", "scripted", "here, official", shown["ans_acc"], "–", shown["code_exec"]]
    assert cells[row : row + 6] == beside
    assert shown["ans_acc"].startswith("50.0 [") and shown["code_exec"].startswith("80.0 [")
    published = cells[cells.index("T3-Agent", cells.index("MiniCPM-V-8.5B tuned")) + 1 :][:5]
    assert published == ["Qwen2-VL-7B tuned", "paper", "53.85", "64.63", "84.32"]
    html = paths.html.read_text()
    for text in (shown["ans_acc"], "53.85", "user/second", "ICLR 2025"):
        assert text in html
    assert "wrong summary" in html and "wrong summary" in page


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    page = " ".join(write_report(runs / "first").markdown.read_text().split())
    assert "cannot be compared with the published numbers" in page
    assert "official scoring" in page and "4 tasks, the benchmark 229" in page
    same = make_run(tmp_path / "paper", [True], scoring="paper", num_tasks=229)
    assert "cannot be compared" not in write_report(same).markdown.read_text()
    steps = make_run(tmp_path / "steps", [True], scoring="paper", num_tasks=229, mode="step_by_step")
    assert "step-by-step evaluation" in write_report(steps).markdown.read_text().replace("\\", "")
    both = write_report(same, [steps]).markdown.read_text()
    assert "scored in different ways" in both and "The runs cannot be compared" in both
    assert "Differences" not in both
    own = make_run(tmp_path / "own", [True], benchmark="scenarios")
    assert "no published numbers" in write_report(own).markdown.read_text()


def test_levels_of_gaia_come_from_the_breakdown(tmp_path):
    run = make_run(tmp_path / "run", [True, False, True, True], benchmark="gaia")
    cells = cells_of(write_report(run).markdown.read_text())
    row = cells.index("user/agent")
    assert [cell.split(" ")[0] for cell in cells[row + 3 : row + 7]] == ["75.0", "100.0", "0.0", "100.0"]


def test_gaia_keeps_its_questions_out_of_what_is_published(tmp_path):
    run = make_run(tmp_path / "run", [True, False], benchmark="gaia", words="Who ate the walrus?", output="observed")
    secrets = {"walrus", "secret-", "photo.png", "observed", "I divide.", "base64", "answered 8"}

    def published(name, questions=None):
        paths = write_report(run, questions=questions)
        with zipfile.ZipFile(export_inspect_log(run, tmp_path / name, questions)) as archive:
            log = "".join(archive.read(member).decode() for member in archive.namelist())
        return paths.html.read_text(), paths.markdown.read_text(), log

    html, markdown, log = published("hidden.eval")
    for text in (html, markdown, log):
        assert [secret for secret in secrets if secret in text] == []
    assert "task-1" in html and "t3 view" in html and HIDDEN in log
    html, _, log = published("shown.eval", questions=True)
    assert [secret for secret in secrets if secret not in html] == []
    assert secrets - {secret for secret in secrets if secret in log} == {"secret-"}
    assert str(tmp_path) not in log


def test_hostile_names_stay_text(tmp_path):
    run = make_run(tmp_path / "run", [True, False], name=HOSTILE, words=HOSTILE, output=HOSTILE)
    markdown = write_report(run).markdown.read_text()
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    inner = [child for token in tokens for child in token.children or ()]
    assert not [token for token in [*tokens, *inner] if token.type in ("html_block", "html_inline")]
    links = [child.attrs for child in inner if child.type in ("link_open", "image")]
    assert {attrs.get("href", attrs.get("src")) for attrs in links} == {"report.html", "cost_accuracy.svg"}
    assert not {"\u202e", "\x00", "\x1b"} & set(markdown)
    assert str(Path(run).resolve().parent) not in markdown


def test_differences_are_paired_by_task(runs):
    paths = write_report(runs / "first", [runs / "second"])
    cells = cells_of(paths.markdown.read_text())
    row = cells.index("user/second", cells.index("p (McNemar, answers)"))
    # Of four tasks, the second run has one right that the first has not.
    assert cells[row + 1] == "4" and cells[row + 2].startswith("+25.0 [+0.0, +") and cells[row + 4] == "1"
    assert "Differences to user/first" in paths.html.read_text()


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    again = make_run(tmp_path / "again", [True], name="user/first")
    assert [run.name for run in read_runs([runs / "first", again])] == ["user/first (first)", "user/first (again)"]
    inner = make_run(tmp_path / "x" / "first", [True], name="user/first")
    assert len({run.name for run in read_runs([runs / "first", inner])}) == 2


def test_errors_are_counted_with_examples(runs):
    kinds = error_kinds(read_runs([runs / "first", runs / "second"]))
    assert [(kind.name, kind.counts) for kind in kinds] == [("wrong_summary", [2, 1])]
    assert [score.task_id for score in kinds[0].examples] == ["task-1", "task-3", "task-3"]


def test_the_plot_draws_what_is_known(runs, tmp_path):
    both = read_runs([runs / "first", runs / "second"])
    axis, points = points_of(both)
    assert axis.startswith("tokens") and [(p.cost, p.value) for p in points] == [(1000, 0.5), (1000, 0.75)]
    drawn = ElementTree.fromstring(draw_cost_accuracy(both, background="white"))
    assert drawn.tag.endswith("svg") and len(drawn.findall(".//{*}circle")) == 1
    assert usage_means(both[0])["cost"] is None

    dear = make_run(tmp_path / "dear", [True], name="<dear & more>")
    results = json.loads((dear / "results.json").read_text())
    results["usage"]["mean"] = {"input_tokens": 10**6, "output_tokens": 0, "seconds": 1.0, "cost": 2.5}
    (dear / "results.json").write_text(json.dumps(results))
    dear_run = ScoredRun.read(dear)
    assert points_of([dear_run])[0] == "cost per task"
    wide = ElementTree.fromstring(draw_cost_accuracy([*both, dear_run]))
    labels = [text.text for text in wide.findall(".//{*}text")]
    assert {"1,000", "10,000", "100,000", "1,000,000"} <= set(labels)
    assert "<dear & more>" in labels

    results["usage"]["mean"] = {"input_tokens": None, "output_tokens": None, "seconds": None, "cost": None}
    (dear / "results.json").write_text(json.dumps(results))
    paths = write_report(dear)
    assert paths.plot is None and "cost_accuracy" not in paths.markdown.read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "t3-results/9"}, "t3-results/9"),
        ({"metrics": {"ans_acc": {"value": -0.5, "ci95": [None, None], "n": 1}}}, "fraction"),
        ({"metrics": {"ans_acc": {"value": 0.5, "ci95": [0.1], "n": 1}}}, "two bounds"),
        ({"metrics": {"ans_acc": {"n": 1}}}, "no field `value`"),
        ({"agent": {}}, "no field `name`"),
        ({"metrics": []}, "`metrics`"),
    ],
)
def test_results_that_cannot_be_used_are_named(tmp_path, change, says):
    run = make_run(tmp_path / "run", [True], **change)
    with pytest.raises(InputError, match=says):
        write_report(run)


def test_folders_that_cannot_be_reported_are_refused(runs, tmp_path):
    unscored = make_run(tmp_path / "unscored", [True], scored=False)
    half, broken = make_run(tmp_path / "half", [True]), make_run(tmp_path / "broken", [True])
    (half / "scores.jsonl").unlink()
    (broken / "results.json").write_text("{")
    first, gaia = runs / "first", make_run(tmp_path / "gaia", [True], benchmark="gaia")
    for folder, others, says in (
        (tmp_path, [], "holds no run"),
        (unscored, [], "t3 eval score"),
        (first, [gaia], "one benchmark"),
        (first, [first], "itself"),
        (half, [], "no scores.jsonl"),
        (broken, [], "not JSON"),
    ):
        with pytest.raises(InputError, match=says):
            write_report(folder, others)


def test_a_metric_without_numbers_is_a_dash(tmp_path):
    run = make_run(tmp_path / "run", [True], metrics={"ans_acc": {"value": None, "ci95": [None, None], "n": 0}})
    cells = cells_of(write_report(run).markdown.read_text())
    assert cells[cells.index("user/agent") + 3] == "–"


def test_the_commands(runs, tmp_path, capsys):
    first, second = str(runs / "first"), str(runs / "second")
    assert t3(["eval", "report", first, second]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "user/second" in (runs / "first" / "report.md").read_text()
    assert t3(["eval", "report", first, "--no-questions"]) == 0
    page = (runs / "first" / "report.html").read_text()
    assert "secret-" not in page and "user/second" not in page
    assert t3(["eval", "export", first, "--output", str(tmp_path / "log.eval")]) == 0
    assert (tmp_path / "log.eval").is_file()
    assert t3(["eval", "report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
