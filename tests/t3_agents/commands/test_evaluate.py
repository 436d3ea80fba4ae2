"""`t3 eval` as a whole: resuming, repeating, seeds, scoring again, comparing, and the command line."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from t3_agents.cli import main
from t3_agents.errors import InputError
from t3_agents.evaluation.compare import compare_runs
from t3_agents.evaluation.gaia.benchmark import GAIAConfig
from t3_agents.evaluation.results import TaskScore, read_results, read_scores, read_trajectories, summarize
from t3_agents.evaluation.run import evaluate
from t3_agents.evaluation.statistics import bootstrap_interval, mcnemar_exact, paired_interval, pass_at_k, pool
from t3_agents.storage import read_rows
from tests.helpers import ROOT
from tests.helpers.made_benchmarks import GAIA_ROWS, Script, gaia_agent, gaia_script, make_gaia, say


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_gaia(tmp_path_factory.mktemp("gaia") / "made-gaia")


def config(data, output, **options):
    return GAIAConfig(agent="script", output=str(output), dataset=str(data), **{"num_workers": 4, **options})


def run_script(data, output, model=None, **options):
    model = model or gaia_script()
    return evaluate(config(data, output, **options), lambda: gaia_agent(model))


def without_times(folder):
    """Rows of a run by task, without what the clock decides."""
    rows = {row["task"]["id"]: row for row in read_rows(Path(folder) / "trajectories.jsonl")}
    for row in rows.values():
        for step in row["steps"]:
            del step["seconds"]
    scores = [score.to_dict() for score in read_scores(folder)]
    for score in scores:
        del score["usage"]["seconds"]
    return rows, scores


SLOW_RUN = """
import time
from tests.helpers.made_benchmarks import gaia_agent, gaia_script
from t3_agents.evaluation.gaia.benchmark import GAIAConfig
from t3_agents.evaluation.run import evaluate

model, generate = gaia_script(), None
class Slow(type(model)):
    def generate(self, *args, **kwargs):
        time.sleep(0.05)
        return super().generate(*args, **kwargs)
