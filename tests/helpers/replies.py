"""A teacher that says what a test wants, behind the same class as any smolagents model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage

from dataset_builder.synthesis.teacher import ModelTeacher


class Replies(Model):
    """Says the given replies in order, the last one again and again; `asked` holds what it was told.

    Args:
        replies (`str`, `dict` or `Callable`): text, a record that is said as JSON, or a function of what was asked.
    """

    def __init__(self, *replies: str | dict[str, Any] | Callable[[str], Any]):
        super().__init__(model_id="replies-1")
        self.replies = replies
        self.asked: list[str] = []
        self.pictures: list[int] = []

    def generate(self, messages, stop_sequences=None, **kwargs):
        parts = [part for message in messages for part in message.content]
        self.asked.append("\n".join(part["text"] for part in parts if part["type"] == "text"))
        self.pictures.append(sum(part["type"] == "image" for part in parts))
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        reply = reply(self.asked[-1]) if callable(reply) else reply
        text = reply if isinstance(reply, str) else json.dumps(reply)
        return ChatMessage(MessageRole.ASSISTANT, content=text, token_usage=TokenUsage(100, 10))


def teacher_of(*replies: str | dict[str, Any] | Callable[[str], Any]) -> ModelTeacher:
    """A teacher that says these replies; its model is `teacher.model`."""
    return ModelTeacher(Replies(*replies))
