"""Guessed tokens: what they are, that they never change what is written, and that they save calls of the model."""

import random

import pytest
import torch
from PIL import Image

from t3_agents.models.engine.prompt_lookup import DraftTable, draft
from t3_agents.models.engine.ragged_attention import RaggedBatch, _attend_together, _ragged_attention
from t3_agents.models.engine.request import Request
from t3_agents.models.vlm import VLMModel


def table_of(*sequences, **settings):
    table = DraftTable(**settings)
    for ids in sequences:
        table.learn(ids)
    return table


class TestTable:
    def test_goes_on_as_before(self):
        table = table_of([1, 2, 3, 4, 5, 6, 7])
        assert draft([table], [9, 9, 3, 4], 3) == [5, 6, 7]
        assert draft([table], [3, 4], 9) == [5, 6, 7], "nothing is known behind the end"
        assert draft([table], [9], 3) == draft([table], [], 3) == draft([table], [3], 0) == []

    def test_the_longest_run_decides_then_the_newest(self):
        table = table_of([1, 2, 3, 10], [5, 2, 3, 20], [3, 30])
        assert draft([table], [1, 2, 3], 1) == [10] and draft([table], [5, 2, 3], 1) == [20]
        assert draft([table], [7, 3], 1) == [30]

    def test_the_first_table_goes_before_the_others(self):
        own, common = table_of([1, 2, 3]), table_of([1, 2, 4], [8, 1, 2, 5])
        assert draft([own, common], [1, 2], 1) == [3]
        assert draft([own, common], [8, 1, 2], 1) == [5], "but a longer run goes before both"

    def test_only_what_is_new_is_learnt(self):
        table = DraftTable()
        table.learn([1, 2, 3, 4], start=3)
        assert draft([table], [3], 1) == [4] and draft([table], [2], 1) == []

    def test_is_bounded_and_forgets_the_oldest(self):
        numbers = random.Random(0)
        table = DraftTable(max_entries=100)
        for _ in range(50):
            table.learn([numbers.randrange(1000) for _ in range(40)])
            table.learn([2000, 2001])
            assert len(table) <= 100
        assert draft([table], [2000], 1) == [2001]


@pytest.fixture(scope="module")
def loaded(tiny_vlm):
    return VLMModel.from_pretrained(tiny_vlm)


def write(model, texts, images=(), **settings):
    """Ids of turns that are written together, and the number of calls of the model."""
    requests = []
    for text in texts:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        conversation = model.encoder.encode(messages, images, add_generation_prompt=True)
        requests.append(Request(conversation, (), {"max_new_tokens": 60, "do_sample": False, **settings}))
    waiting, steps, done = list(requests), 0, []
    while len(done) < len(requests):
        done += model.engine.decoder.step(lambda: waiting.pop(0) if waiting else None)
        steps += 1
    assert [request.error for request in requests] == [None] * len(requests)
    return [request.output_ids for request in requests], steps


class TestTurns:
    texts = ("print(1) print(2) print(1) print(2) " * 8, "hello", "one two three one two three " * 20)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"repetition_penalty": 1.3, "min_new_tokens": 20},
            {"do_sample": True, "seed": 3, "temperature": 0.7},
            {"do_sample": True, "seed": 4, "top_k": 5, "no_repeat_ngram_size": 3},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("pictures", [0, 2])
    def test_are_the_same_with_fewer_calls(self, loaded, settings, pictures):
        images = [Image.new("RGB", (96, 64), color) for color in ("red", "blue")[:pictures]]
        plain = VLMModel(loaded.model, loaded.processor, max_drafted_tokens=0)
        expected, calls = write(plain, self.texts, images, **settings)
        guessing = VLMModel(loaded.model, loaded.processor)
        first, _ = write(guessing, self.texts, images, **settings)
        again, fewer = write(guessing, self.texts, images, **settings)
        assert first == again == expected
        assert 2 * fewer < calls, "the second time every turn is known"

    def test_are_guessed_from_those_of_others_until_all_is_forgotten(self, loaded):
        model = VLMModel(loaded.model, loaded.processor)
        _, calls = write(model, ["hello"])
        _, fewer = write(model, ["hello"])
        model.engine.clear()
        _, as_before = write(model, ["hello"])
        assert fewer < as_before == calls

    def test_a_picture_is_never_guessed(self, loaded):
        """What was read has pictures; their token must not be read without its pixels."""
        model = VLMModel(loaded.model, loaded.processor)
        [ids], _ = write(model, ["hello"])
        model.engine.clear()
        model.engine.decoder.table.learn([*ids[:4], loaded.encoder.image_token_id, *ids[4:]])
        assert write(model, ["hello"])[0] == [ids]


class TestAttention:
    """Rows of different length in one sequence, against each row by itself with a mask."""

    rows = ((0, 7, 3), (1, 0, 5), (2, 200, 1), (3, 90, 80))

    @pytest.fixture
    def tensors(self):
        generator = torch.Generator().manual_seed(0)

        def make(*shape):
            return torch.randn(*shape, generator=generator)

        tokens = sum(count for *_, count in self.rows)
        return make(1, 6, tokens, 8), make(5, 2, 256, 8), make(5, 2, 256, 8)

    def expected(self, query, key, value):
        parts, first = [], 0
        for row, start, count in self.rows:
            end = start + count
            keys, values = (room[row, :, :end].repeat_interleave(3, dim=0) for room in (key, value))
            scores = query[0, :, first : first + count] @ keys.transpose(1, 2) * 0.3
            hidden = torch.arange(end) > torch.arange(start, end)[:, None]
            parts.append(scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values)
            first += count
        return torch.cat(parts, dim=1).transpose(0, 1)[None]

    def test_row_by_row_and_together_as_on_an_accelerator(self, tensors):
        batch, module = RaggedBatch(self.rows, torch.device("cpu")), torch.nn.Module()
        module.num_key_value_groups = 3
        by_row, _ = _ragged_attention(module, *tensors, None, ragged=batch, scaling=0.3)
        for output in (by_row, _attend_together(*tensors, batch, 0.3)):
            torch.testing.assert_close(output, self.expected(*tensors))

    def test_what_it_does_not_compute_is_refused(self, tensors):
        batch = RaggedBatch(self.rows, torch.device("cpu"))
        with pytest.raises(ValueError, match="by row"):
            _ragged_attention(torch.nn.Module(), *tensors, None, ragged=batch, softcap=30.0)
