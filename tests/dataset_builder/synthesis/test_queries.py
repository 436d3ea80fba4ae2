import numpy as np
import pytest

from dataset_builder import DOMAINS
from dataset_builder.synthesis import Candidate, Rejected
from dataset_builder.synthesis.config import SynthConfig
from dataset_builder.synthesis.corpus.embedding import TextEmbedding
from dataset_builder.synthesis.stages.queries import (
    NearDuplicates,
    check_query,
    choose_seeds,
    generate_queries,
    load_seeds,
    split_of,
)
from dataset_builder.synthesis.teacher import ReplyError
from t3_agents.errors import InputError
from t3_agents.tools.toolbox import TOOLBOXES, make_toolbox
from tests.helpers.replies import Replies


TOOLBOX = make_toolbox("embedded")
CONFIG = SynthConfig(flavor="gaia", queries_per_batch=3, seed=4)


def written(*queries):
    return {"queries": [{"query": query, "tools": list(tools), "domain": domain} for query, tools, domain in queries]}


def candidate_of(query, tools=("visualizer",)):
    return Candidate(id="gta-0-0", flavor="gta", query=query, expected_tools=tools)


def test_the_seed_queries_cover_both_flavors_all_domains_and_all_tools():
    seeds = load_seeds()
    assert len(seeds) >= 60
    assert len({seed.query for seed in seeds}) == len({seed.id for seed in seeds}) == len(seeds)
    assert {seed.flavor for seed in seeds} == {"gta", "gaia"}
    names = {tool.name for tool in TOOLBOXES["embedded"]}
    for flavor in ("gta", "gaia"):
        own = [seed for seed in seeds if seed.flavor == flavor]
        assert {seed.domain for seed in own} == set(DOMAINS)
        assert {seed.split for seed in own} == {"train", "validation", "test"}
    assert {tool for seed in seeds for tool in seed.tools} == names


def test_seeds_never_straddle_splits_and_depend_on_the_numbers_alone():
    seeds = load_seeds()
    shown = {split: set() for split in ("train", "validation", "test")}
    for batch in range(60):
        chosen = choose_seeds(seeds, "gta", 7, batch, 20)
        assert chosen == choose_seeds(seeds, "gta", 7, batch, 20)
        assert {seed.flavor for seed in chosen} == {"gta"}
        shown[split_of(batch)] |= {seed.id for seed in chosen}
    assert all(shown.values())
    assert (
        not shown["train"] & shown["validation"] | shown["train"] & shown["test"] | shown["validation"] & shown["test"]
    )
    assert choose_seeds(seeds, "gta", 7, 0, 20) != choose_seeds(seeds, "gta", 8, 0, 20)


def test_generated_queries_carry_their_origin():
    teacher = Replies(
        written(
            ("How much did  the\nbakery spend on flour?", ["inspect_file_as_text", "magic"], "Finance"),
            ("Which wells were above the limit in my report?", [], "plumbing"),
            ("What is the area of Chile?", ["ask_search_agent"], "geography"),
            ("A fourth one that nobody asked for", ["ask_search_agent"], "geography"),
        )
    )
    candidates = generate_queries(teacher, CONFIG, load_seeds(), TOOLBOX, batch=19)
    assert [candidate.id for candidate in candidates] == ["gaia-19-0", "gaia-19-1", "gaia-19-2"]
    first, second, _ = candidates
    assert first.query == "How much did the bakery spend on flour?"
    assert (first.domain, second.domain) == ("finance", "others")
    assert {candidate.split for candidate in candidates} == {"test"}
    seeds = {seed.id: seed for seed in load_seeds()}
    assert {seeds[key].split for key in first.seed_queries} == {"test"}
    assert first.provenance["queries"]["model"] == "replies-1"
    assert first.provenance["queries"]["input_tokens"] == 100
    asked = teacher.asked[0]
    assert all(tool.name in asked for tool in TOOLBOX)
    assert all(seeds[key].query in asked for key in first.seed_queries)


def test_a_reply_that_is_no_batch_of_queries_is_refused_after_one_repair():
    teacher = Replies("I would rather not.")
    with pytest.raises(ReplyError):
        generate_queries(teacher, CONFIG, load_seeds(), TOOLBOX, batch=0)
    assert len(teacher.asked) == 2


@pytest.mark.parametrize(
    ("query", "tools", "reason"),
    [
        ("Read it.", ("visualizer",), "2 words"),
        ("How many birds sit on the wire in this photo?", ("web_browser",), "none of the expected tools"),
        (
            "Use inspect_file_as_text to add up the numbers in it.",
            ("visualizer",),
            "names a tool: inspect_file_as_text",
        ),
        ("Add up the numbers in budget.xlsx and tell me the sum.", ("visualizer",), "budget.xlsx"),
        ("How many [objects] are there in the picture of [place]?", ("visualizer",), "placeholder"),
    ],
)
def test_queries_that_no_user_would_ask_are_rejected_with_the_reason(query, tools, reason):
    with pytest.raises(Rejected, match=reason) as caught:
        check_query(candidate_of(query, tools), TOOLBOX)
    (verdict,) = caught.value.candidate.verdicts
    assert not verdict.accepted
    assert reason in verdict.reason


def test_a_good_query_keeps_the_tools_that_exist():
    candidate = candidate_of("How many birds sit on the wire in this photo?", ("objectlocation", "zoom"))
    checked = check_query(candidate, TOOLBOX)
    assert checked.expected_tools == ("objectlocation",)
    assert checked.verdicts[0].accepted
    with pytest.raises(Rejected, match="near duplicate of: an earlier one"):
        check_query(candidate, TOOLBOX, duplicate_of="an earlier one")


def test_near_duplicates_are_decided_in_order():
    near = NearDuplicates(0.8, TextEmbedding("words"))
    first = near.add(["What did the flour cost in March?", "How tall is the tower?", "What did flour cost in March?"])
    assert first == [None, None, "What did the flour cost in March?"]
    assert near.add(["How tall is that tower?"]) == ["How tall is the tower?"]
    again = NearDuplicates(0.8, TextEmbedding("words"))
    assert again.add(["What did flour cost in March?", "What did the flour cost in March?"])[0] is None


def test_near_duplicates_hold_thousands():
    near = NearDuplicates(0.99, TextEmbedding("words"))
    queries = [f"How many parcels left depot {number} on the {number * 7} day?" for number in range(3000)]
    assert near.add(queries) == [None] * 3000
    assert near.add([queries[2999], "Something else entirely"]) == [queries[2999], None]


@pytest.mark.parametrize("threshold", [0, 1.5, -1])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(InputError, match="threshold"):
        NearDuplicates(threshold, TextEmbedding("words"))


def test_words_are_the_same_vectors_in_every_process():
    vectors = TextEmbedding("words")(["rain in Oslo", "", "Oslo rain"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], vectors[2])
    assert np.flatnonzero(vectors[0]).tolist() == np.flatnonzero(TextEmbedding("words")(["Rains, Oslo"])[0]).tolist()
    assert not vectors[1].any()


@pytest.mark.slow
def test_an_embedding_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be loaded .*: use `embedded`.* or `words`"):
        TextEmbedding(str(tmp_path / "nothing"))


@pytest.mark.slow
def test_the_sentence_encoder_knows_rewordings():
    near = NearDuplicates(0.8, TextEmbedding("embedded"))
    said = "How many people live in the capital of Norway?"
    found = near.add(
        [said, "What is the number of inhabitants of Norway's capital?", "What does a litre of milk cost?"]
    )
    assert found == [None, said, None]
