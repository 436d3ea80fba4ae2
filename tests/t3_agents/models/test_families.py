"""Tiny models of every family behind the engine: what they write is what stock transformers writes."""

import logging
from functools import partial

import pytest
import torch
from PIL import Image

from t3_agents.models.engine.continuous_batching import ContinuousBatchingDecoder
from t3_agents.models.engine.static_batching import StaticBatchingDecoder
from t3_agents.models.families import reason_against_continuous_batching
from t3_agents.models.vlm import VLMModel
from tests.helpers import in_threads
from tests.helpers.conversations import stock_ids, talk
from tests.helpers.families import FAMILIES, GROUPED, make_family


PICTURES = [Image.new("RGB", size, color) for size, color in (((40, 30), "red"), ((30, 64), "blue"))]
TURNS = ["What is shown in the picture?", "Observation: 12.50 euros were paid.", "Go on."]
NOT_REUSED = [*GROUPED, "window"]


def with_window():
    """A sliding window over an otherwise plain language model."""
    from transformers import MistralConfig, MistralModel

    model, processor = make_family("llava_onevision")
    text = model.config.text_config
    config = MistralConfig(**{**text.to_dict(), "model_type": "mistral", "sliding_window": 8, "layer_types": None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.model.language_model = MistralModel(config).double().eval()
    model.config.text_config = config
    return model, processor


@pytest.fixture(params=[*FAMILIES, "window"])
def family(request):
    return request.param


@pytest.fixture
def make_model(family):
    def make_model(name=family):
        model, processor = with_window() if name == "window" else make_family(name)
        return VLMModel(model, processor, max_new_tokens=10)

    return make_model


@pytest.mark.slow
@pytest.mark.parametrize("images", [[], PICTURES[:1], PICTURES], ids=len)
def test_every_turn_is_that_of_stock_transformers(make_model, family, images):
    model = make_model()
    assert isinstance(
        model.engine.decoder, StaticBatchingDecoder if family in NOT_REUSED else ContinuousBatchingDecoder
    )
    answers = talk(model, TURNS, images)
    for number, answer in enumerate(answers):
        assert list(answer.output_ids) == stock_ids(model, answer.input_ids, images[: number + 1])
    reused = [answer.cached_tokens for answer in answers]
    if family in NOT_REUSED:
        assert reused == [0, 0, 0]
    else:
        assert 0 == reused[0] < reused[1] < reused[2]


@pytest.mark.slow
def test_concurrent_agents_get_their_own(make_model):
    jobs = [[], PICTURES[:1], PICTURES, PICTURES[::-1]]
    alone = [talk(make_model(), TURNS, images) for images in jobs]
    model = make_model()
    assert in_threads([partial(talk, model, TURNS, images) for images in jobs]) == alone


@pytest.mark.parametrize("family", NOT_REUSED, indirect=True)
def test_what_cannot_be_reused_is_said(make_model, caplog):
    with caplog.at_level(logging.WARNING):
        model = make_model()
    assert type(model.model).__name__ in caplog.text and "not kept between turns" in caplog.text
    assert model.engine.decoder.cached_bytes == 0


@pytest.mark.parametrize("family", ["smolvlm", "gemma3"], indirect=True)
def test_an_adapter_changes_nothing_about_the_family(make_model):
    from peft import LoraConfig, get_peft_model

    model = make_model().model
    before = reason_against_continuous_batching(model)
    assert reason_against_continuous_batching(get_peft_model(model, LoraConfig(target_modules=["q_proj"]))) == before
