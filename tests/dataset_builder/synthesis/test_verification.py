import threading

import pytest
from smolagents.models import Model

from dataset_builder.synthesis import Candidate, Failed, Rejected
from dataset_builder.synthesis.stages.solving import solve
from dataset_builder.synthesis.stages.verification import verify_query_files, verify_trajectory
from dataset_builder.synthesis.teacher import TeacherModel
from t3_agents.agent.agent import T3Agent
from t3_agents.errors import InputError
from t3_agents.models.endpoint import EndpointError
from t3_agents.task import File
from t3_agents.tools.toolbox import make_toolbox
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import FORM, verify
from tests.helpers.replies import Replies
from tests.helpers.tiny_vlm import turn


GOOD_FILES = dict.fromkeys(("files_match", "enough_information", "needs_tools", "single_answer"), True)
GOOD_FILES["reason"] = "It is all there."
GOOD_STEPS = dict.fromkeys(
    ("tools_sensible", "arguments_right", "observations_used", "answer_relevant", "answer_supported"), True
)
GOOD_STEPS["reason"] = "Every step is right."
LOOK_CODE = 'print(inspect_file_as_text("files/costs.csv"))'
LOOK = turn(LOOK_CODE, "I read the table.")


def candidate_of(*more):
    table = File.from_bytes(b"item,cost\r\nflour,120\r\nsugar,45\r\n", "files/costs.csv")
    query = "What do flour and sugar cost together in my table?"
    tools = ("inspect_file_as_text",)
    return Candidate("gaia-0-0", "gaia", query, tools, files=(table, *more), from_web=("price of flour",))


def picture(make_picture):
    return File.from_path(make_picture("shop.png", size=(2000, 1500)))


def solved(*turns):
    teacher = Replies(*turns)
    return solve(
        candidate_of(), T3Agent(make_toolbox("embedded"), TeacherModel(teacher, "solve"), "compact", max_steps=4)
    )


def test_the_verifier_sees_query_texts_and_pictures(make_picture):
    teacher = Replies(GOOD_FILES)
    judged = verify_query_files(candidate_of(picture(make_picture)), teacher)
    asked = teacher.asked[0]
    assert all(word in asked for word in ("flour and sugar cost", "flour", "120", "costs.csv", "shop.png", "price of"))
    assert teacher.pictures == [1]
    (verdict,) = judged.verdicts
    assert verdict.accepted
    assert verdict.reason == "It is all there."
    assert verdict.checks == {name: True for name in GOOD_FILES if name != "reason"}
    assert judged.provenance["verify_files"]["prompt"] == "verify_files/1"


def test_one_no_rejects_and_keeps_the_reason():
    no = {**GOOD_FILES, "enough_information": False, "reason": "There is no price of eggs."}
    with pytest.raises(Rejected, match="enough_information: There is no price of eggs.") as caught:
        verify_query_files(candidate_of(), Replies(no))
    (verdict,) = caught.value.candidate.verdicts
    assert not verdict.accepted
    assert verdict.checks["enough_information"] is False
    assert caught.value.candidate.provenance["verify_files"]["model"] == "replies-1"


@pytest.mark.parametrize("reply", ["Yes.", '{"files_match": true, "enough_inf', {"files_match": "perhaps"}])
def test_a_verdict_that_is_none_is_a_failure(reply):
    with pytest.raises(Failed):
        verify_query_files(candidate_of(), Replies(reply))


def test_a_task_is_solved_with_real_tools_and_judged():
    candidate = solved(LOOK, turn("final_answer(120 + 45)", "I add them."))
    assert candidate.trajectory.answer == "165"
    assert candidate.provenance["solve"]["input_tokens"] == 200
    assert candidate.provenance["solve"]["attempts"] == 2
    teacher = Replies(GOOD_STEPS)
    judged = verify_trajectory(candidate, teacher)
    asked = teacher.asked[0]
    assert all(word in asked for word in ("I read the table.", "inspect_file_as_text", "flour", "Answer: 165"))
    assert [verdict.stage for verdict in judged.verdicts] == ["check_form", "verify_trajectory"]
    assert judged.trajectory.verification["verify_trajectory"] == {"passed": True, "reasons": ["Every step is right."]}
    assert Candidate.from_dict(judged.to_dict()).trajectory.verification == judged.trajectory.verification