model.__class__ = Slow
config = GAIAConfig(agent="script", output={output!r}, dataset={data!r}, num_workers=2)
evaluate(config, lambda: gaia_agent(model))
"""


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_rows(data, tmp_path):
    output = tmp_path / "killed"
    code = SLOW_RUN.format(output=str(output), data=str(data))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    rows = output / "trajectories.jsonl"
    deadline = time.monotonic() + 120
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = rows.read_bytes().count(b"\n")
    assert 3 <= finished < 20
    assert not (output / "results.json").exists()
    model, whole = gaia_script(), gaia_script()
    run_script(data, output, model)
    run_script(data, tmp_path / "whole", whole)
    assert without_times(output) == without_times(tmp_path / "whole")
    assert model.calls < whole.calls


def test_a_finished_run_makes_no_agent(data, tmp_path):
    first = run_script(data, tmp_path / "run")

    def refuse():
        raise AssertionError("an agent was made")

    again = evaluate(config(data, tmp_path / "run", num_workers=9), refuse)
    assert {**again, "created": None} == {**first, "created": None}


class TestRealController:
    """A tiny vision-language model with random weights: what it writes depends on all that it reads."""

    def run(self, data, controller, output, *options):
        return main(
            ["eval", "gaia", "--agent", str(controller), "--dataset", str(data), "--output", str(output)]
            + ["--toolbox", "embedded", "--prompt", "compact", "--max-steps", "2", "--max-new-tokens", "12"]
            + ["--limit", "4", *options]
        )

    def test_the_same_greedy_run_twice_gives_the_same_rows(self, data, tiny_vlm, tmp_path, capsys):
        assert self.run(data, tiny_vlm, tmp_path / "a") == 0
        assert self.run(data, tiny_vlm, tmp_path / "b", "--num-workers", "2") == 0
        rows, scores = without_times(tmp_path / "a")
        assert (rows, scores) == without_times(tmp_path / "b")
        assert all(row["steps"] for row in rows.values())
        results = read_results(tmp_path / "a")
        assert results["agent"]["toolbox"] and results["agent"]["prompt"] == "compact"
        assert "AnsAcc" in capsys.readouterr().out

    def test_seeds_give_other_runs_and_pass_at_k(self, data, tiny_vlm, tmp_path):
        options = ("--seeds", "3", "4", "--temperature", "1.5")
        assert self.run(data, tiny_vlm, tmp_path / "run", *options) == 0
        trajectories = read_trajectories(tmp_path / "run")
        assert sorted(t.provenance["seed"] for t in trajectories) == [3] * 4 + [4] * 4
        first, second = (
            [t.steps[0].model_output for t in trajectories if t.provenance["seed"] == seed] for seed in (3, 4)
        )
        assert first != second
        results = read_results(tmp_path / "run")
        assert results["seeds"] == [3, 4]
        assert results["metrics"]["pass@2"]["n"] == 4
        assert len(read_scores(tmp_path / "run")) == 8
        for trajectory in trajectories:  # pictures are found in the blobs that the seeds share
            for image in trajectory.images:
                assert image.read_bytes()

    def test_limits_per_task_end_it_with_a_reason(self, data, tiny_vlm, tmp_path):
        for reason, limit in (("token_budget", "1"), ("time_limit", "0.000001")):
            option = f"--{reason.replace('_', '-')}"
            assert self.run(data, tiny_vlm, tmp_path / reason, option, limit) == 0
            assert {score.reason for score in read_scores(tmp_path / reason)} == {reason}


@pytest.fixture(scope="module")
def pair(data, tmp_path_factory):
    """Two scored runs: the second gets three more right and one less."""
    folder = tmp_path_factory.mktemp("pair")
    run_script(data, folder / "first")
    better = {number: [say(row[3] or "nothing")] for number, row in enumerate(GAIA_ROWS)}
    better |= {3: [say("17")], 6: [say("red")], 7: [say("Paris")], 0: [say("18")]}
    run_script(data, folder / "second", Script(better))
    return folder / "first", folder / "second"


class TestCompare:
    def test_pairs_of_answers(self, pair):
        found = compare_runs(*pair)
        assert found["num_tasks"] == 20
        pairs = {"both": 9, "only_first": 1, "only_second": 3, "neither": 7}
        assert found["answers"] == {**pairs, "p_value": pytest.approx(2 * (1 + 4) / 16)}
        answers = found["metrics"]["ans_acc"]
        assert (answers["first"], answers["second"]) == (0.5, 0.6)
        assert answers["difference"] == pytest.approx(0.1)
        assert answers["ci95"][0] < 0 < 0.1 < answers["ci95"][1]

    def test_a_run_with_itself(self, pair):
        found = compare_runs(pair[0], pair[0])
        assert found["metrics"]["ans_acc"]["ci95"] == [0, 0]
        assert found["answers"]["p_value"] == 1

    def test_the_table(self, pair, capsys):
        assert main(["eval", "compare", *map(str, pair)]) == 0
        printed = capsys.readouterr().out
        assert "AnsAcc" in printed and "+10.0" in printed and "p = 0.625" in printed

    def test_what_cannot_be_compared(self, pair, tmp_path):
        with pytest.raises(InputError, match="no scored run"):
            compare_runs(pair[0], tmp_path)
        other = shutil.copytree(pair[0], tmp_path / "other")
        results = json.loads((other / "results.json").read_text())
        (other / "results.json").write_text(json.dumps({**results, "benchmark": "gta"}))
        with pytest.raises(InputError, match="benchmark is gaia"):
            compare_runs(pair[0], other)
        (other / "results.json").write_text(json.dumps(results))
        (other / "scores.jsonl").write_text("")
        with pytest.raises(InputError, match="no task in common"):
            compare_runs(pair[0], other)


def test_scoring_again(pair, tmp_path, capsys):
    run = shutil.copytree(pair[0], tmp_path / "run")
    assert main(["eval", "score", str(run), "--input-price", "2", "--output-price", "8"]) == 0
    assert "cost" in capsys.readouterr().out
    assert read_results(run)["usage"]["total"]["cost"] > 0


class TestStatistics:
    def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(self):
        for runs in range(1, 7):
            for right in range(runs + 1):
                outcomes = [True] * right + [False] * (runs - right)
                for k in range(1, runs + 1):
                    subsets = list(combinations(outcomes, k))
                    assert pass_at_k(runs, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))

    @pytest.mark.parametrize("numbers", [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
    def test_what_is_not_possible(self, numbers):
        with pytest.raises(InputError):
            pass_at_k(*numbers)

    @pytest.mark.parametrize(
        ("first", "second", "p"),
        [(0, 0, 1), (1, 0, 1), (5, 5, 1), (0, 5, 2 / 32), (1, 9, 22 / 1024), (10, 2, 2 * 79 / 4096)],
    )
    def test_mcnemar(self, first, second, p):
        assert mcnemar_exact(first, second) == mcnemar_exact(second, first) == pytest.approx(p)

    def test_the_interval_covers_the_truth_about_as_often_as_it_says(self):
        rng = np.random.default_rng(1)
        covered = 0
        for _ in range(60):
            counts = np.stack([rng.random(80) < 0.4, np.ones(80)], axis=1)
            low, high = bootstrap_interval(counts)
            covered += low <= 0.4 <= high
        assert covered >= 51

    def test_the_interval_is_repeatable(self):
        counts = np.array([[1, 1], [0, 1], [1, 1], [1, 1]])
        assert bootstrap_interval(counts) == bootstrap_interval(counts)
        assert bootstrap_interval(np.zeros((0, 2))) == [None, None]
        assert bootstrap_interval(np.zeros((3, 2))) == [None, None]

    def test_tasks_are_resampled_whole(self):
        # Ten calls of one task are no ten independent ones: the interval is as wide as that of four tasks.
        wide = bootstrap_interval(np.array([[10, 10], [0, 10], [10, 10], [0, 10]]))
        assert wide == bootstrap_interval(np.array([[1, 1], [0, 1], [1, 1], [0, 1]]))
        assert wide == [0, 1]

    def test_paired_differences_are_narrower_than_two_intervals(self):
        rng = random.Random(0)
        first = np.array([[rng.random() < 0.5, 1] for _ in range(60)], float)
        second = first.copy()
        second[:6, 0] = 1
        low, high = paired_interval(first, second)
        assert 0 <= low <= high < 0.15

    def test_shares_and_f1(self):
        assert pool(np.array([3.0, 4.0])) == 0.75
        assert pool(np.array([2.0, 4.0, 4.0])) == pytest.approx(0.5, abs=1e-4)
        assert np.isnan(pool(np.array([0.0, 0.0])))
        assert np.isnan(pool(np.array([0.0, 3.0, 0.0])))

    def test_summary_of_several_seeds(self):
        scores = [
            TaskScore(task, seed, right, {"ans_acc": [int(right), 1]})
            for task, outcomes in {"a": [True, False], "b": [False, False], "c": [True, True]}.items()
            for seed, right in enumerate(outcomes)
        ]
        metrics = summarize(scores)
        assert metrics["ans_acc"]["value"] == metrics["pass@1"]["value"] == pytest.approx(0.5)
        assert metrics["pass@2"]["value"] == pytest.approx(2 / 3)
        assert metrics["ans_acc"]["n"] == 6 and metrics["pass@2"]["n"] == 3

    def test_no_task_right_leaves_room_above(self):
        low, high = bootstrap_interval(np.array([[0, 3]] * 6))
        assert low == 0
        assert 0.3 < high < 0.5  # as Wilson has it for 0 of 6
        low, high = bootstrap_interval(np.array([[1, 1]] * 6))
        assert 0.5 < low < 0.7
        assert high == 1
