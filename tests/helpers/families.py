"""A tiny model of every supported family: the real class with random weights and the family's own processor.

Without torchvision the processors of families that also read videos do not load, so theirs are made without the part
for videos; pictures and text take the same way as always.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from tokenizers import AddedToken
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin

from tests.helpers.tiny_vlm import make_tiny_vlm


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,
}
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content[0].text }}<|im_end|>{% endgeneration %}"
    "{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def _tiny_tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return AutoProcessor.from_pretrained(make_tiny_vlm(folder)).tokenizer


def make_family(name: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Model, in double precision and evaluation mode, and processor of a family.

    In double precision two ways of computing one thing differ much less than any mistake in one of them. Norms and
    rotary positions are computed in single precision inside some families: what agrees in double precision before
    them mostly still agrees to the last bit behind them.
    """
    tokenizer = copy.deepcopy(_tiny_tokenizer())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[name](tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.double().eval(), processor


def _add(tokenizer: Any, *tokens: str) -> list[int]:
    tokenizer.add_tokens([AddedToken(token, special=True) for token in tokens], special_tokens=True)
    return tokenizer.convert_tokens_to_ids(list(tokens))


def _add_named(tokenizer: Any, names: dict[str, str]) -> dict[str, int]:
    """Add tokens that a processor asks the tokenizer for by these names."""
    ids = dict(zip(names, _add(tokenizer, *names.values()), strict=True))
    for attribute, token in names.items():
        setattr(tokenizer, attribute, token)
        setattr(tokenizer, f"{attribute}_id", ids[attribute])
    return ids


def _processor(class_name: str, tokenizer: Any, image_processor: Any, image: str, **settings: Any) -> ProcessorMixin:
    base = getattr(transformers, class_name)

    class WithoutVideo(base):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> type:
            if argument_name == "video_processor":
                return type(argument)
            return super().check_argument_for_proper_class(argument_name, argument)

    WithoutVideo.__name__ = class_name
    return WithoutVideo(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=CHATML.replace("IMAGE", image), **settings
    )


def _text(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    return {
        **TEXT,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **settings,
    }


def _idefics(model: str, image_processor: Callable[[], Any], **settings: Any) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
        [image, *_] = _add(tokenizer, "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
        processor = _processor(
            f"{model}Processor", tokenizer, image_processor(), "<image>", image_seq_len=4, **settings
        )
        config = getattr(transformers, f"{model}Config")(
            text_config={"model_type": "llama", **_text(tokenizer)},
            vision_config=_siglip(image_size=32, patch_size=8),
            scale_factor=2,
            image_token_id=image,
        )
        return getattr(transformers, f"{model}ForConditionalGeneration")(config), processor

    return make


_smolvlm = _idefics(
    "SmolVLM",
    lambda: transformers.SmolVLMImageProcessorPil(do_image_splitting=False, max_image_size={"longest_edge": 32}),
    # The template asks for the two numbers although there is no video.
    video_processor=SimpleNamespace(num_frames=1, fps=1, model_input_names=[]),
)
# Pictures are cut into four parts and a small copy of the whole, as its checkpoints have it.
_idefics3 = _idefics(
    "Idefics3",
    lambda: transformers.Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
)


def _siglip(**settings: Any) -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.3,
        **settings,
    }


def _qwen(version: str) -> Callable[[Any], tuple[PreTrainedModel, ProcessorMixin]]:
    def make(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
        names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
        image, video, start, end = _add(tokenizer, *names)
        tokenizer.image_token, tokenizer.video_token = names[:2]
        patch = 16 if version == "3" else 14
        processor = _processor(
            {"2": "Qwen2VLProcessor", "2_5": "Qwen2_5_VLProcessor", "3": "Qwen3VLProcessor"}[version],
            tokenizer,
            transformers.Qwen2VLImageProcessorPil(
                patch_size=patch, size={"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}
            ),
            "<|vision_start|><|image_pad|><|vision_end|>",
            video_processor=None,
        )
        rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
        text = _text(tokenizer, rope_parameters=rope)
        tokens = {
            "image_token_id": image,
            "video_token_id": video,
            "vision_start_token_id": start,
            "vision_end_token_id": end,
        }
        if version == "2":
            vision: dict[str, Any] = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
            config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
            return transformers.Qwen2VLForConditionalGeneration(config), processor
        vision = {"depth": 2, "hidden_size": 16, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32}
        if version == "2_5":
            vision |= {"fullatt_block_indexes": [1]}
            config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
            return transformers.Qwen2_5_VLForConditionalGeneration(config), processor
        vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
        text |= {"head_dim": 8}
        config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **tokens)
        return transformers.Qwen3VLForConditionalGeneration(config), processor

    return make


def _internvl(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    ids = _add_named(tokenizer, {**names, "video_token": "<video>"})
    processor = _processor(
        "InternVLProcessor",
        tokenizer,
        transformers.GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False),
        "<IMG_CONTEXT>",
        video_processor=None,
        image_seq_length=4,
    )
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={**_siglip(image_size=[32, 32], patch_size=[8, 8]), "use_qk_norm": False},
        image_token_id=ids["context_image_token"],
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def _llava_onevision(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    image, video = _add(tokenizer, "<image>", "<video>")
    processor = _processor(
        "LlavaOnevisionProcessor",
        tokenizer,
        transformers.LlavaOnevisionImageProcessorPil(
            size={"height": 16, "width": 16}, image_grid_pinpoints=[[16, 16], [16, 32], [32, 16], [32, 32]]
        ),
        "<image>",
        video_processor=None,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
    )
    config = transformers.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", **_siglip(image_size=16, patch_size=8)},
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=[[16, 16], [16, 32], [32, 16], [32, 32]],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def _gemma3(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    start, end, image = _add_named(tokenizer, names).values()
    processor = _processor(
        "Gemma3Processor",
        tokenizer,
        transformers.Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        "<start_of_image>",
        image_seq_length=4,
    )
    config = transformers.Gemma3Config(
        text_config=_text(
            tokenizer, head_dim=8, layer_types=["sliding_attention", "full_attention"], sliding_window=64
        ),
        vision_config=_siglip(image_size=32, patch_size=8),
        mm_tokens_per_image=4,
        boi_token_index=start,
        eoi_token_index=end,
        image_token_index=image,
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    # Made as zeros, so that no picture would count.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=TEXT["initializer_range"])
    return model, processor


def _minicpmv(version: str) -> Callable[[Any], tuple[PreTrainedModel, ProcessorMixin]]:
    """MiniCPM-V: pictures are numbered and cut into slices; three of four layers have linear attention."""

    def make(tokenizer: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
        names = {
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        }
        ids = _add_named(tokenizer, names)
        image_processor = transformers.MiniCPMV4_6ImageProcessorPil(
            scale_resolution=32, patch_size=4, max_slice_nums=4
        )
        processor = _processor(
            f"MiniCPMV{version}Processor",
            tokenizer,
            image_processor,
            "<|image_pad|>",
            # Its attributes are read although there is no video.
            video_processor=SimpleNamespace(slice_mode=False, downsample_mode="16x", model_input_names=[]),
        )
        text = _text(
            tokenizer,
            num_hidden_layers=4,
            head_dim=8,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
        )
        settings: dict[str, Any] = {
            "text_config": {"model_type": "qwen3_5_text", **text},
            "vision_config": _siglip(image_size=32, patch_size=4, num_hidden_layers=3),
            "insert_layer_id": 1,
            "image_token_id": ids["image_token"],
            "video_token_id": ids["video_token"],
        }
        if version == "4_6":
            config = transformers.MiniCPMV4_6Config(**settings)
            return transformers.MiniCPMV4_6ForConditionalGeneration(config), processor
        settings["text_config"]["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [1, 1, 2],
            "partial_rotary_factor": 1.0,
        }
        markers = {
            f"{place}_id": ids[f"{place}_token"] for place in ("image_start", "image_end", "slice_start", "slice_end")
        }
        config = transformers.MiniCPMV4_7Config(
            **settings, **markers, newline_id=tokenizer.convert_tokens_to_ids("\u010a")
        )
        return transformers.MiniCPMV4_7ForConditionalGeneration(config), processor

    return make


GROUPED = ["gemma3", "minicpmv4_6", "minicpmv4_7"]
"""Families whose rows cannot be packed, and whose keys and values cannot be kept."""

FAMILIES: dict[str, Callable[[Any], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "qwen2_vl": _qwen("2"),
    "qwen2_5_vl": _qwen("2_5"),
    "qwen3_vl": _qwen("3"),
    "internvl": _internvl,
    "llava_onevision": _llava_onevision,
    "gemma3": _gemma3,
    "minicpmv4_6": _minicpmv("4_6"),
    "minicpmv4_7": _minicpmv("4_7"),
}
