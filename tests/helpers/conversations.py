"""Conversations with a model behind `VLMModel`, and what transformers itself writes in its place."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from smolagents.models import ChatMessage, MessageRole

from t3_agents.models.messages import Generation
from t3_agents.models.vlm import VLMModel


def user(text: str, *images: Image.Image) -> ChatMessage:
    content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
    return ChatMessage(role=MessageRole.USER, content=content)


def talk(model: VLMModel, texts: Sequence[str], images: Sequence[Image.Image] = ()) -> list[Generation]:
    """What each turn of a conversation gave; its first turns have a picture each, as far as there are pictures."""
    messages, answers = [], []
    for number, text in enumerate(texts):
        messages.append(user(text, *images[number : number + 1]))
        answers.append(model.generate(messages).raw)
        messages.append(ChatMessage(role=MessageRole.ASSISTANT, content=answers[-1].text, raw=answers[-1]))
    return answers


def stock_ids(model: VLMModel, prompt: Sequence[int], images: Sequence[Image.Image], **settings: Any) -> list[int]:
    """What transformers itself writes, computing everything, behind the ids and pictures of a prompt."""
    ids = torch.tensor([prompt])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **model.encoder.pixel_inputs([images])}
    for name in {"token_type_ids", "mm_token_type_ids"} & set(inspect.signature(model.model.forward).parameters):
        inputs[name] = (ids == model.model.config.image_token_id).long()
    # Qwen2-VL keeps the positions of the last prompt in the model.
    model.model.model.rope_deltas = None
    settings = {"max_new_tokens": model.generation["max_new_tokens"], "do_sample": False, **settings}
    with torch.inference_mode():
        output = model.model.generate(**inputs, suppress_tokens=[model.encoder.image_token_id], **settings)
    return output[0, ids.shape[1] :].tolist()
