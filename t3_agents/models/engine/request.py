"""What a caller asks of the engine, and what it gets."""

from __future__ import annotations

from collections.abc import Sequence
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


class StopStrings:
    """Tells whether the newest token completes a stop string, also when it lies across several tokens.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the tokenizer.
        strings (`Sequence[str]`): the stop strings.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]):
        self.tokenizer = tokenizer
        self.strings = tuple(strings)
        # A token has a byte at least; one more in front, since tokenizers strip a space at the beginning.
        self._tokens = max((len(string.encode()) for string in strings), default=0) + 1

    def end(self, ids: Sequence[int]) -> bool:
        """Whether what was produced ends the turn."""
        if not self.strings:
            return False
        tail = self.tokenizer.decode(
            list(ids[-self._tokens :]), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return any(string in tail for string in self.strings)

    def cut(self, ids: Sequence[int]) -> list[int]:
        """Ids up to the first stop string, that included."""
        for end in range(1, len(ids) + 1):
            if self.end(ids[:end]):
                return list(ids[:end])
        return list(ids)
