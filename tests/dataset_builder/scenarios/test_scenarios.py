"""The offline teacher: families, programs, files and verdicts, with the real agent and the real tools."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_builder import DOMAINS
from dataset_builder.scenarios import SCENARIOS, ProgramStep, ScenarioTask, make_task
from dataset_builder.scenarios.base import TOOL_NAMES, program_problems
from dataset_builder.scenarios.families.vision_only import PATH
from dataset_builder.scenarios.solving import make_agent, solve
from t3_agents.agent.agent import T3Agent
from t3_agents.answers import answers_match
from t3_agents.task import File
from tests.helpers import ROOT


BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
each_family = pytest.mark.parametrize("scenario", SCENARIOS, ids=list(BY_NAME))


def with_move(made: ScenarioTask, position: int, move: ProgramStep) -> ScenarioTask:
    """The same task with another move in its program."""
    program = list(made.program)
    program[position] = move
    return replace(made, program=tuple(program))


@each_family
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_family_makes_valid_tasks(scenario, seed, tmp_path):
    made = make_task(scenario, seed, 0, tmp_path)
    assert program_problems(made) == []
    flags = {"unseen": scenario.unseen, "vision_only": scenario.vision_only}
    assert made.task.origin == {"family": scenario.name, "seed": seed, "index": 0, **flags}
    assert made.task.domain == scenario.domain
    assert {file.path.rpartition("/")[0] for file in made.task.files} <= {"files"}


@each_family
def test_the_same_arguments_give_the_same_bytes(scenario, tmp_path):
    # The state of the global generator must not matter.
    random.seed(1)
    first = make_task(scenario, 5, 3, tmp_path / "a")
    random.seed(2)
    second = make_task(scenario, 5, 3, tmp_path / "b")
    assert first == second
    assert [file.read_bytes() for file in first.task.files] == [file.read_bytes() for file in second.task.files]


def test_another_process_makes_the_same_tasks(tmp_path):
    names = ["receipt_tip", "invoice_key", "clinic_letter", "project_slides", "shop_sales", "look_people"]
    code = (
        "import sys; from dataset_builder.scenarios import SCENARIOS, make_task\n"
        "for scenario in SCENARIOS:\n"
        f"    if scenario.name in {names}:\n"
        "        print(scenario.name, make_task(scenario, 9, 4, f'{sys.argv[1]}/{scenario.name}').task.id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "other")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    here = {name: make_task(BY_NAME[name], 9, 4, tmp_path / name).task.id for name in names}
    assert dict(line.split() for line in printed.splitlines()) == here


@each_family
@pytest.mark.parametrize("count", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_tasks_of_a_family_differ(scenario, count, tmp_path):
    made = [make_task(scenario, 0, index, tmp_path / str(index)) for index in range(count)]
    # Few bare questions can be asked about a capital or a memo; a large collection frames them in many ways.
    assert len({m.task.id for m in made}) >= 0.75 * count
    assert len({m.task.ground_truth for m in made}) > 1
    assert len(scenario.phrasings) >= 4


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize(
    ("family", "slot"), [("receipt_tip", "{tip}"), ("rain_chart", "{low}"), ("medicine_label", "{count}")]
)
def test_few_tasks_have_every_kind(family, slot, seed, tmp_path):
    scenario = BY_NAME[family]
    made = [make_task(scenario, seed, index, tmp_path / str(index)) for index in range(len(scenario.phrasings))]
    expected = sum(slot not in phrasing for phrasing in scenario.phrasings)
    # A value that is looked up is the answer as it stands.
    assert sum(m.program[-1].thought.startswith("The ") for m in made) == expected


def test_the_collection_is_as_varied_as_promised(tmp_path):
    made = [make_task(scenario, 0, 0, tmp_path / scenario.name) for scenario in SCENARIOS]
    suffixes = {Path(file.path).suffix for m in made for file in m.task.files}
    assert suffixes == set(".png .jpg .pdf .docx .xlsx .pptx .csv .json .mp3 .mp4".split())
    assert {m.task.domain for m in made} <= set(DOMAINS)
    assert len({m.task.domain for m in made}) >= 10
    assert set(Counter(len(m.program) for m in made)) >= {2, 3, 4}
    assert sum(len(m.task.files) == 2 for m in made) >= 2
    tools = Counter(tool for m in made for tool in set(m.task.tools))
    assert tools["ask_search_agent"] >= 2
    assert set(tools) == set(TOOL_NAMES)
    assert len(BY_NAME) == len(SCENARIOS)
    held_out = sum(scenario.unseen for scenario in SCENARIOS)
    assert held_out >= 3 and len(SCENARIOS) - held_out >= 14


def test_vision_only_families_differ_in_nothing_but_the_picture(tmp_path):
    asked, tools = {}, set()
    for scenario in (s for s in SCENARIOS if s.vision_only):
        made = [make_task(scenario, 0, index, tmp_path / scenario.name / str(index)) for index in range(60)]
        asked[scenario.name] = {m.task.query for m in made}
        assert {file.path for m in made for file in m.task.files} == {PATH}
        # The first move follows from the family, so it can be learned from the look alone.
        assert len({m.program[0] for m in made}) == 1
        tools.add(made[0].task.tools)
    assert len(asked) >= 3
    questions = {tuple(scenario.phrasings) for scenario in SCENARIOS if scenario.vision_only}
    assert len(questions) == 1 and all(queries == {*next(iter(questions))} for queries in asked.values())
    assert len(tools) == len(asked)


def test_programs_are_checked_without_running(tmp_path):
    made = make_task(BY_NAME["device_plate"], 0, 0, tmp_path)
    first, last = made.program
    path = made.task.files[0].path

    def problems(position: int, move: ProgramStep) -> str:
        return " ".join(program_problems(with_move(made, position, move)))

    assert "does not compile" in problems(0, ProgramStep(first.thought, "print("))
    assert "the task expects ['visualizer']" in problems(0, ProgramStep(first.thought, f'print(open("{path}"))'))
    assert "files/other.png" in problems(0, ProgramStep(first.thought, 'print(visualizer("files/other.png", "x"))'))
    assert "never uses" in problems(0, ProgramStep(first.thought, 'print(visualizer("x", "x"))'))
    assert "not one line" in problems(0, ProgramStep("", first.code))
    assert "known to be right" in problems(1, ProgramStep(last.thought, 'final_answer("wrong")'))
    assert "known to be right" in problems(1, ProgramStep(last.thought, 'if False:\n    final_answer("1")'))
    assert "does not call final_answer" in problems(1, ProgramStep(last.thought, "print(1)"))
    assert "by itself" in problems(1, ProgramStep(last.thought, "final_answer(boxes)"))
    assert "before the last one" in problems(0, ProgramStep(first.thought, first.code + "\nfinal_answer(1)"))
    assert "not known" in " ".join(program_problems(replace(made, task=replace(made.task, ground_truth=None))))
    assert "none of the domains" in " ".join(
        program_problems(replace(made, task=replace(made.task, domain="cooking")))
    )
    assert "1 moves" in " ".join(program_problems(replace(made, program=(last,))))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.docx", b"PK\x05\x06" + bytes(18)),
        ("a.pdf", b"%PDF-1.4 cut off"),
        ("a.csv", b"a,b\n1\n"),
        ("a.json", b"{"),
        ("a.mp3", b"\xff"),
        ("a.mp4", b"not a film"),
    ],
)
def test_files_must_be_what_their_names_say(name, data, tmp_path):
    made = make_task(BY_NAME["device_plate"], 0, 0, tmp_path)
    (tmp_path / name).write_bytes(data)
    file = File.from_path(tmp_path / name)
    task = replace(made.task, files=(file,))
    assert f"files/{name} " in " ".join(program_problems(replace(made, task=task)))


def test_a_lost_or_changed_file_is_a_problem(tmp_path):
    made = make_task(BY_NAME["bird_counts"], 0, 0, tmp_path)
    file = made.task.files[0]
    file.source.write_text("bird,seen\nowl,1\n")
    assert program_problems(made) == [f"{file.path} was changed after it was attached."]
    file.source.unlink()
    assert program_problems(made) == [f"{file.path} is missing."]


# One family per tool and per way of computing runs by default; all of them run with the slow tests.
QUICK = """
invoice_key order_delivery shop_sales bird_counts device_record project_slides airport_pair rotated_label
look_slip look_people look_shapes capital_quiz network_tour mosaic_mark expense_sheet account_report poll_table
expedition_brief menu_chart dinner_memo offer_clip
""".split()


@pytest.mark.parametrize("name", QUICK)
def test_the_teacher_solves_its_tasks(name, tmp_path):
    check_solved(name, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_teacher_solves_every_family(name, seed, tmp_path):
    check_solved(name, seed, tmp_path)


def check_solved(name: str, seed: int, folder: Path) -> None:
    made = make_task(BY_NAME[name], seed, 0, folder)
    trajectory = solve(made)
    assert trajectory.verification == {
        "query_file": {"passed": True, "reasons": []},
        "trajectory": {"passed": True, "reasons": []},
    }
    assert trajectory.provenance["teacher"] == "scenarios"
    assert [step.thought for step in trajectory.actions] == [move.thought for move in made.program]
    assert [step.code for step in trajectory.actions] == [move.code for move in made.program]
    assert answers_match(trajectory.answer, made.task.ground_truth)


def test_an_edited_picture_is_shown(tmp_path):
    trajectory = solve(make_task(BY_NAME["rotated_label"], 0, 1, tmp_path))
    assert trajectory.actions[0].images == [1]
    assert len(trajectory.images) == 2


LOOKS_AWAY = 'print(len(inspect_file_as_text("{path}")))'
ASKS_THE_WRONG_TOOL = 'print(visualizer("{path}", "owner"))'


@pytest.mark.parametrize(
    ("name", "position", "code", "reasons", "well_formed"),
    [
        # The program is well-formed and its answer is right, but no observation showed it.
        ("device_record", 0, LOOKS_AWAY, ["which nothing before it shows"], True),
        ("device_record", 0, ASKS_THE_WRONG_TOOL, ["Step 1 failed", "['inspect_file_as_text'] are expected"], False),
        ("bird_counts", -1, 'final_answer("dodo")', ["is known to be right"], False),
        *(
            ("bird_counts", -1, code, ["There is no answer"], False)
            for code in ("final_answer(1 / 0)", "print(1)", "final_answer(")
        ),
    ],
)
def test_a_program_that_does_not_solve_its_task_is_dropped(name, position, code, reasons, well_formed, tmp_path):
    made = make_task(BY_NAME[name], 0, 0, tmp_path)
    code = code.replace("{path}", made.task.files[0].path)
    verdicts = solve(with_move(made, position, ProgramStep("I try it.", code))).verification
    assert not verdicts["trajectory"]["passed"] and verdicts["query_file"]["passed"] == well_formed
    assert all(reason in " ".join(verdicts["trajectory"]["reasons"]) for reason in reasons)


def test_a_run_without_an_answer_is_dropped(tmp_path):
    def limited_agent(outputs: list[str]) -> T3Agent:
        agent = make_agent(outputs)
        agent.max_steps = 1
        return agent

    trajectory = solve(make_task(BY_NAME["bird_counts"], 0, 0, tmp_path), limited_agent)
    assert trajectory.end_reason == "max_steps"
    assert trajectory.verification["trajectory"]["reasons"][0] == "There is no answer: the run ended with max_steps."
