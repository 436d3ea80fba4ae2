"""A speech model of a few hundred kilobytes: a real Whisper with random weights and its own tokenizer."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.tiny_vlm import train_tokenizer


_CORPUS = ["the meeting starts at nine", "we leave the harbour at noon", "rain and wind from the west"]


def make_tiny_whisper(folder: str | Path) -> Path:
    """Write the model and its processor to a folder for `AutoModelForSpeechSeq2Seq`; the same every time."""
    import torch
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer = train_tokenizer(_CORPUS, 400, special)
    fast = WhisperTokenizer(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[0], unk_token=special[0]
    )
    end, start = (fast.convert_tokens_to_ids(token) for token in special[:2])
    config = WhisperConfig(
        vocab_size=len(fast),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_target_positions=32,
        init_std=0.5,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config).float().eval()
    model.generation_config.update(max_length=16, begin_suppress_tokens=None, suppress_tokens=None)
    folder = Path(folder)
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=config.num_mel_bins), fast).save_pretrained(folder)
    return folder
