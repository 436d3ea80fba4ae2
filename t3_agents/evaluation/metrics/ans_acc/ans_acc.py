"""AnsAcc: share of final answers that are right."""

import datasets
import evaluate

from t3_agents.evaluation import scoring


_CITATION = """\
@inproceedings{gao2025multimodal,
  title     = {Multi-Modal Agent Tuning: Building a VLM-Driven Agent for Efficient Tool Usage},
  author    = {Zhi Gao and Bofei Zhang and Pengxiang Li and Xiaojian Ma and Tao Yuan and Yue Fan and Yuwei Wu and
               Yunde Jia and Song-Chun Zhu and Qing Li},
  booktitle = {International Conference on Learning Representations},
  year      = {2025},
  url       = {https://arxiv.org/abs/2412.15606}
}
"""

_DESCRIPTION = """\
AnsAcc is the share of tasks whose final answer is right. Answers are compared by rules for short, known answers: case,
articles and punctuation around them do not count, numbers are compared as numbers, lists item by item. These are the
rules of the T3-Agents scenarios, not those of GTA or GAIA.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list` of `str`): final answers; `None` where there was none, which is wrong.
    references (`list` of `str`): known answers.
Returns:
    ans_acc (`float`): share of right answers in 0..1, or `None` without answers.
    n (`int`): number of answers.
    ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry has a wrong type, or the lengths differ.
Examples:
    >>> metric = evaluate.load(metric_path("ans_acc"))
    >>> metric.compute(predictions=["$1,250.00", "Paris."], references=["1250", "Rome"])["ans_acc"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class AnsAcc(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://arxiv.org/abs/2412.15606"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Add answers and what is known."""
        scoring.check_answers(predictions, references)
        # `evaluate` takes no None for a string; an empty answer is as wrong as none.
        super().add_batch(predictions=[answer or "" for answer in predictions], references=list(references))

    def add(self, *, prediction=None, reference=None):
        """Add one answer and what is known."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references):
        return scoring.ans_acc(predictions, references)
