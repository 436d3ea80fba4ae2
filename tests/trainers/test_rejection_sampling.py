"""What is kept of an agent's attempts, and the pairs of next steps in them."""

from __future__ import annotations

import json

import pytest

from t3_agents.task import File, Task
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import SAMPLE, verify
from tests.helpers.tiny_vlm import make_step as step
from tests.helpers.training_rows import SYSTEM_PROMPT, picture
from trainers.loading import load_rows
from trainers.rejection_sampling import select, step_pairs, write_pairs, write_trajectories


LOOK, GUESS, ANSWER = "print(visualizer('files/photo.png', 'What?'))", "final_answer('blue')", "final_answer('red')"
TASK = Task.create("Which colour?", [picture(1, "files/photo.png")], ground_truth="red", tools=("visualizer",))


def attempt(*steps: Step, task: Task = TASK, seed: int = 0, answer: str | None = None, images=()) -> Trajectory:
    answer = answer or ("red" if steps[-1].code == ANSWER else "blue" if steps[-1].code == GUESS else None)
    return Trajectory(
        task=task,
        system_prompt=SYSTEM_PROMPT,
        steps=list(steps),
        images=[*task.images, *images],
        answer=answer,
        end_reason="answer" if answer else "max_errors",
        provenance={"seed": seed},
    )


def codes(pairs: list[dict]) -> list[tuple[str, str]]:
    def code(turn: list[dict]) -> str:
        return turn[0]["content"][0]["text"].split("```py\n")[1].split("\n```")[0]

    return [(code(pair["chosen"]), code(pair["rejected"])) for pair in pairs]


# Verification


WRONG, FAILED = "The answer is 'blue'; 'red' is known to be right.", "Step 1 failed: "
MISSING = "The tools visualizer were expected and not called."


@pytest.mark.parametrize(
    ("steps", "reasons"),
    [
        ([step(LOOK), step(ANSWER)], []),
        ([step(LOOK), step(GUESS)], [WRONG]),
        ([step(LOOK), step("print(1)")], ["There is no answer: the run ended with max_errors."]),
        ([step(LOOK, error="no file"), step(LOOK), step(ANSWER)], [f"{FAILED}no file"]),
        ([step("", error="no code block"), step(LOOK), step(ANSWER)], [f"{FAILED}no code block"]),
        ([step(""), step(LOOK), step(ANSWER)], [f"{FAILED}it holds no code"]),
        ([step(ANSWER)], [MISSING]),
        ([step(GUESS)], [WRONG, MISSING]),
    ],
)
def test_only_a_right_answer_from_code_that_ran_and_looked_is_verified(steps, reasons):
    assert verify(attempt(*steps), SAMPLE).reasons == reasons


def test_a_task_without_a_known_answer_verifies_nothing():
    task = Task.create("Which colour?", [])
    assert verify(attempt(step(ANSWER), task=task), SAMPLE).reasons == ["No answer is known to be right."]


def test_the_same_code_is_kept_once_whatever_its_layout_and_thoughts():
    other = Task.create("Which colour is it?", [picture(1, "files/photo.png")], ground_truth="red")
    samples = [
        attempt(step(LOOK), step(ANSWER), seed=0),
        attempt(step(f"{LOOK}  # look", thought="hm"), step(ANSWER), seed=1),
        attempt(step(LOOK.replace("'", '"')), step(ANSWER), seed=2),
        attempt(step(LOOK.replace("What", "Who")), step(ANSWER), seed=3),
        attempt(step(LOOK), step(GUESS), seed=4),
        attempt(step(LOOK), step(ANSWER), task=other, seed=5),
    ]
    selection = select(samples)
    assert [kept.provenance["seed"] for kept in selection.kept] == [0, 3, 5]
    assert [verdict["passed"] for verdict in selection.verdicts] == [True, True, True, True, False, True]
    assert [verdict["kept"] for verdict in selection.verdicts] == [True, False, False, True, False, True]
    assert selection.kept[0].verification["rejection_sampling"] == {"passed": True, "reasons": []}


# Pairs


def test_a_pair_is_a_right_and_a_wrong_step_after_the_same_words():
    good, bad = attempt(step(LOOK), step(ANSWER), seed=0), attempt(step(LOOK), step(GUESS), seed=1)
    (pair,) = step_pairs([good, bad])
    assert codes([pair]) == [(ANSWER, GUESS)]
    assert pair["prompt"] == good.to_messages()[:-1]
    assert [message["role"] for message in pair["prompt"]] == ["system", "user", "assistant", "user"]
    assert [image["bytes"] for image in pair["images"]] == [TASK.images[0].read_bytes()]