def test_a_verdict_against_a_trajectory_is_kept_in_its_record():
    no = {**GOOD_STEPS, "answer_supported": False, "reason": "The sum is wrong."}
    with pytest.raises(Rejected, match="answer_supported: The sum is wrong.") as caught:
        verify_trajectory(solved(LOOK, turn("final_answer(99)", "I add them.")), Replies(no))
    verification = caught.value.candidate.trajectory.verification
    assert verification["verify_trajectory"] == {"passed": False, "reasons": ["The sum is wrong."]}
    assert verification["check_form"]["passed"]


@pytest.mark.parametrize(
    ("turns", "check", "reason"),
    [
        ([LOOK], "has_answer", "max_steps"),
        (["I do not know."], "has_answer", "There is no answer"),
        ([LOOK, turn('final_answer("")', "Nothing.")], "has_answer", "The answer is empty"),
        ([turn("final_answer(165)", "I know it.")], "tools_used", "No tool was called"),
        (
            [turn('print(ask_search_agent("capital of Norway"))', "I search."), turn("final_answer(165)", "So.")],
            "files_touched",
            "never looked at: files/costs.csv",
        ),
        (
            [LOOK, turn('print("/mnt/disk/costs.csv")', "Where?"), turn("final_answer(165)", "So.")],
            "no_paths",
            "/mnt/disk/costs.csv",
        ),
        ([LOOK, turn('final_answer("see C:\\\\Users\\\\me\\\\a.csv")', "So.")], "no_paths", "a path of a machine: C:"),
    ],
)
def test_the_form_is_checked_before_the_teacher_is_asked(turns, check, reason):
    teacher = Replies(GOOD_STEPS)
    with pytest.raises(Rejected, match=reason) as caught:
        verify_trajectory(solved(*turns), teacher)
    assert not teacher.asked
    (verdict,) = caught.value.candidate.verdicts
    assert verdict.checks[check] is False
    assert caught.value.candidate.trajectory.verification["check_form"]["passed"] is False


@pytest.mark.parametrize(
    "text",
    [
        "12/05/2024",
        "a ratio of 3/4 and/or more",
        "https://example.org/a/b",
        "see /wiki/Norway/Oslo",
        "/workspace/files/a.csv",
        "</b>",
    ],
)
def test_what_only_looks_like_a_path_passes(text):
    step = Step(model_output=text, code=LOOK_CODE, tools=["inspect_file_as_text"])
    trajectory = Trajectory(candidate_of().to_task(), steps=[step], answer=text)
    assert verify(trajectory, FORM).passed


def test_a_candidate_that_was_not_solved_is_refused():
    with pytest.raises(InputError, match="no trajectory yet"):
        verify_trajectory(candidate_of(), Replies(GOOD_STEPS))


class Broken(Model):
    """A model that raises."""

    def __init__(self, error):
        super().__init__(model_id="broken")
        self.error = error

    def generate(self, messages, **kwargs):
        raise self.error


def test_an_outage_is_not_the_candidates_fault():
    outage = EndpointError("nobody answers", outage=True)
    with pytest.raises(EndpointError, match="nobody answers"):
        solve(candidate_of(), T3Agent(make_toolbox("embedded"), Broken(outage), "compact"))
    with pytest.raises(Failed, match="no memory left"):
        solve(candidate_of(), T3Agent(make_toolbox("embedded"), Broken(RuntimeError("no memory left")), "compact"))
    assert threading.active_count() < 50
