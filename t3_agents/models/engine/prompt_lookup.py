"""Guesses of what a model writes next, from what was read and written before."""

from __future__ import annotations

from collections.abc import Sequence


class DraftTable:
    """What followed the last few tokens when they were seen last.

    An agent's code repeats names of files, numbers of observations and its own earlier turns, and the agents of one
    process write alike. A guess costs nothing but a look-up (prompt lookup decoding, as of `prompt_lookup_num_tokens`
    of transformers); the model checks several at once.

    Args:
        max_entries (`int`, *optional*, defaults to 65536): runs of tokens that are remembered; the oldest go first.
    """

    longest_run = 4

    def __init__(self, max_entries: int = 65536):
        self.max_entries = max_entries
        self._next: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return len(self._next)

    def learn(self, ids: Sequence[int], start: int = 1) -> None:
        """Remember what stands before each token of a sequence, from the token at `start` on."""
        for place in range(start, len(ids)):
            for length in range(1, min(self.longest_run, place) + 1):
                run = tuple(ids[place - length : place])
                self._next.pop(run, None)  # the newest stand last
                self._next[run] = ids[place]
        while len(self._next) > self.max_entries:
            del self._next[next(iter(self._next))]

    def followed(self, run: tuple[int, ...]) -> int | None:
        """The token that followed a run of up to `longest_run` tokens."""
        return self._next.get(run)


def draft(tables: Sequence[DraftTable], ids: Sequence[int], number: int) -> list[int]:
    """Guess the tokens behind a sequence.

    Args:
        tables (`Sequence[DraftTable]`): asked for the longest run of tokens first, and for each run in this order.
        ids (`Sequence[int]`): the sequence.
        number (`int`): tokens at most.

    Returns:
        `list[int]`: the guessed tokens; it ends where no table knows what follows.
    """
    tail, guessed = list(ids[-DraftTable.longest_run :]), []
    while len(guessed) < number:
        runs = (tuple(tail[first:]) for first in range(len(tail)))
        found = (table.followed(run) for run in runs for table in tables)
        token = next((token for token in found if token is not None), None)
        if token is None:
            break
        guessed.append(token)
        tail = [*tail, token][-DraftTable.longest_run :]
    return guessed
