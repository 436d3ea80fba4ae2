"""A controller that replays text."""

from __future__ import annotations

from typing import Any

from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import TokenUsage

from ..errors import InputError


class ScriptedModel(Model):
    """Replays given turns, one per call: the model behind trajectories whose program is known, and behind tests.

    Args:
        outputs (`list[str]`): assistant turns in order.

    Raises:
        InputError: when it is asked for more turns than it has.
    """

    def __init__(self, outputs: list[str]):
        super().__init__(model_id="scripted")
        self.outputs = list(outputs)
        self.position = 0

    def generate(
        self, messages: list[ChatMessage | dict], stop_sequences: list[str] | None = None, **kwargs: Any
    ) -> ChatMessage:
        if self.position >= len(self.outputs):
            raise InputError(f"The script has {len(self.outputs)} turns and was asked for one more.")
        text = self.outputs[self.position]
        self.position += 1
        return ChatMessage(role=MessageRole.ASSISTANT, content=text, token_usage=TokenUsage(0, 0))
