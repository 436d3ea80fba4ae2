import math

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation import scoring
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import is_correct


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (5, 10), (1, 1), (3, 7), (999, 1000)])
def test_wilson_bounds_solve_the_equation_that_defines_them(successes, n):
    share, z = successes / n, 1.959964
    low, high = scoring.wilson_interval(successes, n)
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
            low, high = scoring.wilson_interval(successes, n)
            assert 0 <= low <= successes / n <= high <= 1
        low, high = scoring.wilson_interval(n // 2, n)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert scoring.wilson_interval(0, 0) == [None, None]
    for successes, n in ((-1, 5), (6, 5)):
        with pytest.raises(InputError):
            scoring.wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("found", "known", "right", "n"),
    [
        ([["a"]], [["a"]], 1, 1),
        ([[]], [["a"]], 0, 1),
        ([["a"]], [[]], 0, 0),
        ([["a", "b"]], [["b", "a"]], 0, 2),
        ([["a", "c"]], [["a", "b"]], 1, 2),
        ([["x", "a", "b"]], [["a", "b"]], 0, 2),
        ([["a", "b", "c"]], [["a", "b"]], 2, 2),
        ([["a"], ["b"]], [["a"], ["a", "b"]], 1, 3),
        ([("a",)], [("a",)], 1, 1),
        ([], [], 0, 0),
    ],
)
def test_tool_acc(found, known, right, n):
    result = scoring.tool_acc(found, known)
    assert result["n"] == n
    assert result["tool_acc"] == (right / n if n else None)
    assert result["ci95"] == scoring.wilson_interval(right, n)


@pytest.mark.parametrize(
    ("turns", "right", "n"), [([], 0, 0), ([[]], 0, 0), ([[True, False], []], 1, 2), ([[True], [True]], 2, 2)]
)
def test_code_exec(turns, right, n):
    result = scoring.code_exec(turns)
    assert (result["code_exec"], result["n"]) == (right / n if n else None, n)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: scoring.ans_acc("ab", ["a", "b"]), "`predictions` must be a list"),
        (lambda: scoring.ans_acc(["a"], "a"), "`references` must be a list"),
        (lambda: scoring.ans_acc(["a"], None), "not NoneType"),
        (lambda: scoring.ans_acc(["a"], ["a", "b"]), "1 predictions but 2 references"),
        (lambda: scoring.ans_acc([5], ["5"]), "Entry 0 of `predictions`"),
        (lambda: scoring.ans_acc(["5", "6"], ["5", None]), "Entry 1 of `references`"),
        (lambda: scoring.ans_acc(["5"], [" "]), "Entry 0 of `references` is blank"),
        (lambda: scoring.tool_acc(["ab"], [["a"]]), "Entry 0 of `predictions` must be a list"),
        (lambda: scoring.tool_acc([["a"]], [[1]]), "Entry 0 of `references` must hold str"),
        (lambda: scoring.tool_acc([["a"]], []), "1 predictions but 0 references"),
        (lambda: scoring.tool_acc({"a": 1}, [["a"]]), "not dict"),
        (lambda: scoring.code_exec([True]), "Entry 0 of `predictions` must be a list"),
        (lambda: scoring.code_exec([[1]]), "Entry 0 of `predictions` must hold bool"),
        (lambda: scoring.code_exec(None), "not NoneType"),
    ],
)
def test_wrong_input_is_named(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert isinstance(caught.value, ValueError)


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
    result = scoring.score(iter(trajectories))
    assert result["n"] == 4
    assert result["counts"] == {"ans_acc": 3, "tool_acc": 4, "code_exec": 5}
    assert math.isclose(result["ans_acc"], 1 / 3)
    assert math.isclose(result["tool_acc"], 1 / 4)
    assert math.isclose(result["code_exec"], 3 / 5)
    assert result["ci95"] == {
        "ans_acc": scoring.wilson_interval(1, 3),
        "tool_acc": scoring.wilson_interval(1, 4),
        "code_exec": scoring.wilson_interval(3, 5),
    }


def test_score_of_nothing():
    assert scoring.score([])["ans_acc"] is None
    assert scoring.score([])["ci95"]["code_exec"] == [None, None]
