"""Reports and logs of what `t3 eval` itself writes: GTA in both modes, and GAIA with several seeds."""

import json
import re
import zipfile

import pytest

from t3_agents.evaluation.config import ScoreConfig
from t3_agents.evaluation.gaia.benchmark import GAIAConfig
from t3_agents.evaluation.gta.benchmark import GTAConfig
from t3_agents.evaluation.results import ScoredRun, read_results, read_scores
from t3_agents.evaluation.run import evaluate, score_run
from t3_agents.reports.inspect_log import export_inspect_log
from t3_agents.reports.page import write_report
from t3_agents.reports.tables import outcomes, percent
from tests.helpers.made_benchmarks import (
    gaia_agent,
    gaia_script,
    gta_agent,
    gta_script,
    make_gaia,
    make_gta,
    step_script,
)


@pytest.fixture(scope="module")
def gta(tmp_path_factory):
    """Folders of an end-to-end and a step-by-step run of the same made rows."""
    folder = tmp_path_factory.mktemp("gta")
    data = make_gta(folder / "made-gta")
    for mode, script in (("end_to_end", gta_script()), ("step_by_step", step_script())):
        options = {"agent": "script", "output": str(folder / mode), "dataset": str(data), "embedding_model": "none"}
        evaluate(GTAConfig(mode=mode, **options), lambda model=script: gta_agent(model))
    return folder


def test_gta_end_to_end(gta):
    paths = write_report(gta / "end_to_end")
    results = read_results(gta / "end_to_end")
    html = paths.html.read_text()
    for name in ("ans_acc", "f1_perception", "tool_acc"):
        assert percent(results["metrics"][name]) in html
    assert "Tool F1, perception" in html and "53.85" in html
    run = ScoredRun.read(gta / "end_to_end")
    assert [attempt.trajectory.task.id for attempt in run.attempts] == [str(number) for number in range(20)]
    assert all(attempt.score for attempt in run.attempts) and len(run.attempts) == results["num_tasks"]
    rows = [score.correct for score in read_scores(gta / "end_to_end")]
    assert outcomes(run) == {"right": rows.count(True), "wrong": rows.count(False), "no verdict": rows.count(None)}


def test_gta_with_the_scoring_of_the_paper(gta, tmp_path):
    score_run(ScoreConfig(run=str(gta / "end_to_end"), scoring="paper"))
    page = " ".join(write_report(gta / "end_to_end").markdown.read_text().split())
    assert "here, paper" in page and "official scoring" not in page
    assert "it has 20 tasks, the benchmark 229" in page


def test_gta_step_by_step_counts_rows_and_shows_turns(gta):
    paths = write_report(gta / "step_by_step")
    run = ScoredRun.read(gta / "step_by_step")
    results = read_results(gta / "step_by_step")
    assert len(run.attempts) > len(run.scores) == results["num_tasks"]
    assert all(attempt.score for attempt in run.attempts)
    assert sum(outcomes(run).values()) == results["num_tasks"]
    html = paths.html.read_text()
    assert html.count("<article") == len(run.attempts)
    assert "InstAcc" in html and "step-by-step evaluation" in html
    with zipfile.ZipFile(export_inspect_log(gta / "step_by_step", gta / "steps.eval")) as log:
        samples = [json.loads(log.read(name)) for name in log.namelist() if name.startswith("samples/")]
    assert sum("inst_acc" in sample["scores"] for sample in samples) == results["num_tasks"]


def test_gaia_with_several_seeds(tmp_path):
    data = make_gaia(tmp_path / "made-gaia")
    options = {"agent": "script", "output": str(tmp_path / "run"), "dataset": str(data), "seeds": [0, 1]}
    model = gaia_script()
    evaluate(GAIAConfig(**options), lambda: gaia_agent(model))
    run = ScoredRun.read(tmp_path / "run")
    assert all(attempt.score.seed == attempt.seed for attempt in run.attempts)
    assert {attempt.seed for attempt in run.attempts} == {0, 1}
    html = write_report(tmp_path / "run", questions=True).html.read_text()
    tasks = read_results(tmp_path / "run")["num_tasks"]
    assert html.count("<article") == tasks and html.count(", seed 1 <") == tasks
    assert len(re.findall('<section class="attempt">', html)) == 2 * tasks
    for value in ("pass@1", "Level 3", "level: 2"):
        assert value in html
    with zipfile.ZipFile(export_inspect_log(tmp_path / "run", tmp_path / "run.eval")) as log:
        epochs = [name.rpartition("_")[2] for name in log.namelist() if name.startswith("samples/")]
    assert sorted(set(epochs)) == ["1.json", "2.json"] and len(epochs) == 2 * tasks
