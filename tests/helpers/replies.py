"""A teacher that says what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dataset_builder.synthesis.teacher import Completion, Teacher
from t3_agents.models.endpoint import Endpoint
from t3_agents.models.messages import wire_messages


class Replies(Teacher):
    """Says the given replies in order, the last one again and again; `asked` holds what it was told.

    Args:
        replies (`str`, `dict` or `Callable`): text, a record that is said as JSON, or a function of what was asked.
    """

    name = "replies-1"

    def __init__(self, *replies: str | dict[str, Any] | Callable[[str], Any]):
        super().__init__(Endpoint("http://nobody"), self.name)
        self.knows_schemas = False
        self.replies = replies
        self.asked: list[str] = []
        self.pictures: list[int] = []

    def complete(self, stage, messages, schema=None, stop=(), max_tokens=None):
        self.ledger.check()
        parts = [part for message in wire_messages(messages, lambda image: "") for part in message["content"]]
        self.asked.append("\n".join(part["text"] for part in parts if part["type"] == "text"))
        self.pictures.append(sum(part["type"] == "image_url" for part in parts))
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        reply = reply(self.asked[-1]) if callable(reply) else reply
        text = reply if isinstance(reply, str) else json.dumps(reply)
        return Completion(text, self.name, self._count(stage, 100, 10, attempts=1), attempts=1)