def test_samples_branch_where_their_observations_differ():
    """After other words the same wrong step is no alternative."""
    good, bad = attempt(step(LOOK), step(ANSWER)), attempt(step(LOOK, observation="blue"), step(GUESS))
    assert list(step_pairs([good, bad])) == []


def test_samples_branch_where_their_pictures_differ():
    first, second = picture(7, "outputs/image_0.png"), picture(8, "outputs/image_0.png")

    def saw(brought: File, last: str) -> Trajectory:
        return attempt(step(LOOK, images=[1]), step(last), images=[brought])

    assert codes(list(step_pairs([saw(first, ANSWER), saw(first, GUESS)]))) == [(ANSWER, GUESS)]
    assert list(step_pairs([saw(first, ANSWER), saw(second, GUESS)])) == []


def test_one_sample_does_not_condemn_a_step_that_ran_and_went_on():
    good = attempt(step(LOOK), step(ANSWER))
    other = LOOK.replace("What", "Who")

    def went_wrong(thought: str) -> Trajectory:
        return attempt(step(other, thought=thought), step(GUESS))

    assert list(step_pairs([good, went_wrong("a")])) == []
    assert codes(list(step_pairs([good, went_wrong("a"), went_wrong("b")]))) == [(LOOK, other)]


def test_a_failed_step_is_wrong_at_once():
    good = attempt(step(LOOK), step(ANSWER))
    failed = attempt(step("visualizer(1, 2)", error="no such file"), step(LOOK), step(ANSWER))
    assert codes(list(step_pairs([good, failed]))) == [(LOOK, "visualizer(1, 2)")]


def test_the_step_that_led_to_verified_ends_most_often_is_the_right_one():
    often, seldom = LOOK, LOOK.replace("What", "Who")
    samples = [
        attempt(step(seldom), step(ANSWER)),
        attempt(step(seldom, observation="blue"), step(GUESS)),
        attempt(step(often), step(ANSWER)),
        attempt(step(GUESS)),
    ]
    assert codes(list(step_pairs(samples))) == [(often, GUESS)]


def test_without_a_verified_sample_there_are_no_pairs():
    assert list(step_pairs([attempt(step(GUESS)), attempt(step(LOOK), step(GUESS))])) == []


def test_tasks_do_not_mix():
    other = Task.create("Which colour?", [picture(2, "files/photo.png")], ground_truth="red", tools=("visualizer",))
    assert list(step_pairs([attempt(step(LOOK), step(ANSWER)), attempt(step(GUESS), task=other)])) == []


# Datasets


def test_kept_samples_and_pairs_are_datasets_to_train_on(tmp_path):
    samples = [
        attempt(step(LOOK, output_ids=[5, 6]), step(ANSWER, output_ids=[7])),
        attempt(step(LOOK, output_ids=[5, 6]), step(GUESS, output_ids=[8, 9]), seed=1),
    ]
    selection = select(samples)
    write_trajectories(tmp_path / "kept", selection)
    write_pairs(tmp_path / "pairs", step_pairs(samples))

    (kept,) = load_rows(str(tmp_path / "kept"), "train")
    assert kept["id"].startswith(TASK.id) and len(kept["images"]) == 1
    assert [step["output_ids"] for step in kept["steps"]] == [[5, 6], [7]]
    verdicts = [json.loads(line) for line in (tmp_path / "kept" / "verdicts.jsonl").read_text().splitlines()]
    assert [verdict["reasons"] for verdict in verdicts] == [[], [WRONG]]

    (pair,) = load_rows(str(tmp_path / "pairs"), "train")
    assert pair["output_ids"] == {"prompt": [[5, 6]], "chosen": [7], "rejected": [8, 9]}
    assert pair["images"][0]["bytes"] == kept["images"][0]["bytes"] is not None


def test_folders_of_one_name_are_not_taken_for_each_other(tmp_path):
    """`load_dataset` keeps its copy of a local folder by the names in it."""
    for number, code in enumerate([ANSWER, f"{ANSWER}\nprint(1)"]):
        write_trajectories(tmp_path / str(number) / "kept", select([attempt(step(LOOK), step(code), answer="red")]))
    first, second = (load_rows(str(tmp_path / number / "kept"), "train")[0]["id"] for number in "01")
    assert first != second
