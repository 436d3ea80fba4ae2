"""GAIA accuracy: share of answers that are right by the rules of the benchmark's leaderboard."""

import json

import datasets
import evaluate

from t3_agents.evaluation.gaia import scoring as gaia_scoring
from t3_agents.evaluation.metrics import check_rows


_CITATION = """\
@misc{mialon2023gaia,
  title  = {GAIA: a benchmark for General AI Assistants},
  author = {Gr{\\'e}goire Mialon and Cl{\\'e}mentine Fourrier and Craig Swift and Thomas Wolf and Yann LeCun and
            Thomas Scialom},
  year   = {2023},
  eprint = {2311.12983},
  url    = {https://arxiv.org/abs/2311.12983}
}
"""

_DESCRIPTION = """\
Accuracy on GAIA. A known number is compared as a number, with `$`, `%` and `,` taken out of the answer; a known answer
with `,` or `;` item by item, in order; any other without white space, punctuation and case.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list` of `str`): final answers; `None`, where there was none, is read as the word `None`.
    references (`list` of `str`): known answers.
Returns:
    accuracy (`float`): share of right answers in 0..1, or `None` without answers.
    n (`int`): number of answers.
    correct (`list` of `bool`): whether each answer is right.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry has a wrong type, or the lengths differ.
Examples:
    >>> metric = evaluate.load(metric_path("gaia_answer"))
    >>> metric.compute(predictions=["$1,234.50", "sea gull"], references=["1234.5", "Seagull, 2"])["correct"]
    [True, False]
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GaiaAnswer(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": text}),
            reference_urls=["https://arxiv.org/abs/2311.12983"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Add answers and what is known."""
        check_rows(predictions, references)
        for prediction, reference in zip(predictions, references, strict=True):
            gaia_scoring.answers_match(prediction, reference)
        # `evaluate` takes no None for a string, so that rows are kept as JSON.
        super().add_batch(
            predictions=[json.dumps(answer) for answer in predictions],
            references=[json.dumps(answer) for answer in references],
        )

    def add(self, *, prediction=None, reference=None):
        """Add one answer and what is known."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references):
        pairs = zip(map(json.loads, predictions), map(json.loads, references), strict=True)
        correct = [gaia_scoring.answers_match(answer, known) for answer, known in pairs]
        share = sum(correct) / len(correct) if correct else None
        return {"accuracy": share, "n": len(correct), "correct": correct}
