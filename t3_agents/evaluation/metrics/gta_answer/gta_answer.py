"""GTA AnsAcc: final answers by whitelist and blacklist, or by sentence similarity."""

from t3_agents.errors import InputError
from t3_agents.evaluation.gta import scoring
from t3_agents.evaluation.gta.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.metrics import base


class GtaAnswer(base.RowMetric):
    """AnsAcc of GTA. An answer with a whitelist needs one alias of every group, between word boundaries and whatever
    its case, and none of the blacklist. An open answer, known by a list of texts, scores its highest cosine similarity
    of sentence embeddings to one of them. Tasks that ask for a picture (`None`) are left out.

    Args:
        predictions (`list` of `str`): final answers; `None` where there was none. None and an empty one score 0.
        references (`list`): known answers as in GTA's `gt_answer`: `{"whitelist": [[str]], "blacklist": [[str]] or
            None}`, a list of texts, or `None`.
        embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id
            of the model for open answers, or `embedded`; not loaded where there is none.
        scoring (`str`, *optional*, defaults to `"official"`): `official`, or `paper` for the looser rule of
            [Multi-Modal Agent Tuning](https://arxiv.org/abs/2412.15606): substrings, no blacklist, open answers left
            out.
    Returns:
        ans_acc (`float`): mean score in 0..1, or `None` without answers.
        n (`int`): number of answers that count.
        scores (`list` of `float`): score of each answer; `None` for those left out.
        embedding_model (`str`): the model that was used, or `None`.
    Examples:
        >>> metric = evaluate.load(metric_path("gta_answer"))
        >>> known = {"whitelist": [["5", "five"]], "blacklist": [["15"]]}
        >>> metric.compute(predictions=["There are five.", "5 of 15"], references=[known, known])["ans_acc"]
        0.5
    """

    paper = base.GTA

    def check(self, prediction, known):
        scoring.check_known(known)

    def measure(self, predictions, references, embedding_model=OFFICIAL, **options):
        rules = options.pop("scoring", "official")
        if rules not in scoring.SCORINGS:
            raise InputError(f"There is no scoring `{rules}`; choose one of: {', '.join(scoring.SCORINGS)}.")
        embed = None
        if rules == "paper":
            scores = list(map(scoring.paper_score, predictions, references))
        else:
            if any(known and isinstance(known, list) for known in references):
                embed = load_embedding(embedding_model)
            rows = zip(predictions, references, strict=True)
            scores = [scoring.answer_score(answer or None, known, embed) for answer, known in rows]
        counted = [score for score in scores if score is not None]
        return {
            "ans_acc": sum(counted) / len(counted) if counted else None,
            "n": len(counted),
            "scores": scores,
            "embedding_model": embed.name if embed else None,
        }
