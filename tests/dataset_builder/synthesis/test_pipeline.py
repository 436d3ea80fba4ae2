"""The run of a synthesis: nothing lost, nothing twice, whatever happens to the process."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from pathlib import Path

import pytest

from dataset_builder.synthesis.candidate import Candidate, Failed, Rejected
from dataset_builder.synthesis.pipeline import NoQueries, Pipeline, Stage, Stages
from dataset_builder.synthesis.progress import BudgetSpent
from dataset_builder.synthesis.run_folder import IN_FLIGHT, OUTCOMES, candidate_id_of
from t3_agents.errors import RunFolderError
from t3_agents.models.endpoint import EndpointError
from t3_agents.sandbox.executor import SandboxError
from t3_agents.storage import RunFolder, read_rows
from t3_agents.trajectory import Trajectory
from t3_agents.turns import Step
from t3_agents.verifiers import MachineFailure


def generate(batch: int) -> list[Candidate]:
    number = 0 if batch % 7 == 3 else 5
    return [
        Candidate(f"gta-{batch}-{n}", "gta", f"How many apples has basket {5 * batch + n}?") for n in range(number)
    ]


def check(candidate: Candidate, duplicate_of: str | None) -> Candidate:
    if duplicate_of:
        raise Rejected("queries", f"near duplicate of: {duplicate_of}", candidate)
    return candidate


def duplicates(queries: list[str]) -> list[str | None]:
    return ["How many apples has basket 0?" if "basket 1?" in query else None for query in queries]


def number_of(candidate: Candidate) -> int:
    _, batch, number = candidate.id.split("-")
    return 5 * int(batch) + int(number)


def plan(candidate: Candidate) -> Candidate:
    if number_of(candidate) % 10 == 2:
        raise Failed("plan", "the reply is empty", candidate)
    return candidate.add("plan", {"model": "m"})


def solve(candidate: Candidate) -> Candidate:
    if number_of(candidate) % 10 == 4:
        raise Rejected("solve", "no answer", candidate)
    if number_of(candidate) % 10 == 7:
        raise RuntimeError("a stage has a mistake")
    steps = [Step(model_output="x", code="final_answer(3)", is_final=True)]
    return candidate.add("solve", {}, trajectory=Trajectory(candidate.to_task(), steps=steps, answer="3"))


STAGES = [Stage("plan", plan), Stage("solve", solve)]


def make(folder: Path, num_tasks: int = 40, concurrency: int = 8, stages: list[Stage] = STAGES, **changes) -> Pipeline:
    folder.mkdir(exist_ok=True)
    parts = {"generate": generate, "check": check, "duplicates": duplicates, **changes}
    return Pipeline(Stages(stages=stages, queries_per_batch=5, **parts), folder, "gta", num_tasks, concurrency)


def outcomes(folder: Path) -> dict[str, str]:
    """Outcome by candidate; fails when one is there twice."""
    found = {}
    for outcome, place in OUTCOMES.items():
        for path in (folder / place).glob("*.jsonl"):
            for row in read_rows(path):
                assert candidate_id_of(row) not in found
                found[candidate_id_of(row)] = outcome
    return found


def test_every_candidate_has_one_outcome_and_its_reason(tmp_path):
    make(tmp_path).run()
    found = outcomes(tmp_path)
    assert len(found) == 40 and not list((tmp_path / IN_FLIGHT).iterdir())
    assert found["gta-0-1"] == "rejected" and found["gta-0-2"] == "failed" and found["gta-0-0"] == "kept"
    rows = [row for path in (tmp_path / "failed").glob("*") for row in read_rows(path)]
    reasons = {row["id"]: row["reasons"] for row in rows}
    assert reasons["gta-0-2"] == ["plan: the reply is empty"]
    assert reasons["gta-1-2"] == ["solve: RuntimeError: a stage has a mistake"]
    batches = list(read_rows(tmp_path / "queries.jsonl"))
    assert [row["batch"] for row in batches] == list(range(len(batches))) and batches[3]["candidates"] == []


def test_a_larger_number_of_tasks_adds_to_a_finished_run(tmp_path):
    make(tmp_path, num_tasks=13).run()
    first = outcomes(tmp_path)
    make(tmp_path, num_tasks=40).run()
    make(tmp_path / "whole", num_tasks=40).run()
    assert first.items() <= outcomes(tmp_path).items() and len(first) == 13
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")


def test_finishing_completes_what_is_under_way_and_the_next_run_the_rest(tmp_path):
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(candidate: Candidate) -> Candidate:
        begun.release()
        assert go.wait(20)
        return candidate

    pipeline = make(tmp_path, concurrency=3, stages=[Stage("slow", slow), *STAGES])
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    for _ in range(3):
        assert begun.acquire(timeout=20)
    pipeline.finish()
    go.set()
    runner.join(20)
    assert not runner.is_alive()
    assert len(outcomes(tmp_path)) == 4  # three were in the slow stage, and the duplicate came before it
    assert not list((tmp_path / IN_FLIGHT).iterdir())
    make(tmp_path, stages=[Stage("slow", slow), *STAGES]).run()
    make(tmp_path / "whole", stages=[Stage("slow", slow), *STAGES]).run()
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")


def test_a_spent_budget_keeps_what_is_under_way_and_its_finished_stages(tmp_path):
    planned, allowed = [], 12

    def count(candidate: Candidate) -> Candidate:
        planned.append(candidate.id)
        return plan(candidate)

    def spend(candidate: Candidate) -> Candidate:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise BudgetSpent("The budget of 12 tokens is spent.")
        return solve(candidate)

    stages = [Stage("plan", count), Stage("solve", spend)]
    with pytest.raises(BudgetSpent, match="12 tokens"):
        make(tmp_path, concurrency=4, stages=stages).run()
    held = [path.stem for path in (tmp_path / IN_FLIGHT).iterdir()]
    assert held and not set(held) & set(outcomes(tmp_path))
    allowed = 1000
    make(tmp_path, stages=stages).run()
    make(tmp_path / "whole").run()
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")
    assert len(planned) == len(set(planned))  # no finished stage is done again


@pytest.mark.parametrize(
    "error",
    [
        EndpointError("no connection.", outage=True),
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.ENOMEM, errno.EIO, errno.EMFILE)),
        MemoryError(),
        SandboxError("The sandbox does not start: it ended."),
        MachineFailure("No space left on device."),
    ],
    ids=repr,
)
def test_a_teacher_that_is_down_or_a_machine_that_fails_stops_the_run_and_fails_no_candidate(tmp_path, error):
    broken = True

    def call(candidate: Candidate) -> Candidate:
        if broken and number_of(candidate) > 10:
            raise error
        return candidate

    stages = [Stage("call", call), *STAGES]
    with pytest.raises(EndpointError if isinstance(error, EndpointError) else MachineFailure):
        make(tmp_path, stages=stages).run()
    broken = False
    make(tmp_path, stages=stages).run()
    make(tmp_path / "whole").run()
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")


@pytest.mark.parametrize("place", ["generate", "plan", "solve"])
def test_a_machine_that_fails_now_and_then_loses_nothing(tmp_path, place):
    calls = itertools.count()

    def failing(function):
        def call(value):
            if next(calls) % 3 == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(value)

        return call

    stages = [Stage(stage.name, failing(stage.run) if stage.name == place else stage.run) for stage in STAGES]
    changes = {"generate": failing(generate)} if place == "generate" else {}
    make(tmp_path, concurrency=1, stages=stages, **changes).run()
    make(tmp_path / "whole").run()
    assert next(calls) > 10 and outcomes(tmp_path) == outcomes(tmp_path / "whole")


def test_one_request_that_never_comes_back_fails_its_candidate_alone(tmp_path):
    def call(candidate: Candidate) -> Candidate:
        if candidate.id == "gta-1-0":
            raise EndpointError("no word for 2 seconds.", outage=True)
        return plan(candidate)

    make(tmp_path, concurrency=1, stages=[Stage("plan", call), STAGES[1]]).run()
    assert outcomes(tmp_path)["gta-1-0"] == "failed" and len(outcomes(tmp_path)) == 40


def test_a_teacher_without_queries_is_given_up(tmp_path):
    with pytest.raises(NoQueries, match="10 batches in a row"):
        make(tmp_path, generate=lambda batch: []).run()
    assert [row["batch"] for row in read_rows(tmp_path / "queries.jsonl")] == list(range(10))


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with RunFolder(tmp_path / "run", {"command": "synth"}), pytest.raises(RunFolderError, match="Another process"):
        RunFolder(tmp_path / "run", {"command": "synth"})
    pipeline = make(tmp_path / "other")
    with pytest.raises(RunFolderError):
        make(tmp_path / "other")
    pipeline.run()


def test_torn_files_of_a_killed_run_are_passed_over(tmp_path):
    make(tmp_path, num_tasks=20).run()
    with (tmp_path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"id": "gta-0')
    with (tmp_path / "shards" / "train-gta.jsonl").open("ab") as stream:
        stream.write(b'{"format": "t3-traj')
    (tmp_path / IN_FLIGHT / "gta-4-1.json").write_text('{"stage": "pl')
    pipeline = make(tmp_path)
    pipeline.run()
    make(tmp_path / "whole").run()
    assert outcomes(tmp_path) == outcomes(tmp_path / "whole")
    stages = pipeline.progress.stages
    assert stages["solve"].done == stages["plan"].outcomes["passed"]


def test_candidates_do_not_wait_for_each_other(tmp_path):
    """One candidate is stuck in its first stage until all others are through their last."""
    others, seen = threading.Event(), []

    def wait(candidate: Candidate) -> Candidate:
        if candidate.id == "gta-0-0":
            assert others.wait(600)
        return candidate

    def count(candidate: Candidate) -> Candidate:
        candidate = solve(candidate)
        seen.append(candidate.id)
        if len(seen) == 5:
            others.set()
        return candidate

    make(tmp_path, num_tasks=15, concurrency=2, stages=[Stage("plan", wait), Stage("solve", count)]).run()
    assert "gta-0-0" in seen[5:]
