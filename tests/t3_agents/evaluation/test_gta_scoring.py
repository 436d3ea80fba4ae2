"""The rules of GTA's evaluator, on cases whose outcome follows from them."""

import random

import numpy as np
import pytest

from t3_agents.errors import InputError
from t3_agents.evaluation.gta import scoring as gta


def words(texts):
    """Embeddings whose cosine similarity can be worked out by hand: how often each of four words occurs."""
    return np.array([[text.lower().count(word) for word in ("cat", "dog", "red", "sun")] for text in texts], float)


def known(*whitelist, blacklist=None):
    return {"whitelist": [list(group) for group in whitelist], "blacklist": blacklist}


def call(name, error=None, **arguments):
    turn = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": name}}]}
    turn["tool_calls"][0]["function"]["arguments"] = arguments
    return {**turn, "error": {"type": "API_ERROR", "msg": error}} if error else turn


def say(content):
    return {"role": "assistant", "content": content}


def got(content):
    return {"role": "tool", "name": "OCR", "content": content}


LISTS = [
    # One group: any alias, literally, whatever its case, between word boundaries.
    ("The answer is 5.", known(["5"]), True),
    ("The answer is 15.", known(["5"]), False),
    ("The answer is 5.5.", known(["5"]), True),  # a point is a boundary
    ("5kg", known(["5"]), False),
    ("five", known(["5", "five"]), True),
    ("high_five", known(["five"]), False),  # an underscore is part of a word
    ("twenty five", known(["twenty-five"]), False),
    ("", known(["5"]), False),
    ("new  york", known(["New York"]), False),
    # Characters that mean something in a regular expression are literal.
    ("325", known(["3.5"]), False),
    ("what?", known(["wha?t"]), False),
    ("C:\\data", known(["C:\\data"]), True),
    # An alias that begins or ends with no word character needs one beyond it.
    ("It costs $5", known(["$5"]), False),
    ("US$5", known(["$5"]), True),
    ("50%", known(["50%"]), False),
    ("50%off", known(["50%"]), True),
    ("(5)", known(["(5)"]), False),
    # Unicode.
    ("cafés", known(["café"]), False),
    ("cafe\u0301", known(["café"]), False),
    ("東京です", known(["東京"]), False),  # no boundary between two letters of the script
    ("Straße", known(["straße"]), True),
    ("STRASSE", known(["straße"]), False),
    ("🦆", known(["🦆"]), False),
    ("5\u200b", known(["5"]), True),
    ("5\u00a0kg", known(["5"]), True),
    # All groups are needed, in any order, and one word may serve several.
    ("apples and pears", known(["apples"], ["pears"]), True),
    ("apples", known(["apples"], ["pears"]), False),
    ("apple", known(["apples", "apple"], ["apple", "fruit"]), True),
    ("anything", known(), True),
    ("", known(), True),
    # The empty alias and the empty group match at any word boundary.
    ("word", known([""]), True),
    ("word", known([]), True),
    ("", known([""]), False),
    ("!?", known([]), False),
    # The blacklist: any alias of any group.
    ("5 or 6", known(["5"], blacklist=[["6"]]), False),
    ("5 or 16", known(["5"], blacklist=[["6"]]), True),
    ("5 or 7", known(["5"], blacklist=[["6"], ["7"]]), False),
    ("5", known(["5"], blacklist=[]), True),
    ("5", known(["5"], blacklist=[[]]), False),
    ("5", known(["5"], blacklist=[[""]]), False),
    ("3.5", known(["3.5"], blacklist=[["3"]]), False),
    ("5", {"whitelist": [["5"]]}, True),
]


@pytest.mark.parametrize(("answer", "reference", "right"), LISTS)
def test_whitelist_and_blacklist(answer, reference, right):
    assert gta.lists_match(answer, reference) is right
    assert gta.answer_score(answer, reference, None) == float(right)


def test_aliases_in_sentences():
    rng = random.Random(0)
    aliases = ["5", "3.5", "a+b", "New York", "x|y", "f(2)x", "café", "Ω3", "1,000", "it's", "blue"]
    gaps = [" ", ", ", " (", ") ", "\n", "-", ". ", '"']
    for _ in range(300):
        group = rng.sample(aliases, 3)
        chosen, other = rng.choice(group), rng.choice([a for a in aliases if a not in group])
        left, right = rng.choice(gaps), rng.choice(gaps)
        text = f"It is{left}{chosen.upper() if rng.random() < 0.5 else chosen}{right}indeed"
        assert gta.lists_match(text, known(group))
        assert not gta.lists_match(text, known(group, ["zebra"]))
        assert not gta.lists_match(text, known(group, blacklist=[["zebra"], [chosen]]))
        assert gta.lists_match(text, known(group, blacklist=[[other]]))
        glued = f"It isQ{chosen}Q indeed"
        assert not gta.lists_match(glued, known([chosen]))


