"""GTA step by step: InstAcc, ToolAcc, ArgAcc and SummAcc of turns predicted from the solution's turns before them."""

import json

import datasets
import evaluate

from t3_agents.evaluation.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.gta import scoring as gta_scoring
from t3_agents.evaluation.metrics import GTA_CITATION, GTA_URL, check_rows


_DESCRIPTION = """\
The measures of GTA's step-by-step mode, in which every turn of the solution is predicted from the turns before it:
right kind of turn without an error (InstAcc), right tool (ToolAcc), right tool and equal arguments (ArgAcc), score of
the answer (SummAcc).
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list`): per task the predicted turn for each turn of the assistant in the solution, in the form of
        GTA's `dialogs`, with `error` where a call failed.
    references (`list` of `dict`): per task `{"dialogs": the solution's turns, "gt_answer": known answer}`.
    embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id of
        the model for open answers, or `embedded`; `none` leaves them out.
Returns:
    inst_acc, tool_acc, arg_acc, summ_acc (`float`): fractions in 0..1; 0 where nothing was counted.
    n (`int`): number of tasks.
    embedding_model (`str`): the model that was used, or `None`.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry cannot be used, the lengths differ, or the
        embedding model cannot be loaded.
Examples:
    >>> metric = evaluate.load(metric_path("gta_step_by_step"))
    >>> call = {"role": "assistant", "tool_calls": [{"function": {"name": "OCR", "arguments": {"image": "a.png"}}}]}
    >>> answer = {"role": "assistant", "content": "It is 5."}
    >>> row = {"dialogs": [call, answer], "gt_answer": {"whitelist": [["5"]], "blacklist": None}}
    >>> metric.compute(predictions=[[call, call]], references=[row])["inst_acc"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GtaStepByStep(evaluate.Metric):
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
        """Add the predicted turns of tasks and what is known of them."""
        check_rows(predictions, references, (list, tuple))
        for turns, row in zip(predictions, references, strict=True):
            gta_scoring.check_reference(row)
            gta_scoring.check_steps(turns, row["dialogs"])
        super().add_batch(predictions=list(map(json.dumps, predictions)), references=list(map(json.dumps, references)))

    def add(self, *, prediction=None, reference=None):
        """Add the predicted turns of one task and what is known of it."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references, embedding_model=OFFICIAL):
        rows = [(json.loads(turns), json.loads(row)) for turns, row in zip(predictions, references, strict=True)]
        needed = any(row["gt_answer"] and isinstance(row["gt_answer"], list) for _, row in rows)
        embed = load_embedding(embedding_model) if needed and embedding_model != "none" else None
        counts = [
            gta_scoring.step_counts(turns, gta_scoring.assistant_turns(row["dialogs"]), row["gt_answer"], embed)
            for turns, row in rows
        ]
        return {
            **gta_scoring.pool_counts(counts),
            "n": len(rows),
            "embedding_model": embed.name if embed else None,
        }
