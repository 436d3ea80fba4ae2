"""Stop strings of a turn that is being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
