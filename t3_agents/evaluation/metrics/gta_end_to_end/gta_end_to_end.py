"""GTA end to end: AnsAcc, AnsAcc with image generation, and tool F1 by category."""

from t3_agents.evaluation.gta import scoring
from t3_agents.evaluation.gta.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.metrics import base


class GtaEndToEnd(base.RowMetric):
    """The measures of GTA's end-to-end mode: accuracy of the final answer, the same with tasks that ask for a picture
    (scored by the arguments of the calls that make one), and the F1 score of the tools that were called, by category.

    Args:
        predictions (`list`): per task the turns that were produced, in the form of GTA's `dialogs`, the answer last.
        references (`list` of `dict`): per task `{"dialogs": the solution's turns, "gt_answer": known answer}`.
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for open answers and pictures, or `embedded`; `none` leaves these rows out.
    Returns:
        ans_acc, ans_acc_image, f1_perception, f1_operation, f1_logic, f1_creativity (`float`): fractions in 0..1; 0
            where nothing was counted, as the benchmark's evaluator has it.
        n (`int`): number of tasks.
        embedding_model (`str`): the model that was used, or `None`.
    Examples:
        >>> metric = evaluate.load(metric_path("gta_end_to_end"))
        >>> function = {"name": "OCR", "arguments": {"image": "a.png"}}
        >>> call = {"role": "assistant", "tool_calls": [{"function": function}]}
        >>> known = {"whitelist": [["5"]], "blacklist": None}
        >>> turns = [[call, {"role": "assistant", "content": "It is 5."}]]
        >>> metric.compute(predictions=turns, references=[{"dialogs": turns[0], "gt_answer": known}])["ans_acc"]
        1.0
    """

    paper = base.GTA
    kind = (list, tuple)

    def check(self, turns, row):
        scoring.check_reference(row)

    def measure(self, predictions, references, embedding_model=OFFICIAL):
        needed = any(not isinstance(row["gt_answer"], dict) for row in references) and embedding_model != "none"
        embed = load_embedding(embedding_model) if needed else None
        counts = [
            scoring.end_to_end_counts(turns, row["dialogs"], row["gt_answer"], embed)
            for turns, row in zip(predictions, references, strict=True)
        ]
        return {**scoring.pool_counts(counts), "n": len(counts), "embedding_model": embed.name if embed else None}