def test_no_answer_is_wrong_and_no_known_answer_is_no_score():
    assert gta.answer_score(None, known(["5"]), None) == 0
    assert gta.answer_score(None, ["a cat"], words) == 0
    assert gta.answer_score("5", None, words) is None
    assert gta.answer_score("5", [], words) is None
    assert gta.answer_score("a cat", ["a cat"], None) is None


@pytest.mark.parametrize(
    ("answer", "texts", "score"),
    [
        ("CAT", ["cat"], 1.0),
        ("cat", ["dog"], 0.0),
        ("cat dog", ["red", "cat", "dog red sun"], 0.5**0.5),
        ("nothing", ["cat"], 0.0),
    ],
)
def test_an_open_answer_scores_its_best_similarity(answer, texts, score):
    assert gta.answer_score(answer, texts, words) == pytest.approx(score)


def test_a_similarity_below_zero_counts_as_zero():
    assert gta.similarity("a", "b", lambda texts: np.array([[1.0, 0.0], [-1.0, 0.0]])) == 0


PAPER = [
    ("The answer is 15.", known(["5"]), 1.0),  # a substring is enough
    ("5 or 6", known(["5"], blacklist=[["6"]]), 1.0),  # no blacklist
    ("apples", known(["apples"], ["pears"]), 0.0),
    (None, known(["5"]), 0.0),
    (None, known(["no"]), 1.0),  # read as the word None
    ("5", None, None),
    ("5", ["an open answer"], None),
    ("5", known(), 1.0),
    ("x", known([]), 0.0),
]


@pytest.mark.parametrize(("answer", "reference", "score"), PAPER)
def test_the_looser_rule_of_the_paper(answer, reference, score):
    assert gta.paper_score(answer, reference) == score


@pytest.mark.parametrize(
    "reference",
    [
        *(5, "5", True, {}, [["5"]], [5]),
        *({"whitelist": groups} for groups in ("5", ["5"], [[5]], None)),
        *({"whitelist": [["5"]], "blacklist": groups} for groups in ("6", [["6", None]])),
    ],
    ids=repr,
)
def test_a_known_answer_of_a_wrong_form(reference):
    with pytest.raises(InputError):
        gta.check_known(reference)


class TestPictures:
    solution = [call("OCR", image="a.png"), call("DrawBox", image="cat.png"), call("AddText", text="dog")]

    @pytest.mark.parametrize(
        ("turns", "score"),
        [
            (solution, 1.0),
            ([*solution[1:], say("done")], 1.0),  # only tools that make a picture count
            (solution[:2], 0.0),
            ([], 0.0),
            ([call("DrawBox", image="cat dog"), call("AddText", text="dog")], 0.5**0.5),
            ([call("DrawBox", image="cat dog"), call("AddText", text="cat dog")], 0.5),
            # The last call of a tool counts, unless it failed.
            ([call("DrawBox", image="dog"), call("DrawBox", image="cat"), call("AddText", text="dog")], 1.0),
            ([call("DrawBox", image="cat"), call("DrawBox", image="dog"), call("AddText", text="dog")], 0.0),
            ([call("DrawBox", image="cat"), call("DrawBox", "x", image="dog"), call("AddText", text="dog")], 1.0),
            ([call("DrawBox", "x", image="cat"), call("AddText", text="dog")], 0.0),
        ],
    )
    def test_arguments_of_the_calls_that_make_one(self, turns, score):
        assert gta.image_score(turns, self.solution, words) == pytest.approx(score)
        counts = gta.end_to_end_counts(turns, self.solution, None, words)
        assert counts["ans_acc_image"] == pytest.approx([score, 1])
        assert "ans_acc" not in counts

    def test_a_solution_that_makes_none_is_always_right(self):
        assert gta.image_score([], [call("OCR", image="a")], words) == 1

    def test_without_embeddings_it_is_left_out(self):
        assert "ans_acc_image" not in gta.end_to_end_counts([], self.solution, None, None)


