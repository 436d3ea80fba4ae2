"""A vision-language model of a few hundred kilobytes: a real Idefics3 with random weights and its own tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from t3_agents.models.embedded import IMAGE_SIZE, PATCH_SIZE, SCALE_FACTOR, build_processor
from t3_agents.turns import Step


VOCABULARY = 600
"""Tokens that the tokenizer may have at most, without those of pictures."""
CONTEXT = 4096

_CORPUS = [
    "Solve the task step by step. In each step write a thought, then Python code that calls tools and prints.",
    "Thought: the receipt shows what was paid in total, so the answer is the sum.",
    "Code:\n```py\nprint(visualizer('files/receipt.png', 'How much was paid in total?'))\n```<end_action>",
    "Observation: 12.50 euros were paid. Picture: outputs/image_1.png\nError: no code block was found.",
    "Code:\n```py\nfinal_answer('12.50')\n```<end_action>",
    "What is shown in the picture?\nFiles: files/photo.png, files/table.csv",
]


def turn(code: str, thought: str = "think") -> str:
    """An assistant turn with one code block."""
    return f"Thought: {thought}\nCode:\n```py\n{code}\n```<end_action>"


def make_step(code: str, observation: str = "red", error: str | None = None, thought: str = "think", **fields) -> Step:
    """A step as the agent makes it of this code, which may look at a picture or answer."""
    return Step(
        model_output=turn(code, thought),
        thought=thought,
        code=code,
        observation=observation,
        error=error,
        tools=[name for name in ("visualizer", "final_answer") if name in code],
        is_final=code.startswith("final_answer") and error is None,
        **fields,
    )


def train_tokenizer(corpus: list[str], size: int, special: list[str]) -> Any:
    """A byte-level BPE tokenizer with at most `size` tokens, learned from a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=1,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def make_tiny_vlm(folder: str | Path) -> Path:
    """Write the model and its processor to a folder that `VLMModel.from_pretrained` reads; the same every time.

    The weights are large for random ones, so that what the model writes depends on all that it reads; and in double
    precision, so that two ways of computing one thing agree on every processor.
    """
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

    tokenizer = train_tokenizer(_CORPUS, VOCABULARY, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    )
    processor = build_processor(fast)
    ids = processor.tokenizer

    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(ids),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.3,
            "pad_token_id": ids.pad_token_id,
            "bos_token_id": ids.bos_token_id,
            "eos_token_id": ids.eos_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "initializer_range": 0.3,
        },
        scale_factor=SCALE_FACTOR,
        image_token_id=ids.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    # Loading `transformers` classes may draw random numbers, so the seed is set where the weights are made.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Idefics3ForConditionalGeneration(config).double().eval()
    model.generation_config.eos_token_id = ids.eos_token_id
    model.generation_config.pad_token_id = ids.pad_token_id
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
