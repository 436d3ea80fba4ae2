import json
import zipfile

import pytest

from t3_agents.errors import InputError
from t3_agents.reports.inspect_log import LOG_VERSION, export_inspect_log
from tests.helpers.evaluated_run import make_run


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = make_run(folder / "run", [True, False, True, True, True, True, False])
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    rows[2].update(answer="half \ud800", end_reason="failed", provenance={"failure": "RuntimeError: gone"})
    rows[0]["steps"][0].update(input_tokens=900, output_tokens=100)
    (run / "trajectories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return export_inspect_log(run, folder / "run.eval")


def test_the_members_are_those_of_the_format(log):
    with zipfile.ZipFile(log) as archive:
        assert archive.testzip() is None
        members = {name: json.loads(archive.read(name)) for name in archive.namelist()}
    samples = [f"samples/{number}_epoch_1.json" for number in range(1, 8)]
    assert list(members) == ["_journal/start.json", *samples, "summaries.json", "header.json"]
    header = members["header.json"]
    assert header["version"] == LOG_VERSION and header["eval"]["task"] == "gta"
    assert [score["name"] for score in header["results"]["scores"]] == ["ans_acc", "code_exec"]
    assert members["samples/2_epoch_1.json"]["metadata"]["task_id"] == "task-1"
    assert members["samples/3_epoch_1.json"]["metadata"]["failure"] == "RuntimeError: gone"
    assert len(members["summaries.json"]) == 7


def test_inspect_ai_reads_it(log):
    inspect_log = pytest.importorskip("inspect_ai.log")
    read = inspect_log.read_eval_log(str(log))
    assert (read.version, read.status, read.eval.model) == (LOG_VERSION, "success", "t3-agents/user/agent")
    assert read.eval.dataset.samples == read.results.total_samples == 7
    (answers, _) = read.results.scores
    assert answers.metrics["value"].value == pytest.approx(5 / 7)
    assert answers.metrics["value"].metadata["n"] == 7
    first, second, third = read.samples[:3]
    assert first.input == "How many? (0)" and first.target == "7" and first.output.completion == "7"
    assert first.scores["ans_acc"].value == 1 and second.scores["ans_acc"].value == 0
    assert second.scores["ans_acc"].answer == "8" and "answered 8" in second.scores["ans_acc"].explanation
    assert third.output.completion == "half ?"
    roles = [message.role for message in first.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    kinds = [[part.type for part in message.content] for message in first.messages[1:4]]
    assert kinds == [["image", "text"], ["text"], ["image", "text"]]
    assert first.model_usage["t3-agents/user/agent"].total_tokens == 1000
    assert inspect_log.read_eval_log(str(log), header_only=True).samples is None
    summaries = inspect_log.read_eval_log_sample_summaries(str(log))
    assert [summary.metadata["outcome"] for summary in summaries[:2]] == ["right", "wrong"]
    assert inspect_log.read_eval_log_sample(str(log), id=4, epoch=1).metadata["task_id"] == "task-3"


def test_datasets_reads_it(log, tmp_path):
    from datasets import load_dataset

    rows = load_dataset("eval", data_files=str(log), split="train", cache_dir=str(tmp_path))
    assert rows["id"] == list(range(1, 8)) and rows["target"] == ["7"] * 7
    assert [json.loads(text)["outcome"] for text in rows["metadata"]] == ["right", "wrong", *["right"] * 4, "wrong"]
    assert json.loads(rows[0]["messages"][0])["role"] == "system"


def test_mistakes_are_refused(tmp_path):
    run = make_run(tmp_path / "run", [True], scored=False)
    with pytest.raises(InputError, match="t3 eval score"):
        export_inspect_log(run, tmp_path / "run.eval")
    with pytest.raises(InputError, match=r"<name>\.eval"):
        export_inspect_log(run, tmp_path / "run.json")
