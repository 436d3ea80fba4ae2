"""CodeExec: share of turns whose code ran without an error."""

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
CodeExec is the share of turns that a controller produced whose code ran without an error. A turn without code that
could be parsed counts as one that did not run.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list` of `list` of `bool`): per trajectory one value for each turn: whether it held code that ran
        without an error.
Returns:
    code_exec (`float`): share of such turns in 0..1, or `None` without turns.
    n (`int`): number of turns.
    ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
Raises:
    InputError: a `ValueError`, when the argument is no list or an entry has a wrong type.
Examples:
    >>> metric = evaluate.load(metric_path("code_exec"))
    >>> metric.compute(predictions=[[True, True], [False, True]])["code_exec"]
    0.75
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class CodeExec(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Sequence(datasets.Value("bool"))}),
            reference_urls=["https://arxiv.org/abs/2412.15606"],
        )

    def add_batch(self, *, predictions=None):
        """Add the turns of trajectories."""
        scoring.check_turns(predictions)
        super().add_batch(predictions=[list(turns) for turns in predictions])

    def add(self, *, prediction=None):
        """Add the turns of one trajectory."""
        self.add_batch(predictions=[prediction])

    def _compute(self, predictions):
        return scoring.code_exec(predictions)
