"""GAIA from files to results, with a controller whose score is known by construction."""

import json
import shutil
import threading

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.config import ScoreConfig
from t3_agents.evaluation.gaia.benchmark import ANSWER_FORM, GAIAConfig, load_gaia
from t3_agents.evaluation.results import read_results, read_scores, read_trajectories
from t3_agents.evaluation.run import evaluate, score_run
from t3_agents.models.scripted import ScriptedModel
from tests.helpers.made_benchmarks import GAIA_ROWS, SECRET, gaia_agent, gaia_rows, gaia_script, make_gaia, say


def config(data, output, **options):
    return GAIAConfig(agent="script", output=str(output), dataset=str(data), num_workers=4, **options)


def run_script(data, output, model=None, **options):
    model = model or gaia_script()
    return evaluate(config(data, output, **options), lambda: gaia_agent(model))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_gaia(tmp_path_factory.mktemp("gaia") / "made-gaia")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    return output, run_script(data, output)


RIGHT = [row[4] for row in GAIA_ROWS]


def test_the_score_is_the_constructed_one(run):
    output, results = run
    assert sum(RIGHT) == 10
    assert results["metrics"]["ans_acc"]["value"] == 10 / 20
    assert results["metrics"]["ans_acc"]["n"] == 20
    levels = {level: metrics["ans_acc"]["value"] for level, metrics in results["breakdown"]["level"].items()}
    assert levels == {"1": 5 / 8, "2": 4 / 8, "3": 1 / 4}
    assert [score.correct for score in sorted(read_scores(output), key=lambda s: s.task_id)] == RIGHT
    assert set(results["breakdown"]["attachment"]) == {"none", "txt", "csv", "png", "json"}
    assert results["errors"]["gave_up"] == 3  # two without an answer and one with an empty one
    assert results == read_results(output)


def test_questions_are_in_the_trajectories_only(data, tmp_path, capfd):
    results = run_script(data, tmp_path / "run")
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err + json.dumps(results)
    holding = {p.name for p in (tmp_path / "run").rglob("*") if p.is_file() and SECRET in p.read_text(errors="ignore")}
    assert holding == {"trajectories.jsonl"}


@pytest.mark.slow
def test_a_thread_that_blocks_is_left_behind_at_the_time_limit_of_its_agent(data, tmp_path):
    class Blocking(type(gaia_script())):
        """Blocks its thread at its first turn, and looks at no interruption."""

        blocked = threading.Event()

        def generate(self, messages, stop_sequences=None, **kwargs):
            if not self.blocked.is_set():
                self.blocked.set()
                threading.Event().wait()
            return super().generate(messages, stop_sequences, **kwargs)

    model = Blocking(gaia_script().turns)
    evaluate(config(data, tmp_path / "run", limit=3, format_answers=True), lambda: gaia_agent(model, time_limit=1))
    late = [t for t in read_trajectories(tmp_path / "run") if "failure" in t.provenance]
    assert len(late) == 1 and late[0].end_reason == "time_limit"
    assert "did not end" in late[0].provenance["failure"] and late[0].provenance["controller"] == "script"


def test_a_failure_that_quotes_the_question_is_a_row_without_it(data, tmp_path):
    class Quoting(type(gaia_script())):
        def generate(self, messages, stop_sequences=None, **kwargs):
            raise RuntimeError(f"cannot read {messages[-1].content}")

    results = run_script(data, tmp_path / "run", Quoting({}), limit=2)
    rows = (tmp_path / "run" / "scores.jsonl").read_text()
    assert SECRET not in rows
    assert [score.reason for score in read_scores(tmp_path / "run")] == ["AgentGenerationError"] * 2
    assert results["metrics"]["ans_acc"]["value"] == 0
    assert results["errors"] == {"runtime": 2}


def test_parquet_and_jsonl_are_the_same(data, tmp_path):
    parquet = load_gaia(make_gaia(tmp_path, parquet=True))
    assert [task.to_dict() for task in parquet.tasks] == [task.to_dict() for task in load_gaia(data).tasks]
    assert len(parquet.tasks) == 20
    place = tmp_path / "2023" / "validation"
    (place / "metadata.parquet").rename(place / "metadata.level1.parquet")
    assert len(load_gaia(tmp_path).tasks) == 20
    # A folder of the split will do.
    assert load_gaia(data / "2023" / "validation").tasks == load_gaia(data).tasks


def test_levels_and_attachments(data):
    loaded = load_gaia(data, levels=["2", "3"])
    assert {task.origin["level"] for task in loaded.tasks} == {"2", "3"}
    (task,) = [task for task in load_gaia(data).tasks if task.id == "made-06"]
    assert [file.path for file in task.files] == ["files/photo.png"]
    assert task.query.endswith(ANSWER_FORM)
    assert "commas" in ANSWER_FORM


def test_the_test_split_has_a_submission_and_no_score(run, tmp_path):
    data = make_gaia(tmp_path / "gaia", split="test")
    results = run_script(data, tmp_path / "run", split="test")
    assert "ans_acc" not in results["metrics"]
    assert all(score.correct is None for score in read_scores(tmp_path / "run"))
    submission = (tmp_path / "run" / "submission.jsonl").read_text()
    lines = [json.loads(line) for line in submission.splitlines()]
    answers = {line["task_id"]: line["model_answer"] for line in lines}
    assert answers == {f"made-{n:02d}": row[3] or "" for n, row in enumerate(GAIA_ROWS)}
    assert all(set(line) == {"task_id", "model_answer", "reasoning_trace"} for line in lines)
    assert "print('thinking')" in lines[0]["reasoning_trace"] and SECRET not in submission
    assert not (run[0] / "submission.jsonl").exists()