class TestEndToEnd:
    def counts(self, turns, solution=(), reference=None):
        return gta.end_to_end_counts(turns, solution, reference or known(["5"]), words)

    @pytest.mark.parametrize(
        ("turns", "right"),
        [
            ([say("5")], 1),
            ([call("OCR"), got("5"), say("it is 5")], 1),
            ([say("5"), call("OCR")], 0),  # the last turn is no answer
            ([call("OCR"), got("5")], 0),
            ([say(None)], 0),
            ([], 0),
        ],
    )
    def test_the_last_turn_is_the_answer(self, turns, right):
        counts = self.counts(turns)
        assert counts["ans_acc"] == counts["ans_acc_image"] == [right, 1]
        # An empty answer is wrong even where no group has to be matched.
        assert self.counts([say("")], reference=known())["ans_acc"] == [0, 1]

    @pytest.mark.parametrize(
        ("made", "expected", "perception"),
        [
            (["OCR"], ["OCR"], [1, 1, 1]),
            (["OCR", "OCR"], ["OCR"], [1, 2, 1]),
            (["OCR"], ["OCR", "OCR"], [2, 1, 2]),  # found twice, called once
            (["ImageDescription"], ["OCR"], [0, 1, 1]),
            (["Unheard"], ["OCR"], [0, 0, 1]),
            ([], ["OCR", "TextToBbox"], [0, 0, 2]),
            (["TextToBbox", "OCR"], [], [0, 2, 0]),
        ],
    )
    def test_tools_by_category(self, made, expected, perception):
        counts = self.counts([call(name) for name in made], [call(name) for name in expected])
        assert counts["f1_perception"] == perception
        # A call that failed counts as made.
        failed = self.counts([call(name, "x") for name in made], [call(name) for name in expected])
        assert failed["f1_perception"] == perception

    def test_f1_over_all_tasks(self):
        rows = [
            self.counts([call("OCR"), call("OCR"), call("Plot")], [call("OCR"), call("TextToBbox")]),
            self.counts([call("TextToImage")], [call("GoogleSearch")]),
        ]
        values = gta.pool_counts(rows)
        precision, recall = 1 / (2 + 1e-5), 1 / 2
        assert values["f1_perception"] == pytest.approx(2 * precision * recall / (precision + recall + 1e-5))
        assert values["f1_operation"] == values["f1_logic"] == values["f1_creativity"] == 0
        assert values["ans_acc"] == 0

    def test_a_solution_with_an_unknown_tool(self):
        with pytest.raises(InputError, match="SegmentObjects"):
            self.counts([], [call("SegmentObjects")])


class TestStepByStep:
    solution = [call("OCR", image="a.png"), call("Calculator", expression="2+3"), say("It is 5.")]

    @pytest.mark.parametrize(
        ("turns", "inst", "tool", "argument", "summary"),
        [
            (solution, 3, 2, 2, 1),
            ([solution[0], call("Calculator", expression="2 + 3"), solution[2]], 3, 2, 1, 1),
            ([call("ImageDescription", image="a.png"), *solution[1:]], 3, 1, 1, 1),
            ([say("5"), *solution[1:]], 2, 1, 1, 1),  # an answer where a call was due
            ([*solution[:2], call("OCR", image="a.png")], 2, 2, 2, 0),
            ([call("OCR", "x", image="a.png"), *solution[1:]], 2, 2, 2, 1),  # an error costs InstAcc only
            ([*solution[:2], say("6")], 3, 2, 2, 0),
            ([*solution[:2], say(None)], 3, 2, 2, 0),
            ([call("OCR", image="a.png", lang="en"), *solution[1:]], 3, 2, 1, 1),
        ],
    )
    def test_turns_are_compared_with_the_solution(self, turns, inst, tool, argument, summary):
        counts = gta.step_counts(turns, self.solution, known(["5"]), None)
        assert counts == {
            "inst_acc": [inst, 3],
            "tool_acc": [tool, 2],
            "arg_acc": [argument, 2],
            "summ_acc": [summary, 1],
        }

    def test_the_answer_of_a_picture_is_not_among_the_turns_that_count(self):
        counts = gta.step_counts(self.solution, self.solution, None, words)
        assert counts["inst_acc"] == [3, 2]
        assert counts["summ_acc"] == [0, 0]

    def test_an_open_answer(self):
        turns = [*self.solution[:2], say("cat dog")]
        assert gta.step_counts(turns, self.solution, ["cat"], words)["summ_acc"] == pytest.approx([0.5**0.5, 1])
        assert "summ_acc" not in gta.step_counts(turns, self.solution, ["cat"], None)

    @pytest.mark.parametrize(("bbox", "right"), [("(1, 2, 3, 4)", 1), ("(1,2,3,4)", 0)])
    def test_equal_arguments_in_another_order(self, bbox, right):
        solution = [call("DrawBox", image="a.png", bbox="(1, 2, 3, 4)")]
        counts = gta.step_counts([call("DrawBox", bbox=bbox, image="a.png")], solution, None, None)
        assert counts["arg_acc"] == [right, 1]

    def test_a_missing_turn(self):
        with pytest.raises(InputError, match="2 predicted turns for 3"):
            gta.check_steps(self.solution[:2], self.solution)


def test_every_tool_has_one_category():
    assert len(gta.TOOLS) == len(set(gta.TOOLS)) == 14
    assert set(gta.IMAGE_TOOLS) < set(gta.TOOLS)
