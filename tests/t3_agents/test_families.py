"""Tiny models of several families behind the engine: what they write is what stock transformers writes."""

import logging

import pytest
import torch
import transformers
from PIL import Image

from t3_agents.decoding import SlotDecoder
from t3_agents.encoding import Conversation
from t3_agents.engine import Engine, Request
from t3_agents.families import reason_against_slots
from t3_agents.models import VLMModel
from t3_agents.waves import WaveDecoder


IMAGE = 590
"""Id of a picture's token."""
COLOURS = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
TEXT = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "initializer_range": 0.3,
}


class Pixels:
    """Stands in for a `ChatEncoder`, whose processors need torchvision for some of the families: pictures of a few
    tokens, with pixels that follow from their colour."""

    image_token_id = IMAGE

    def __init__(self, tokenizer, num_tokens, pixels_of):
        self.tokenizer, self.num_tokens, self.pixels_of = tokenizer, num_tokens, pixels_of

    def pixel_inputs(self, rows):
        images = [image for row in rows for image in row]
        return self.pixels_of(images) if images else {}


def noise(image, *shape):
    seed = sum(image.getpixel((0, 0))) + 7 * image.getpixel((0, 0))[0]
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def squares(images):
    return {"pixel_values": torch.stack([noise(image, 3, 16, 16) for image in images])}


def patches(images):
    grid = torch.tensor([[1, 4, 6]] * len(images))
    return {"pixel_values": torch.cat([noise(i, 24, 3 * 2 * 14 * 14) for i in images]), "image_grid_thw": grid}


def qwen2_vl():
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = transformers.Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1},
        image_token_id=IMAGE,
        video_token_id=591,
        vision_start_token_id=592,
        vision_end_token_id=593,
    )
    return transformers.Qwen2VLForConditionalGeneration(config), 6, patches


def qwen2_5_vl():
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "out_hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 16,
            "fullatt_block_indexes": [0],
        },
        image_token_id=IMAGE,
        video_token_id=591,
        vision_start_token_id=592,
        vision_end_token_id=593,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config), 6, patches


def llava():
    config = transformers.LlavaConfig(
        text_config={**TEXT, "model_type": "qwen2"},
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return transformers.LlavaForConditionalGeneration(config), 4, squares


def llava_onevision():
    config = transformers.LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2"},
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        image_token_index=IMAGE,
        image_grid_pinpoints=[[16, 16]],
        vision_aspect_ratio="anyres_max_9",
        vision_feature_layer=-1,
    )

    def tiles(images):
        pixels = torch.stack([noise(image, 2, 3, 16, 16) for image in images])
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[16, 16]] * len(images))}

    # The whole picture, one tile of it, and the ends of the tile's rows.
    return transformers.LlavaOnevisionForConditionalGeneration(config), 4 + 4 + 2, tiles


def smolvlm():
    config = transformers.SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama"}, vision_config=VISION, scale_factor=2, image_token_id=IMAGE
    )
    # One token: 16 x 16 pixels in patches of 8, two by two.
    return (
        transformers.SmolVLMForConditionalGeneration(config),
        1,
        lambda images: {"pixel_values": squares(images)["pixel_values"][None]},
    )


