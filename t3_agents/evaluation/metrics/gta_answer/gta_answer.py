"""GTA AnsAcc: final answers by whitelist and blacklist, or by sentence similarity."""

import json

import datasets
import evaluate

from t3_agents.evaluation.embedding import OFFICIAL, load_embedding
from t3_agents.evaluation.gta import scoring as gta_scoring
from t3_agents.evaluation.metrics import GTA_CITATION, GTA_URL, check_rows


_DESCRIPTION = """\
AnsAcc of GTA. An answer with a whitelist needs one alias of every group, between word boundaries and whatever its
case, and none of the blacklist. An open answer, known by a list of texts, scores its highest cosine similarity of
sentence embeddings to one of them. Tasks that ask for a picture (`None`) are left out.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list` of `str`): final answers; `None` where there was none. None and an empty one score 0.
    references (`list`): known answers as in GTA's `gt_answer`: `{"whitelist": [[str]], "blacklist": [[str]] or None}`,
        a list of texts, or `None`.
    embedding_model (`str`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`): folder or Hub id of
        the model for open answers, or `embedded`; not loaded where there is none.
    scoring (`str`, *optional*, defaults to `"official"`): `official`, or `paper` for the looser rule of
        [Multi-Modal Agent Tuning](https://arxiv.org/abs/2412.15606): substrings, no blacklist, open answers left out.
Returns:
    ans_acc (`float`): mean score in 0..1, or `None` without answers.
    n (`int`): number of answers that count.
    scores (`list` of `float`): score of each answer; `None` for those left out.
    embedding_model (`str`): the model that was used, or `None`.
Raises:
    InputError: a `ValueError`, when an argument is no list, an entry has a wrong type, the lengths differ, or the
        embedding model cannot be loaded.
Examples:
    >>> metric = evaluate.load(metric_path("gta_answer"))
    >>> known = {"whitelist": [["5", "five"]], "blacklist": [["15"]]}
    >>> metric.compute(predictions=["There are five.", "5 of 15"], references=[known, known])["ans_acc"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GtaAnswer(evaluate.Metric):
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
        """Add answers and what is known."""
        check_rows(predictions, references, (str, type(None)))
        for known in references:
            gta_scoring.check_known(known)
        super().add_batch(
            predictions=[json.dumps(answer) for answer in predictions],
            references=[json.dumps(known) for known in references],
        )

    def add(self, *, prediction=None, reference=None):
        """Add one answer and what is known."""
        self.add_batch(predictions=[prediction], references=[reference])

    def _compute(self, predictions, references, embedding_model=OFFICIAL, scoring="official"):
        rows = [(json.loads(answer), json.loads(known)) for answer, known in zip(predictions, references, strict=True)]
        gta_scoring.check_scoring(scoring)
        embed = None
        if scoring == "paper":
            scores = [gta_scoring.paper_score(answer, known) for answer, known in rows]
        else:
            if any(known and isinstance(known, list) for _, known in rows):
                embed = load_embedding(embedding_model)
            scores = [gta_scoring.answer_score(answer or None, known, embed) for answer, known in rows]
        counted = [score for score in scores if score is not None]
        return {
            "ans_acc": sum(counted) / len(counted) if counted else None,
            "n": len(counted),
            "scores": scores,
            "embedding_model": embed.name if embed else None,
        }