class TestFormatting:
    @pytest.mark.parametrize(
        ("reply", "answer", "right"),
        [
            ("FINAL ANSWER: 17", "17", True),
            ("Let me see.\nFinal answer:  17 ", "17", True),
            ("FINAL ANSWER: 16\nFINAL ANSWER: 17", "17", True),
            ("17", "seventeen, I think", False),
            ("FINAL ANSWER:", "seventeen, I think", False),
        ],
    )
    def test_one_more_call_brings_the_answer_into_form(self, data, tmp_path, reply, answer, right):
        model = ScriptedModel([say("seventeen, I think"), reply])
        results = run_script(data, tmp_path / "run", model, limit=1, format_answers=True)
        (trajectory,) = read_trajectories(tmp_path / "run")
        assert trajectory.provenance["formatted_answer"] == answer
        assert trajectory.answer == "seventeen, I think"
        assert results["metrics"]["ans_acc"]["value"] == float(right)
        assert results["scoring_details"]["formatted_answers"] is True


def change(**values):
    return lambda row: row.update(values)


BAD = {
    "no id": (lambda row: row.pop("task_id"), "no `task_id`"),
    "empty question": (change(Question=" "), "`Question`"),
    "question of a wrong type": (change(Question=["x"]), "`Question`"),
    "level": (change(Level=4), "`Level` is 4"),
    "no level": (lambda row: row.pop("Level"), "`Level`"),
    "no answer": (change(**{"Final answer": None}), "`Final answer`"),
    "empty answer": (change(**{"Final answer": ""}), "`Final answer`"),
    "answer of a wrong type": (change(**{"Final answer": 17}), "`Final answer`"),
    "missing file": (change(file_name="none.pdf"), "no file none.pdf"),
    "file outside": (change(file_name="../../../x.pdf"), "not a path inside"),
    "file of a wrong type": (change(file_name=7), "`file_name`"),
    "torn picture": (change(file_name="torn.png"), "not a readable image"),
    "empty file": (change(file_name="empty.txt"), "0 bytes"),
}


@pytest.fixture
def bad_data(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "gaia")
    place = folder / "2023" / "validation"
    (place / "torn.png").write_bytes((place / "photo.png").read_bytes()[:60])
    (place / "empty.txt").write_bytes(b"")
    lines = []
    for number, (name, (edit, _)) in enumerate(BAD.items()):
        row = gaia_rows("validation")[0] | {"task_id": f"bad-{number}", "Question": f"made question 0 {SECRET} {name}"}
        edit(row)
        lines.append(json.dumps(row))
    good = json.dumps(gaia_rows("validation")[0])
    lines += ["{broken", "[1]", good, json.dumps(gaia_rows("validation")[1]), good]
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_all_bad_rows_are_named_before_anything_runs(bad_data, tmp_path):
    def refuse():
        raise AssertionError("an agent was made")

    with pytest.raises(InputError) as refusal:
        evaluate(config(bad_data, tmp_path / "run"), refuse)
    text = str(refusal.value)
    assert SECRET not in text
    for number, (_, reason) in enumerate(BAD.values()):
        assert f"{'row 1' if number == 0 else f'bad-{number}'}: " in text
        assert reason in text
    assert f"row {len(BAD) + 1}: the line is not a JSON object" in text
    assert f"row {len(BAD) + 2}: the line is not a JSON object" in text
    assert "made-00: the id is there twice" in text
    assert text.startswith(f"{len(BAD) + 3} rows")


def test_bad_rows_may_be_left_out_and_are_counted(bad_data, tmp_path):
    results = run_script(bad_data, tmp_path / "run", skip_bad_rows=True)
    assert results["num_tasks"] == 1
    assert results["scoring_details"]["skipped_rows"] == len(BAD) + 3


class TestRefusals:
    def test_it_is_gated(self):
        with pytest.raises(InputError, match="gated.*hf auth login"):
            load_gaia()

    def test_a_folder_without_rows(self, tmp_path):
        with pytest.raises(InputError, match="no split of GAIA"):
            load_gaia(tmp_path)
        (tmp_path / "metadata.parquet").write_bytes(b"PAR1 not really")
        with pytest.raises(InputError, match="not a readable Parquet"):
            load_gaia(tmp_path)

    @pytest.mark.parametrize("options", [{"split": "train"}, {"levels": ["4"]}, {"levels": []}])
    def test_splits_and_levels(self, data, options):
        with pytest.raises(InputError, match="validation and test"):
            load_gaia(data, **options)

    def test_another_question_in_the_same_folder(self, data, tmp_path):
        run_script(data, tmp_path / "run", limit=1)
        with pytest.raises(Exception, match="other settings"):
            run_script(data, tmp_path / "run", limit=2)


def test_it_can_be_scored_again(run, tmp_path):
    output = shutil.copytree(run[0], tmp_path / "copy")
    (output / "results.json").unlink()
    results = score_run(ScoreConfig(run=str(output), input_price=2.0, output_price=0.0))
    assert results["metrics"] == run[1]["metrics"]
    assert results["usage"]["total"]["cost"] == pytest.approx(results["usage"]["total"]["input_tokens"] * 2e-6)
    with pytest.raises(InputError, match="holds no run"):
        score_run(ScoreConfig(run=str(tmp_path)))
