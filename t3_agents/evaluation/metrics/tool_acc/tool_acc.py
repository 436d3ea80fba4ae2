"""ToolAcc: share of expected tool calls that were made in their place."""

from t3_agents.errors import InputError
from t3_agents.evaluation.metrics import base
from t3_agents.evaluation.statistics import rate
from t3_agents.verifiers import calls_in_place


class ToolAcc(base.RowMetric):
    """ToolAcc is the share of expected tool calls that were made in their place: the i-th expected call is right when
    the i-th call names the same tool. An extra call shifts those after it; calls after the last expected one do not
    count. Unlike in the paper, the arguments and the summary of what came back are not judged.

    Args:
        predictions (`list` of `list` of `str`): per trajectory the tools that were called, in order, without
            `final_answer`.
        references (`list` of `list` of `str`): per trajectory the tools that were expected, in order.
    Returns:
        tool_acc (`float`): share of right calls in 0..1, or `None` when no call is expected.
        n (`int`): number of expected calls.
        ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
    Examples:
        >>> metric = evaluate.load(metric_path("tool_acc"))
        >>> metric.compute(predictions=[["visualizer"]], references=[["visualizer", "image_edit"]])["tool_acc"]
        0.5
    """

    paper = base.AGENT_TUNING
    kind = (list, tuple)

    def check(self, called, expected):
        if not isinstance(expected, (list, tuple)) or not all(isinstance(tool, str) for tool in [*called, *expected]):
            raise InputError("the tools must be lists of names.")

    def measure(self, predictions, references):
        places = (
            calls_in_place(called, [(tool,) for tool in expected])
            for called, expected in zip(predictions, references, strict=True)
        )
        return rate("tool_acc", [right for row in places for right in row])
