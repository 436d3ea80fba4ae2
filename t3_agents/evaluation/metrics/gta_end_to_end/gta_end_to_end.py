"""GTA end to end: AnsAcc, AnsAcc with image generation, and tool F1 by category."""

import json

import datasets
import evaluate

from t3_agents.evaluation.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.gta import scoring as gta_scoring
from t3_agents.evaluation.metrics import GTA_CITATION, GTA_URL, check_rows


_DESCRIPTION = """\
The measures of GTA's end-to-end mode: accuracy of the final answer, the same with tasks that ask for a picture (scored
by the arguments of the calls that make one), and the F1 score of the tools that were called, by category.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list`): per task the turns that were produced, in the form of GTA's `dialogs`, the answer last.
    references (`list` of `dict`): per task `{"dialogs": the solution's turns, "gt_answer": known answer}`.
    embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id of
        the model for open answers and pictures, or `embedded`; `none` leaves these rows out.
Returns:
    ans_acc, ans_acc_image, f1_perception, f1_operation, f1_logic, f1_creativity (`float`): fractions in 0..1; 0
        where nothing was counted, as the benchmark's evaluator has it.
    n (`int`): number of tasks.
    embedding_model (`str`): the model that was used, or `None`.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry cannot be used, the lengths differ, or the
        embedding model cannot be loaded.
Examples:
    >>> metric = evaluate.load(metric_path("gta_end_to_end"))
    >>> call = {"role": "assistant", "tool_calls": [{"function": {"name": "OCR", "arguments": {"image": "a.png"}}}]}
    >>> known = {"whitelist": [["5"]], "blacklist": None}
    >>> turns = [[call, {"role": "assistant", "content": "It is 5."}]]
    >>> metric.compute(predictions=turns, references=[{"dialogs": turns[0], "gt_answer": known}])["ans_acc"]
    1.0
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GtaEndToEnd(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=GTA_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": text}),
            reference_urls=[GTA_URL],
        )

    def add_batch(self, *, predictions=None, references=None):
        """Add the turns of tasks and what is known of them."""
        check_rows(predictions, references, (list, tuple))
        for row in references:
            gta_scoring.check_reference(row)
        super().add_batch(predictions=list(map(json.dumps, predictions)), references=list(map(json.dumps, references)))

    def add(self, *, prediction=None, reference=None):
        """Add the turns of one task and what is known of it."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references, embedding_model=OFFICIAL):
        rows = [(json.loads(turns), json.loads(row)) for turns, row in zip(predictions, references, strict=True)]
        needed = any(not isinstance(row["gt_answer"], dict) for _, row in rows) and embedding_model != "none"
        embed = load_embedding(embedding_model) if needed else None
        counts = [gta_scoring.end_to_end_counts(turns, row["dialogs"], row["gt_answer"], embed) for turns, row in rows]
        return {
            **gta_scoring.pool_counts(counts),
            "n": len(rows),
            "embedding_model": embed.name if embed else None,
        }
