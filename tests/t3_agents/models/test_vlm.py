"""A real, tiny model behind `VLMModel`: the tokens of stock transformers, whatever is shared or kept."""

import copy
import json
import shutil

import pytest
import torch
from PIL import Image
from smolagents import FinalAnswerTool
from smolagents.models import ChatMessage, MessageRole

from t3_agents.errors import InputError
from t3_agents.models.engine.request import Request
from t3_agents.models.messages import Generation
from t3_agents.models.vlm import VLMModel
from tests.helpers import in_threads
from tests.helpers.conversations import stock_ids, talk, user


RED, BLUE = Image.new("RGB", (96, 64), "red"), Image.new("RGB", (96, 64), "blue")
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def loaded(tiny_vlm):
    return VLMModel.from_pretrained(tiny_vlm)


@pytest.fixture
def make_model(loaded):
    """A `VLMModel` around the loaded weights."""

    def make_model(**settings):
        return VLMModel(loaded.model, loaded.processor, max_new_tokens=NEW_TOKENS, **settings)

    return make_model


@pytest.fixture
def model(make_model):
    return make_model()


class TestOneRequest:
    @pytest.mark.parametrize("images", [(), (RED,), (RED, BLUE)], ids=len)
    def test_the_tokens_are_those_of_stock_transformers(self, model, images):
        answer = model.generate([user("What is shown in the picture?", *images)])
        assert list(answer.raw.output_ids) == stock_ids(model, answer.raw.input_ids, images)
        assert answer.token_usage.output_tokens == len(answer.raw.output_ids)
        assert answer.token_usage.input_tokens == len(answer.raw.input_ids)
        assert answer.role == MessageRole.ASSISTANT and answer.content == answer.raw.text

    def test_the_model_sees_the_pixels(self, model):
        answers = {model.generate([user("What is it?", image)]).raw.output_ids for image in (RED, BLUE)}
        assert len(answers) == 2

    def test_dicts_are_messages_too(self, model):
        plain = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
        assert model.generate(plain).raw == model.generate([user("hello")]).raw

    def test_messages_of_one_role_are_one_turn(self, model):
        one = model.generate([user("a\nb")]).raw.input_ids
        two = model.generate([user("a"), user("b")]).raw.input_ids
        assert model.processor.decode(one) == model.processor.decode(two)

    def test_a_stream_gives_the_turn_as_it_comes(self, model):
        whole = model.generate([user("hello")])
        stop, _ = find_stop(model, "hello")
        for stops in ([], [stop]):
            pieces, stream = [], model.generate_stream([user("hello")], stop_sequences=stops)
            while True:
                try:
                    pieces.append(next(stream))
                except StopIteration as end:
                    message = end.value
                    break
            assert "".join(piece.content for piece in pieces) == message.content
            assert message.raw == model.generate([user("hello")], stop_sequences=stops).raw
            assert pieces[-1].token_usage == message.token_usage
        assert whole.content.startswith(message.content)
        next(model.generate_stream([user("hello")]))  # one that is left early holds nobody up
        assert model.generate([user("hello")]).raw == whole.raw

    def test_structured_output_is_refused_and_so_are_tools_without_a_place_in_the_template(self, model):
        with pytest.raises(InputError, match="plain text turns"):
            model.generate([user("hello")], response_format={"type": "json"})
        with pytest.raises(InputError, match="no place for tools"):
            model.generate([user("hello")], tools_to_call_from=[FinalAnswerTool()])

    def test_tools_stand_in_the_prompt_of_a_template_that_has_a_place_for_them(self, loaded):
        processor = copy.deepcopy(loaded.processor)
        processor.chat_template = (
            "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + processor.chat_template
        )
        model = VLMModel(loaded.model, processor, max_new_tokens=NEW_TOKENS)
        read = model.generate([user("hello")], tools_to_call_from=[FinalAnswerTool()], max_tokens=2).raw
        assert processor.decode(read.input_ids).startswith("final_answer") and len(read.output_ids) <= 2
        said = '<tool_call>{"name": "final_answer", "arguments": {"answer": 1}}</tool_call>'
        [call] = model.parse_tool_calls(ChatMessage(role="assistant", content=said)).tool_calls
        assert call.function.arguments == {"answer": 1}

    def test_a_conversation_that_is_too_long(self, model):
        with pytest.raises(InputError, match=rf"tokens and {NEW_TOKENS} more are asked for, but the model takes 4096"):
            model.generate([user("zq" * 4000)])
        assert model.generate([user("short")]).raw.output_ids

    def test_a_picture_token_is_never_written(self, model, loaded):
        image_id = model.encoder.image_token_id
        weights = loaded.model.lm_head.weight
        before = weights.detach().clone()
        try:
            with torch.no_grad():
                weights[image_id] += 1000 * weights.abs().max() * torch.sign(weights[image_id] + 0.1)
            written = model.generate([user("hello", RED)]).raw.output_ids
        finally:
            with torch.no_grad():
                weights.copy_(before)
        assert image_id not in written


