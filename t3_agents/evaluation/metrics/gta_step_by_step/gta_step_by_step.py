"""GTA step by step: InstAcc, ToolAcc, ArgAcc and SummAcc of turns predicted from the solution's turns before them."""

from t3_agents.evaluation.gta import scoring
from t3_agents.evaluation.gta.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.metrics import base


class GtaStepByStep(base.RowMetric):
    """The measures of GTA's step-by-step mode, in which every turn of the solution is predicted from the turns before
    it: right kind of turn without an error (InstAcc), right tool (ToolAcc), right tool and equal arguments (ArgAcc),
    score of the answer (SummAcc).

    Args:
        predictions (`list`): per task the predicted turn for each turn of the assistant in the solution, in the form
            of GTA's `dialogs`, with `error` where a call failed.
        references (`list` of `dict`): per task `{"dialogs": the solution's turns, "gt_answer": known answer}`.
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for open answers, or `embedded`; `none` leaves them out.
    Returns:
        inst_acc, tool_acc, arg_acc, summ_acc (`float`): fractions in 0..1; 0 where nothing was counted.
        n (`int`): number of tasks.
        embedding_model (`str`): the model that was used, or `None`.
    Examples:
        >>> metric = evaluate.load(metric_path("gta_step_by_step"))
        >>> function = {"name": "OCR", "arguments": {"image": "a.png"}}
        >>> call = {"role": "assistant", "tool_calls": [{"function": function}]}
        >>> answer = {"role": "assistant", "content": "It is 5."}
        >>> row = {"dialogs": [call, answer], "gt_answer": {"whitelist": [["5"]], "blacklist": None}}
        >>> metric.compute(predictions=[[call, call]], references=[row])["inst_acc"]
        0.5
    """

    paper = base.GTA
    kind = (list, tuple)

    def check(self, turns, row):
        scoring.check_reference(row)
        scoring.check_steps(turns, row["dialogs"])

    def measure(self, predictions, references, embedding_model=OFFICIAL):
        needed = any(row["gt_answer"] and isinstance(row["gt_answer"], list) for row in references)
        embed = load_embedding(embedding_model) if needed and embedding_model != "none" else None
        counts = [
            scoring.step_counts(turns, scoring.assistant_turns(row["dialogs"]), row["gt_answer"], embed)
            for turns, row in zip(predictions, references, strict=True)
        ]
        return {**scoring.pool_counts(counts), "n": len(counts), "embedding_model": embed.name if embed else None}
