"""GAIA accuracy: share of answers that are right by the rules of the benchmark's leaderboard."""

from t3_agents.evaluation.gaia import scoring
from t3_agents.evaluation.metrics import base


class GaiaAnswer(base.RowMetric):
    """Accuracy on GAIA. A known number is compared as a number, with `$`, `%` and `,` taken out of the answer; a known
    answer with `,` or `;` item by item, in order; any other without white space, punctuation and case.

    Args:
        predictions (`list` of `str`): final answers; `None`, where there was none, is read as the word `None`.
        references (`list` of `str`): known answers.
    Returns:
        accuracy (`float`): share of right answers in 0..1, or `None` without answers.
        n (`int`): number of answers.
        correct (`list` of `bool`): whether each answer is right.
    Examples:
        >>> metric = evaluate.load(metric_path("gaia_answer"))
        >>> metric.compute(predictions=["$1,234.50", "sea gull"], references=["1234.5", "Seagull, 2"])["correct"]
        [True, False]
    """

    paper = base.GAIA

    def check(self, prediction, reference):
        scoring.answers_match(prediction, reference)

    def measure(self, predictions, references):
        correct = list(map(scoring.answers_match, predictions, references))
        return {"accuracy": sum(correct) / len(correct) if correct else None, "n": len(correct), "correct": correct}