def find_stop(model, text):
    """Words across a token boundary that end an answer early, and the number of its tokens up to there."""
    ids = model.generate([user(text)]).raw.output_ids
    for end in range(3, len(ids) - 2):
        stop = model.encoder.decode(ids[end - 2 : end])
        if stop.isprintable() and "\ufffd" not in stop and stop not in model.encoder.decode(ids[: end - 1]):
            return stop, end
    raise AssertionError("No answer is fit for this test.")


def test_content_ends_before_a_stop_sequence_and_the_turn_with_it(model):
    whole = model.generate([user("hello")]).raw
    stop, end = find_stop(model, "hello")
    answer = model.generate([user("hello")], stop_sequences=["Observation:", stop])
    assert answer.raw.output_ids == whole.output_ids[:end]
    assert answer.raw.text == answer.content + stop and not answer.content.endswith(stop)


class TestReuse:
    TEXTS = ["What is it?", "Observation: 12.50", "Observation: nothing was printed.", "Go on."]

    @pytest.mark.parametrize("images", [[], [RED], [RED, BLUE, RED]], ids=len)
    @pytest.mark.parametrize("max_cached_tokens", [0, 20, 32768])
    def test_every_turn_is_that_of_stock_transformers(self, make_model, images, max_cached_tokens):
        model = make_model(max_cached_tokens=max_cached_tokens)
        for number, answer in enumerate(talk(model, self.TEXTS, images)):
            assert list(answer.output_ids) == stock_ids(model, answer.input_ids, images[: number + 1])

    def test_other_pictures_with_the_same_ids_share_nothing(self, make_model):
        model = make_model()
        first = model.generate([user("What is it?", RED)]).raw
        second = model.generate([user("What is it?", BLUE)]).raw
        assert first.input_ids == second.input_ids
        assert second == make_model(max_cached_tokens=0).generate([user("What is it?", BLUE)]).raw
        assert second.output_ids != first.output_ids

    def test_reuse_starts_in_no_picture(self, make_model):
        """Two pictures whose first tokens are equal: the second is computed as a whole."""
        model = make_model()
        model.generate([user("What?", RED, RED)])
        answer = model.generate([user("What?", RED, BLUE)]).raw
        assert list(answer.output_ids) == stock_ids(model, answer.input_ids, [RED, BLUE])

    def test_an_edited_history_is_computed_anew(self, make_model):
        model = make_model()
        talk(model, ["one", "two"])
        messages = [user("one"), ChatMessage(role=MessageRole.ASSISTANT, content="other"), user("two")]
        kept = model.generate(messages).raw
        model.engine.clear()
        assert model.generate(messages).raw == kept

    def test_the_same_prompt_twice(self, model):
        assert model.generate([user("hello")]).raw == model.generate([user("hello")]).raw

    def test_only_what_is_new_is_computed(self, model):
        answers = talk(model, self.TEXTS, [RED])
        lengths = [len(answer.input_ids) + len(answer.output_ids) - 1 for answer in answers]
        assert [answer.cached_tokens for answer in answers] == [0, *lengths[:-1]]
        assert model.engine.decoder.tree.num_tokens == lengths[-1]

    def test_a_system_prompt_is_computed_once(self, model):
        system = ChatMessage(role=MessageRole.SYSTEM, content="Solve the task step by step. " * 5)
        one, two, zero = (model.generate([system, user(text)]).raw for text in ("one", "two", "zero"))
        pairs = enumerate(zip(one.input_ids, two.input_ids, strict=False))
        assert zero.cached_tokens >= next(place for place, (a, b) in pairs if a != b) > 30

    def test_nothing_is_kept_after_clear(self, model):
        model.generate([user("hello")])
        assert model.engine.decoder.cached_bytes
        model.engine.clear()
        assert model.generate([user("hello")]).raw.cached_tokens == 0


