import pytest

from t3_agents.evaluation.error_types import ERROR_TYPES, error_type
from t3_agents.task import Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step


def step(code="print(1)", error=None, tools=()):
    return Step(code=code, error=error, tools=list(tools))


def call(name, error=None, **arguments):
    return {"name": name, "arguments": arguments, "error": error}


def run(*steps, answer=None, end_reason="max_steps", calls=()):
    return Trajectory(
        task=Task(id="a", query="b"),
        steps=list(steps),
        answer=answer,
        end_reason="answer" if answer is not None else end_reason,
        provenance={"calls": list(calls)},
    )


@pytest.mark.parametrize(
    ("trajectory", "kind"),
    [
        (run(step(code="", error="no code block was found")), "no_code"),
        (run(step(), step(code="print((", error="not valid Python")), "syntax"),
        (run(step(code="print((", error="x"), step(error="NameError")), "runtime"),
        (run(step(error="NameError"), step()), "gave_up"),
        (run(), "gave_up"),
        (run(step(code="", error="x"), end_reason="failed"), "runtime"),
        (run(step(), end_reason="time_limit"), "gave_up"),
    ],
)
def test_a_run_without_an_answer_is_what_its_last_turn_was(trajectory, kind):
    assert error_type(trajectory, False) == error_type(trajectory, None) == kind
    assert kind in ERROR_TYPES


@pytest.mark.parametrize(
    ("answer", "calls", "kind"),
    [
        ("  ", [], "gave_up"),
        ("5", [], "wrong_tool"),
        ("5", [call("ocr", image="a")], "wrong_summary"),
        ("5", [call("ocr", image="b")], "wrong_argument"),
        ("5", [call("ocr", image="a"), call("ocr", "InputError", image="c")], "wrong_argument"),
        ("5", [call("search", query="a")], "wrong_tool"),
    ],
)
def test_a_wrong_answer_is_blamed_on_the_first_thing_that_was_missing(answer, calls, kind):
    trajectory = run(step(), answer=answer, calls=calls)
    assert error_type(trajectory, False, [("ocr", "visualizer")], [("ocr", {"image": "a"})]) == kind
    assert error_type(trajectory, True, [("ocr",)]) is None
    assert error_type(trajectory, None, [("ocr",)]) is None
