"""AnsAcc: share of final answers that are right."""

from t3_agents.answers import answers_match, normalize
from t3_agents.errors import InputError
from t3_agents.evaluation.metrics import base
from t3_agents.evaluation.statistics import rate


class AnsAcc(base.RowMetric):
    """AnsAcc is the share of tasks whose final answer is right. Answers are compared by rules for short, known
    answers: case, articles and punctuation around them do not count, numbers are compared as numbers, lists item by
    item. These are the rules of the T3-Agents scenarios, not those of GTA or GAIA.

    Args:
        predictions (`list` of `str`): final answers; `None` where there was none, which is wrong.
        references (`list` of `str`): known answers.
    Returns:
        ans_acc (`float`): share of right answers in 0..1, or `None` without answers.
        n (`int`): number of answers.
        ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
    Examples:
        >>> metric = evaluate.load(metric_path("ans_acc"))
        >>> metric.compute(predictions=["$1,250.00", "Paris."], references=["1250", "Rome"])["ans_acc"]
        0.5
    """

    paper = base.AGENT_TUNING

    def check(self, prediction, reference):
        if not isinstance(reference, str) or not normalize(reference):
            raise InputError("a known answer must be a text that is not blank.")

    def measure(self, predictions, references):
        return rate("ans_acc", list(map(answers_match, predictions, references)))
