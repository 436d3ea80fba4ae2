"""A controller that replays text."""

from __future__ import annotations

from typing import Any

from smolagents.models import ChatMessage, ChatMessageStreamDelta, MessageRole
from smolagents.monitoring import TokenUsage

from ..errors import InputError
from .messages import TextModel, Turn


class ScriptedModel(TextModel):
    """Replays given turns, one per call: the model behind trajectories whose program is known, and behind tests.

    Args:
        outputs (`list[str]`): assistant turns in order.

    Raises:
        InputError: when it is asked for more turns than it has.
    """

    def __init__(self, outputs: list[str]):
        super().__init__("scripted")
        self.outputs = list(outputs)
        self.position = 0

    def write(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        is_streamed: bool,
    ) -> Turn:
        if self.position >= len(self.outputs):
            raise InputError(f"The script has {len(self.outputs)} turns and was asked for one more.")
        self.position += 1
        text, usage = self.outputs[self.position - 1], TokenUsage(0, 0)
        yield ChatMessageStreamDelta(content=text, token_usage=usage)
        return ChatMessage(role=MessageRole.ASSISTANT, content=text, token_usage=usage)
