"""CodeExec: share of turns whose code ran without an error."""

from t3_agents.errors import InputError
from t3_agents.evaluation.metrics import base
from t3_agents.evaluation.statistics import rate


class CodeExec(base.RowMetric):
    """CodeExec is the share of turns that a controller produced whose code ran without an error. A turn without code
    that could be parsed counts as one that did not run.

    Args:
        predictions (`list` of `list` of `bool`): per trajectory one value for each turn: whether it held code that ran
            without an error.
    Returns:
        code_exec (`float`): share of such turns in 0..1, or `None` without turns.
        n (`int`): number of turns.
        ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
    Examples:
        >>> metric = evaluate.load(metric_path("code_exec"))
        >>> metric.compute(predictions=[[True, True], [False, True]])["code_exec"]
        0.75
    """

    paper = base.AGENT_TUNING
    kind = (list, tuple)
    columns = ("predictions",)

    def check(self, turns):
        if not all(isinstance(ran, bool) for ran in turns):
            raise InputError("the turns must be a list of booleans.")

    def measure(self, predictions):
        return rate("code_exec", [ran for turns in predictions for ran in turns])
