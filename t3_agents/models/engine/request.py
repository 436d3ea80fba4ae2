"""What a caller asks of the engine, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from t3_agents.interruption import Interruption

from ..encoding import Conversation


@dataclass(eq=False)
class Request:
    """One prompt to continue.

    Args:
        conversation ([`Conversation`]): what the model reads.
        stop_sequences (`tuple[str, ...]`): strings that end the turn; they are part of what was produced.
        settings (`dict`): keyword arguments of `generate`, such as `max_new_tokens`, and `seed`.
        interruption ([`Interruption`], *optional*): what may end the request early.
        output_ids (`list[int]`): what was produced, with the end-of-turn token if it came.
        cached_tokens (`int`): tokens of the prompt whose keys and values were kept.
        batch_size (`int`): requests that ran together with this one at most, itself included.
    """

    conversation: Conversation
    stop_sequences: tuple[str, ...]
    settings: dict[str, Any]
    interruption: Interruption | None = None
    output_ids: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    batch_size: int = 0
    error: BaseException | None = None
    done: bool = False

    def __post_init__(self):
        self.keys = self.conversation.keys()
        self.abandoned = False

    def check(self) -> None:
        """
        Raises:
            InterruptedTurn: when the request is to end early.
        """
        if self.interruption is not None:
            self.interruption.check()

    def is_interrupted(self) -> bool:
        """Whether nobody waits for it any more, or it has failed or is to end early, which its `error` then says."""
        try:
            self.check()
        except Exception as error:
            self.error = error
        return self.abandoned or self.error is not None
