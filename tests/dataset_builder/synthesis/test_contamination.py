import json

import pytest

from dataset_builder.synthesis.contamination import REPORT_FILE, find_contamination, load_questions
from dataset_builder.synthesis.corpus.embedding import TextEmbedding
from dataset_builder.synthesis.run_folder import KEPT, RunFolderStore
from dataset_builder.synthesis.stages.queries import load_seeds
from t3_agents.cli import parse
from t3_agents.errors import InputError
from tests.dataset_builder.synthesis.test_candidate import make_candidate


WORDS = TextEmbedding("words")
QUESTIONS = {
    "gta": {"g1": "How many apples are on the wooden table in the kitchen photo?"},
    "gaia": {
        "a1": "What is the sum of the populations of the two smallest countries that border the lake in the map?",
        "a2": "Which singer recorded the album?",
    },
}


def test_near_and_copied_questions_are_reported():
    copied = "Tell me please: what is the sum of the populations of the two smallest countries that border the sea?"
    queries = {
        "q1": "How many apples are on the wooden table in the kitchen photo, please?",
        "q2": "What did we spend on flour in June?",
        "q3": copied,
    }
    report = find_contamination(queries, QUESTIONS, WORDS, threshold=0.8)
    assert [(near.query_id, near.benchmark, near.question_id) for near in report.near] == [
        ("q1", "gta", "g1"),
        ("q3", "gaia", "a1"),
    ]
    first, second = report.near
    assert first.likeness >= 0.8
    assert second.copied
    assert (report.num_queries, report.num_questions) == (3, {"gta": 1, "gaia": 2})
    assert report.highest >= first.likeness
    json.dumps(report.to_dict())


def test_nothing_to_compare_is_a_report_too():
    assert find_contamination({}, QUESTIONS, WORDS).near == []
    assert find_contamination({"q": "What?"}, {"gta": {}}, WORDS).num_questions == {"gta": 0}


def test_our_seeds_are_not_near_the_sample_questions():
    seeds = {seed.id: seed.query for seed in load_seeds()}
    assert find_contamination(seeds, QUESTIONS, WORDS, threshold=0.7).near == []
    itself = find_contamination(seeds, {"ours": seeds}, WORDS, threshold=0.7)
    assert len(itself.near) == len(seeds)


def write_gaia(place, question):
    row = {"task_id": "one", "Question": question, "Level": 1, "Final answer": "Ann", "file_name": ""}
    folder = place / "2023" / "validation"
    folder.mkdir(parents=True)
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")


def test_questions_come_from_the_benchmarks_files(tmp_path):
    write_gaia(tmp_path, "Who wrote it?")
    assert list(load_questions(gaia=tmp_path)["gaia"].values()) == ["Who wrote it?"]
    with pytest.raises(InputError, match="Give the files"):
        load_questions()


def test_a_run_is_compared_by_the_command(tmp_path, capsys):
    run, candidate = tmp_path / "run", make_candidate()
    run.mkdir()
    store = RunFolderStore(run, "gaia")
    store.finish(KEPT, candidate, "solve", "")
    store.close()
    write_gaia(tmp_path / "near", candidate.query + " Round it.")
    write_gaia(tmp_path / "far", "Who painted the ceiling?")
    options = ["synth", "contamination", str(run), "--embedding", "words"]
    assert parse([*options, "--gaia", str(tmp_path / "far")])() == 0
    assert "0 of 1 queries are near" in capsys.readouterr().out
    assert parse([*options, "--gaia", str(tmp_path / "near")])() == 1
    assert candidate.query in capsys.readouterr().out
    report = json.loads((run / REPORT_FILE).read_text())
    assert report["near"][0]["question_id"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no kept rows"):
        parse(["synth", "contamination", str(tmp_path / "empty"), "--gaia", str(tmp_path / "near")])()
