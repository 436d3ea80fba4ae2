"""ToolAcc: share of expected tool calls that were made in their place."""

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
ToolAcc is the share of expected tool calls that were made in their place: the i-th expected call is right when the
i-th call names the same tool. An extra call shifts those after it; calls after the last expected one do not count.
Unlike in the paper, the arguments and the summary of what came back are not judged.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list` of `list` of `str`): per trajectory the tools that were called, in order, without
        `final_answer`.
    references (`list` of `list` of `str`): per trajectory the tools that were expected, in order.
Returns:
    tool_acc (`float`): share of right calls in 0..1, or `None` when no call is expected.
    n (`int`): number of expected calls.
    ci95 (`list` of `float`): 95 % Wilson interval (Wilson, 1927) of the share.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry has a wrong type, or the lengths differ.
Examples:
    >>> metric = evaluate.load(metric_path("tool_acc"))
    >>> metric.compute(predictions=[["visualizer"]], references=[["visualizer", "image_edit"]])["tool_acc"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ToolAcc(evaluate.Metric):
    def _info(self):
        tools = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": tools, "references": tools}),
            reference_urls=["https://arxiv.org/abs/2412.15606"],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Add the calls of trajectories and those that were expected."""
        scoring.check_calls(predictions, references)
        super().add_batch(predictions=[list(p) for p in predictions], references=[list(r) for r in references])

    def add(self, *, prediction=None, reference=None):
        """Add the calls of one trajectory and those that were expected."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references):
        return scoring.tool_acc(predictions, references)