def gemma3():
    config = transformers.Gemma3Config(
        text_config={**TEXT, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=592,
        eoi_token_index=593,
    )
    return transformers.Gemma3ForConditionalGeneration(config), 4, squares


def mistral3():
    """A window over a plain language model."""
    config = transformers.LlavaConfig(
        text_config={**TEXT, "model_type": "mistral", "sliding_window": 8},
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        image_token_index=IMAGE,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return transformers.LlavaForConditionalGeneration(config), 4, squares


REUSED = [qwen2_vl, qwen2_5_vl, llava, llava_onevision, smolvlm]
NOT_REUSED = [gemma3, mistral3]


@pytest.fixture(scope="module")
def tokenizer(tiny_vlm):
    return VLMModel.from_pretrained(tiny_vlm).encoder.tokenizer


@pytest.fixture
def make_engine(tokenizer):
    def make_engine(family, **settings):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, num_tokens, pixels = family()
        return Engine(model.float().eval(), Pixels(tokenizer, num_tokens, pixels), **settings)

    return make_engine


def talk(engine, seed, images):
    """Three turns, each with a picture or without; the requests."""
    words = torch.Generator().manual_seed(seed)
    conversation, requests = Conversation(), []
    for turn in range(3):
        conversation.extend(torch.randint(3, 580, (3 + 5 * (seed % 3),), generator=words).tolist(), False)
        if turn < len(images):
            start = len(conversation.ids)
            conversation.extend([IMAGE] * engine.encoder.num_tokens, False)
            conversation.image_spans.append((start, len(conversation.ids)))
            conversation.images.append(images[turn])
        conversation.extend(torch.randint(3, 580, (4,), generator=words).tolist(), False)
        copy = Conversation(list(conversation.ids), [], list(conversation.image_spans), [], list(conversation.images))
        request = Request(copy, (), {"max_new_tokens": 10, "do_sample": False})
        engine.generate(request)
        conversation.extend(request.output_ids, True)
        requests.append(request)
    return requests


def stock(engine, request):
    model = engine.model
    # A model of its own state: Qwen2-VL keeps the shift of the last prompt in the model.
    model.model.rope_deltas = None
    ids = torch.tensor([request.conversation.ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if request.conversation.images:
        types = (ids == IMAGE).long()
        inputs |= engine.encoder.pixel_inputs([request.conversation.images])
        if "qwen" in model.config.model_type:
            inputs["mm_token_type_ids"] = types
        elif model.config.model_type == "gemma3":
            inputs["token_type_ids"] = types
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=10, do_sample=False, suppress_tokens=[IMAGE])
    return output[0, ids.shape[1] :].tolist()


CONVERSATIONS = [(1, []), (2, COLOURS[:1]), (3, COLOURS[1:]), (4, COLOURS)]


@pytest.mark.parametrize("family", [*REUSED, *NOT_REUSED])
def test_every_turn_is_that_of_stock_transformers(make_engine, family):
    engine = make_engine(family)
    assert isinstance(engine.decoder, SlotDecoder if family in REUSED else WaveDecoder)
    for seed, images in CONVERSATIONS:
        requests = talk(engine, seed, images)
        assert [r.output_ids for r in requests] == [stock(engine, r) for r in requests]
        reused = [r.cached_tokens for r in requests]
        if family in REUSED:
            assert reused[1] > 0 and reused[2] > reused[1]
        else:
            assert reused == [0, 0, 0]


@pytest.mark.parametrize("family", [*REUSED, *NOT_REUSED])
def test_a_batch_gives_each_its_own(make_engine, family):
    engine = make_engine(family)
    expected = [talk(make_engine(family), *job)[-1] for job in CONVERSATIONS]
    again = [Request(r.conversation, (), r.settings) for r in expected]
    waiting, done = list(again), []
    while len(done) < len(again):
        done += engine.decoder.step(lambda: waiting.pop(0) if waiting else None)
    assert [r.output_ids for r in again] == [r.output_ids for r in expected]
    assert max(r.batch_size for r in again) == 4


@pytest.mark.parametrize("family", NOT_REUSED)
def test_what_cannot_be_reused_is_said(make_engine, caplog, family):
    with caplog.at_level(logging.WARNING):
        engine = make_engine(family)
    assert type(engine.model).__name__ in caplog.text and "not kept between turns" in caplog.text
    assert engine.cached_bytes == 0


def test_an_adapter_changes_nothing_about_the_family(make_engine):
    from peft import LoraConfig, get_peft_model

    for family in (llava, gemma3):
        model = make_engine(family).model
        before = reason_against_slots(model)
        assert reason_against_slots(get_peft_model(model, LoraConfig(target_modules=["q_proj"]))) == before
