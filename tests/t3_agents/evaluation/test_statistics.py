"""Wilson's interval, and the shares of scored trajectories."""

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.scenarios import score
from t3_agents.evaluation.statistics import wilson_interval
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import is_correct


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (5, 10), (1, 1), (3, 7), (999, 1000)])
def test_wilson_bounds_solve_the_equation_that_defines_them(successes, n):
    share, z = successes / n, 1.959964
    low, high = wilson_interval(successes, n)
    for bound in (low, high):
        assert (share - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / n, abs=1e-7)
    assert low < high
    # The bounds of 5 in 10 are a known value.
    if (successes, n) == (5, 10):
        assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_wilson_interval_holds_the_share_and_shrinks():
    widths = []
    for n in (2, 8, 50, 1000):
        for successes in range(0, n + 1, max(1, n // 7)):
            low, high = wilson_interval(successes, n)
            assert 0 <= low <= successes / n <= high <= 1
        low, high = wilson_interval(n // 2, n)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert wilson_interval(0, 0) == [None, None]
    for successes, n in ((-1, 5), (6, 5)):
        with pytest.raises(InputError):
            wilson_interval(successes, n)


def make(answer, known, tools=(), steps=()):
    return Trajectory(
        task=Task(id="t", query="q", ground_truth=known, tools=tuple(tools)), steps=list(steps), answer=answer
    )


def test_score_of_trajectories():
    looked = Step(code="x = ocr('a')", tools=["ocr"])
    failed = Step(code="x = (", tools=[], error="not Python")
    rambled = Step(model_output="no code")
    plan = Step(kind="plan", model_output="plan")
    answered = Step(code="final_answer(5)", tools=["final_answer"], is_final=True)
    trajectories = [
        make("5", "5", ["ocr", "final_answer"], [plan, looked, answered]),
        make(None, "5", ["ocr", "faces"], [rambled, failed]),
        make("anything", None, [], [answered]),
        make(None, "5", ["ocr"]),
    ]
    assert [is_correct(t) for t in trajectories] == [True, False, None, False]
    result = score(iter(trajectories))
    assert result["n"] == 4
    assert set(result["ci95"]) == {"ans_acc", "tool_acc", "code_exec"}
    assert result["counts"] == {"ans_acc": 3, "tool_acc": 4, "code_exec": 5}
    for name, right, n in (("ans_acc", 1, 3), ("tool_acc", 1, 4), ("code_exec", 3, 5)):
        assert result[name] == pytest.approx(right / n) and result["ci95"][name] == wilson_interval(right, n)


def test_score_of_nothing():
    assert score([])["ans_acc"] is None
    assert score([])["ci95"]["code_exec"] == [None, None]
