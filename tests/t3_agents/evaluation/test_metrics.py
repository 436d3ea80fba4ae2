import json

import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation import scoring
from t3_agents.evaluation.metrics import metric_path


evaluate = pytest.importorskip("evaluate")

INPUTS = {
    "ans_acc": {"predictions": [None, "$1,250.00", "", "Rome"], "references": ["x", "1250", "y", "rome"]},
    "tool_acc": {"predictions": [[], ["a", "b"]], "references": [["b"], ["a", "c"]]},
    "code_exec": {"predictions": [[], [True, False, True]]},
}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    return {name: evaluate.load(metric_path(name), cache_dir=str(folder)) for name in scoring.METRICS}


@pytest.mark.parametrize("name", scoring.METRICS)
def test_a_loaded_metric_gives_what_the_function_gives(metrics, name):
    metric = metrics[name]
    expected = getattr(scoring, name)(**INPUTS[name])
    assert metric.compute(**INPUTS[name]) == expected
    assert set(expected) == {name, "n", "ci95"}
    assert "2412.15606" in metric.citation
    assert "Wilson" in metric.inputs_description
    assert metric.module_type == "metric"


@pytest.mark.parametrize("name", scoring.METRICS)
def test_rows_may_come_one_by_one(metrics, name):
    metric, inputs = metrics[name], INPUTS[name]
    for index in range(len(inputs["predictions"])):
        metric.add(**{key.removesuffix("s"): values[index] for key, values in inputs.items()})
    assert metric.compute() == getattr(scoring, name)(**inputs)


@pytest.mark.parametrize("name", scoring.METRICS)
def test_no_rows_give_null_and_not_a_number(metrics, name):
    result = metrics[name].compute(**{key: [] for key in INPUTS[name]})
    assert result == {name: None, "n": 0, "ci95": [None, None]}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("name", scoring.METRICS)
def test_wrong_input_is_refused_and_leaves_nothing_behind(metrics, name):
    wrong = [{key: "ab" for key in INPUTS[name]}, {key: [7] for key in INPUTS[name]}]
    if "references" in INPUTS[name]:
        wrong += [{**INPUTS[name], "references": INPUTS[name]["references"][:1]}, {"predictions": [["a"]]}]
    for inputs in wrong:
        with pytest.raises(InputError):
            metrics[name].compute(**inputs)
    assert metrics[name].compute(**INPUTS[name]) == getattr(scoring, name)(**INPUTS[name])


def test_an_unknown_metric_is_named():
    with pytest.raises(InputError, match="ans_acc, tool_acc, code_exec"):
        metric_path("bleu")