class TestConcurrentAgents:
    @pytest.mark.parametrize("max_cached_tokens", [0, 32768])
    def test_a_batch_gives_every_agent_its_own_tokens(self, make_model, max_cached_tokens):
        jobs = [(["What is it?", "go on " * n, "end"][: 2 + n % 2], [[], [RED], [RED, BLUE]][n % 3]) for n in range(6)]
        alone = [talk(make_model(), *job) for job in jobs]
        model = make_model(max_cached_tokens=max_cached_tokens)
        assert in_threads([lambda job=job: talk(model, *job) for job in jobs]) == alone

    def test_an_error_in_one_request_leaves_the_others(self, model):
        expected = model.generate([user("hello")]).raw

        def fail():
            with pytest.raises(ValueError, match="no_such_setting"):
                model.generate([user("hello")], no_such_setting=1)
            with pytest.raises(InputError, match="the model takes"):
                model.generate([user("zq" * 4000)])
            return model.generate([user("hello")]).raw

        calls = [fail, *[lambda: model.generate([user("hello")]).raw] * 3]
        assert in_threads(calls) == [expected] * 4

    def test_beams_are_refused(self, model):
        with pytest.raises(InputError, match="num_beams"):
            model.generate([user("hello")], num_beams=2)


class TestSampling:
    def test_a_seed_makes_it_repeatable(self, make_model):
        model = make_model(do_sample=True, temperature=1.5, seed=3)
        first, second = (model.generate([user("hello")]).raw.output_ids for _ in range(2))
        other = model.generate([user("hello")], seed=4).raw.output_ids
        assert first == second != other
        assert first == make_model(do_sample=True, temperature=1.5, seed=3).generate([user("hello")]).raw.output_ids

    def test_without_a_seed_turns_differ(self, make_model):
        model = make_model(do_sample=True, temperature=5.0)
        assert len({model.generate([user("hello")]).raw.output_ids for _ in range(3)}) > 1


class TestLoading:
    def test_round_trip(self, model, tmp_path):
        controller = model.save_pretrained(tmp_path)
        assert controller == {"base": None, "revision": None, "adapter": False}
        again = VLMModel.from_pretrained(tmp_path, max_new_tokens=NEW_TOKENS)
        assert again.model_id == tmp_path.name
        assert again.generate([user("What?", RED)]).raw == model.generate([user("What?", RED)]).raw

    @pytest.fixture
    def adapter(self, tiny_vlm, tmp_path):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForImageTextToText, AutoProcessor

        base = AutoModelForImageTextToText.from_pretrained(tiny_vlm)
        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
        AutoProcessor.from_pretrained(tiny_vlm).save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    def test_an_adapter_is_put_on_its_base(self, adapter, model):
        tuned = VLMModel.from_pretrained(adapter, max_new_tokens=NEW_TOKENS)
        assert tuned.generate([user("hello", RED)]).raw != model.generate([user("hello", RED)]).raw
        assert talk(tuned, TestReuse.TEXTS, [RED]) == talk(tuned, TestReuse.TEXTS, [RED])

    def test_an_adapter_on_a_local_base_is_saved_merged(self, adapter, tiny_vlm, tmp_path):
        tuned = VLMModel.from_pretrained(adapter, max_new_tokens=NEW_TOKENS)
        before = tuned.generate([user("hello", RED)]).raw
        assert tuned.save_pretrained(tmp_path / "whole") == {"base": None, "revision": None, "adapter": False}
        assert tuned.generate([user("hello", RED)]).raw == before
        shutil.rmtree(adapter)
        names = {path.name for path in (tmp_path / "whole").iterdir()}
        assert "model.safetensors" in names and "adapter_config.json" not in names
        assert not any(str(tiny_vlm) in p.read_text() for p in (tmp_path / "whole").glob("*.json"))
        again = VLMModel.from_pretrained(tmp_path / "whole", max_new_tokens=NEW_TOKENS)
        assert again.generate([user("hello", RED)]).raw == before

    def test_an_adapter_without_a_base(self, adapter, tiny_vlm):
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": None}))
        with pytest.raises(InputError, match="pass `base`"):
            VLMModel.from_pretrained(adapter)
        assert VLMModel.from_pretrained(adapter, base=str(tiny_vlm)).generation["do_sample"] is False

    def test_what_is_no_model(self, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad/config.json").write_text("{")
        for name, reason in (
            (tmp_path / "empty", "cannot be loaded"),
            (tmp_path / "bad", "config.json is not JSON"),
            ("no/such-model", "neither a folder nor a repo"),
            ("../no such name", "neither a folder nor the id"),
        ):
            with pytest.raises(InputError, match=reason) as caught:
                VLMModel.from_pretrained(name)
            assert "\n" not in str(caught.value)


def test_a_request_tells_pictures_apart(model):
    def request(image):
        message = {"role": "user", "content": [{"type": "image"}]}
        return Request(model.encoder.encode([message], [image]), (), {})

    red, blue = request(RED), request(BLUE)
    assert red.conversation.ids == blue.conversation.ids and red.keys != blue.keys
    assert red.keys == request(RED.copy()).keys and len(red.keys) == len(red.conversation.ids)


def test_a_generation_is_hashable():
    assert len({Generation("a", (1,), (2,)), Generation("a", (1,), (2,))}) == 1
