"""Verdicts on trajectories, and what keeps a trajectory from being a row."""

import pytest

from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import code_ran, grounded, numbers_in, right_answer, validate, verify


def test_a_verdict_has_the_reasons_of_all_verifiers():
    trajectory = Trajectory(Task.create("q", ground_truth="5"), answer="6")
    verdict = verify(trajectory, (right_answer, code_ran, validate))
    assert not verdict.passed
    assert [bool(reasons) for reasons in verdict.found.values()] == [True, True, False]
    assert list(verdict.found) == ["right_answer", "code_ran", "validate"]
    assert verdict.to_dict() == {
        "passed": False,
        "reasons": ["The answer is '6'; '5' is known to be right.", "No code of it ran without an error."],
    }
    assert verify(trajectory, ()).to_dict() == {"passed": True, "reasons": []}


PICTURE = File.from_bytes(b"\x89PNG", "outputs/a.png")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, ""),
        ({"task": Task.create("q", ground_truth="5")}, ""),
        ({"task": Task.create("q", ground_truth=" \u200b")}, "No answer could be right"),
        ({"end_reason": "bored"}, "`end_reason`"),
        ({"images": [PICTURE]}, "every picture must come up once"),
        ({"images": [PICTURE], "steps": [Step(images=[0])]}, ""),
        ({"images": [PICTURE], "steps": [Step(images=[0], is_final=True)]}, "0 image placeholders"),
    ],
)
def test_what_cannot_be_a_row_says_why(fields, says):
    reasons = validate(Trajectory(**{"task": Task.create("q"), **fields}))
    assert bool(reasons) == bool(says)
    assert says in " ".join(reasons)


def test_all_numbers_of_a_text():
    assert numbers_in("Cake,9,184 and 1,200.5") == {9184, 9, 184, 1200.5, 1, 200.5}


def test_what_was_not_observed_may_not_be_stated():
    task = Task.create("What is the total with a tip of 2?", ground_truth="14")
    look = Step(
        thought="I read the total.", code='print(visualizer("files/a.png", "total"))', observation="TOTAL 12.00"
    )

    def reasons(thought: str, code: str) -> list[str]:
        return grounded(Trajectory(task, steps=[look, Step(thought=thought, code=code)]))

    assert reasons("The total is 12.00.", "final_answer(round(12.00 + 2, 4))") == []
    assert "states 13" in reasons("The total is 12.00.", "final_answer(13 + 2)")[0]
    assert "states 99" in reasons("The total is 99.", "final_answer(12.00 + 2)")[0]
    assert "states oslo" in reasons("The bill is from Oslo.", "final_answer(12.00 + 2)")[0]
    assert "in these words" in reasons("I know it.", 'final_answer("tip total")')[0]
