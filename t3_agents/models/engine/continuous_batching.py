"""Continuous decoding: requests join and leave the running batch between two calls of the model.

A call takes the newest token of each request and, behind it, a guess of the next ones. What the model says behind the
newest token counts, and what it says behind a guess counts as long as the request chose the guessed tokens itself. So
the turn is the one that would be written token by token, greedily or by sampling, in fewer calls.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..encoding import ChatEncoder
from ..families import Positions
from .kv_cache import PrefixTree, SlotCache
from .prompt_lookup import DraftTable, draft
from .ragged_attention import RaggedBatch, ragged_attention
from .request import Request, StopStrings


if TYPE_CHECKING:
    from transformers import LogitsProcessorList, PreTrainedModel


logger = logging.getLogger(__name__)

_SHORT_DRAFT = 2
"""Tokens that are guessed at once unless the last guess was right: up to about three tokens cost as much as one."""


@dataclass(eq=False)
class _Row:
    """A request that runs or is about to, with what stock `generate` prepared for it."""

    request: Request
    processors: LogitsProcessorList
    do_sample: bool
    max_new_tokens: int
    ends: set[int]
    stops: StopStrings
    generator: torch.Generator | None
    position_shift: int = 0
    """Position of a token less its place; below 0 behind a picture where positions are multi-modal."""
    draft_length: int = _SHORT_DRAFT
    """Tokens to guess: twice as many after a guess that was right."""

    def __post_init__(self):
        self.table = DraftTable()
        self.table.learn(self.ids)

    @property
    def ids(self) -> list[int]:
        return [*self.request.conversation.ids, *self.request.output_ids]

    @property
    def keys(self) -> list[Any]:
        return [*self.request.keys, *self.request.output_ids]

    def guess(self, common: DraftTable, most: int, picture: int) -> list[int]:
        """The tokens that may come next.

        Args:
            common ([`DraftTable`]): what was written in other conversations.
            most (`int`): tokens at most.
            picture (`int`): token of a picture, which is never written.
        """
        number = min(self.draft_length, most, self.max_new_tokens - len(self.request.output_ids) - 1)
        guessed = draft((self.table, common), self.ids[-DraftTable.longest_run :], number)
        return guessed[: guessed.index(picture)] if picture in guessed else guessed

    def extend(self, logits: torch.Tensor, guessed: Sequence[int]) -> int:
        """Choose the next tokens.

        Args:
            logits (`Tensor` of shape `(1 + len(guessed), vocabulary)`): behind the newest token, and each guessed one.
            guessed (`Sequence[int]`): tokens that the model read behind the newest one.

        Returns:
            `int`: the number of tokens that were chosen.
        """
        right = 0
        self._append(logits[0])
        for token in guessed:
            if self.request.output_ids[-1] != token or self.is_complete:
                break
            right += 1
            self._append(logits[right])
        if guessed:
            self.draft_length = 2 * len(guessed) if right == len(guessed) else _SHORT_DRAFT
        ids = [*self.request.conversation.ids[-DraftTable.longest_run :], *self.request.output_ids]
        self.table.learn(ids, start=len(ids) - right - 1)
        return right + 1

    def _append(self, logits: torch.Tensor) -> None:
        """Choose the next token from logits of shape `(vocabulary,)`."""
        if self.processors or self.do_sample:
            ids = torch.tensor([self.ids], device=logits.device)
            scores = self.processors(ids, logits[None].to(copy=True, dtype=torch.float32))[0]
        else:
            scores = logits
        if self.do_sample:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self.generator).item()
        else:
            token = scores.argmax(-1).item()
        self.request.output_ids.append(token)

    @property
    def is_complete(self) -> bool:
        produced = self.request.output_ids
        if not produced:
            return False
        return len(produced) >= self.max_new_tokens or produced[-1] in self.ends or self.stops.end(produced)


class ContinuousBatchingDecoder:
    """Decodes greedily or by sampling, with the logits processors of stock `generate`.

    Args:
        model ([`~transformers.PreTrainedModel`]): a model of full attention.
        encoder ([`ChatEncoder`]): makes the pixel inputs of new pictures.
        positions ([`Positions`]): position ids of the family.
        max_batch_size (`int`): requests that run together.
        max_cached_tokens (`int`): tokens whose keys and values are kept between requests.
        max_drafted_tokens (`int`): tokens of a request that are guessed at once.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: ChatEncoder,
        positions: Positions,
        max_batch_size: int,
        max_cached_tokens: int,
        max_drafted_tokens: int,
    ):
        self.model = model
        self.encoder = encoder
        self.positions = positions
        self.max_batch_size = max_batch_size
        self.max_drafted_tokens = max_drafted_tokens
        self.tree = PrefixTree(max_cached_tokens)
        self.table = DraftTable()
        """What was written in all conversations."""
        self._rows: list[_Row] = []
        self._again: deque[_Row] = deque()
        self._most_rows: int | None = None
        """Rows that the memory had room for, after it was full once."""
        self._slots = self._new_slots()

    @property
    def cached_bytes(self) -> int:
        """Memory of the keys and values that are kept between requests."""
        return self.tree.num_bytes

    def clear(self) -> None:
        self.tree.clear()
        self.table = DraftTable()

    def restart(self) -> None:
        """Forget everything that runs or is kept."""
        self.tree.clear()
        self._again.clear()
        self._rows, self._slots = [], self._new_slots()

    @torch.inference_mode()
    def step(self, take: Callable[[], Request | None]) -> list[Request]:
        """Let waiting requests join, then produce one token for each.

        Args:
            take (`Callable`): gives the next request that waits, or `None`.

        Returns:
            `list[Request]`: those that are done.
        """
        finished: list[Request] = []
        self._drop_interrupted(finished)
        while len(self._rows) < min(self.max_batch_size, self._most_rows or self.max_batch_size):
            row = self._again.popleft() if self._again else self._prepare(take, finished)
            if row is None:
                break
            self._admit(row, finished)
        self._drop_complete(finished)
        if self._rows:
            self._decode(finished)
            self._drop_complete(finished)
        return finished

    # Joining

    def _prepare(self, take: Callable[[], Request | None], finished: list[Request]) -> _Row | None:
        """The next request that can run, or `None` when nobody waits."""
        while (request := take()) is not None:
            try:
                request.check()
                return self._make_row(request)
            except Exception as error:  # of this request alone
                request.error = error
                finished.append(request)
        return None

    def _make_row(self, request: Request) -> _Row:
        settings = dict(request.settings)
        seed = settings.pop("seed", None)

        def keep(model, input_ids, logits_processor, stopping_criteria, generation_config, **_):
            return generation_config, logits_processor

        # Checked settings and logits processors, from `generate` itself: its `custom_generate` gets them.
        ids = torch.tensor([request.conversation.ids], device=self.model.device)
        config, processors = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), custom_generate=keep, **settings
        )
        ends = config.eos_token_id
        return _Row(
            request=request,
            processors=processors,
            do_sample=bool(config.do_sample),
            max_new_tokens=config.max_length - len(request.conversation.ids),
            ends={*ends} if isinstance(ends, list) else {ends},
            stops=StopStrings(self.encoder.tokenizer, request.stop_sequences),
            generator=None if seed is None else torch.Generator(self.model.device).manual_seed(seed),
        )

    def _admit(self, row: _Row, finished: list[Request]) -> None:
        """Read the prompt of a row and choose its first token."""
        if row.is_complete:  # it was interrupted between its last token and its end
            finished.append(row.request)
            return
        try:
            logits = self._read_prompt(row)
            row.extend(logits, ())
            self._rows.append(row)
        except Exception as error:
            if _is_out_of_memory(error) and (self._rows or self.tree.num_tokens):
                self._make_do_with_less(row)
                return
            del self._slots.lengths[len(self._rows) :]
            row.request.error = error
            finished.append(row.request)

    def _read_prompt(self, row: _Row) -> torch.Tensor:
        """Logits of shape `(1, vocabulary)` behind the last token."""
        request, slots, keys, ids = row.request, self._slots, row.keys, row.ids
        start = sum(count for _, count in self.tree.match(keys[:-1]))
        for first, last in request.conversation.image_spans:
            if first < start < last:
                start = first
        request.cached_tokens = max(request.cached_tokens, start)
        device = self.model.device
        spans = request.conversation.image_spans
        images = [i for (first, _), i in zip(spans, request.conversation.images, strict=True) if first >= start]
        pixels = {name: value.to(device) for name, value in self.encoder.pixel_inputs([images]).items()}
        pictures = {(first, last): keys[first][0] for first, last in spans}
        position_ids, row.position_shift = self.positions.of_prompt(ids, pictures, start, pixels)
        number = slots.add(self.tree.match(keys[:start]), len(ids))
        batch = slots.expect({number: len(ids) - start}, device)
        logits = self._call_model(batch, ids[start:], position_ids.to(device), logits_to_keep=1, **pixels)
        slots.lengths[number] = len(ids)
        self._keep(number, keys)
        return logits

    def _call_model(
        self, batch: RaggedBatch, ids: list[int], position_ids: torch.Tensor, **inputs: Any
    ) -> torch.Tensor:
        """Logits of shape `(tokens, vocabulary)`."""
        with ragged_attention(self.model.config.get_text_config()):
            logits = self.model(
                input_ids=torch.tensor([ids], device=batch.device),
                position_ids=position_ids,
                past_key_values=self._slots,
                use_cache=True,
                ragged=batch,
                **inputs,
            ).logits[0]
        # A picture's token without a picture would end the conversation: the model looks for its pixels.
        logits[:, self.encoder.image_token_id] = -torch.inf
        return logits

    def _keep(self, number: int, keys: list[Any]) -> None:
        self.tree.insert(keys, lambda start, end: self._slots.read(number, start, end))

    # Decoding

    def _decode(self, finished: list[Request]) -> None:
        """One more token for every row, and those that were guessed."""
        rows = self._rows
        try:
            picture = self.encoder.image_token_id
            guesses = [row.guess(self.table, self.max_drafted_tokens, picture) for row in rows]
            batch = self._slots.expect({n: 1 + len(guess) for n, guess in enumerate(guesses)}, self.model.device)
            shifts = [row.position_shift for row in rows]
            positions = batch.columns + torch.tensor(shifts, device=batch.device)[batch.rows]
            ids = [token for row, guess in zip(rows, guesses, strict=True) for token in (row.ids[-1], *guess)]
            logits = self._call_model(batch, ids, self.positions.of_tokens(positions))
        except Exception as error:
            # Which row it is of cannot be known: the batch halves until a row fails alone.
            if len(rows) == 1 and not (_is_out_of_memory(error) and self.tree.num_tokens):
                rows[0].request.error = error
                self._leave(0, finished)
            else:
                logger.warning("A batch of %d failed (%s): it is halved.", len(rows), error)
                self._make_do_with_less()
            return
        for number, (row, span, guess) in enumerate(zip(rows, batch.spans, guesses, strict=True)):
            row.request.batch_size = max(row.request.batch_size, len(rows))
            try:
                self._slots.lengths[number] += row.extend(logits[span.first : span.last], guess)
            except Exception as error:  # of its own settings
                row.request.error = error

    def _make_do_with_less(self, row: _Row | None = None) -> None:
        """Give back all memory, and continue with half the rows; the others wait for their end."""
        self._most_rows = max(1, len(self._rows) // 2)
        self.tree.clear()
        self._again.extendleft(reversed(self._rows))
        if row is not None:
            self._again.append(row)
        self._rows, self._slots = [], self._new_slots()

    def _new_slots(self) -> SlotCache:
        return SlotCache(self.model.config.get_text_config().num_hidden_layers)

    # Leaving

    def _drop_interrupted(self, finished: list[Request]) -> None:
        finished += [row.request for row in self._again if row.request.is_interrupted()]
        self._again = deque(row for row in self._again if row.request not in finished)
        for number in reversed(range(len(self._rows))):
            if self._rows[number].request.is_interrupted():
                self._leave(number, finished)

    def _drop_complete(self, finished: list[Request]) -> None:
        for number in reversed(range(len(self._rows))):
            row = self._rows[number]
            if row.request.error or row.is_complete:
                self._leave(number, finished)
                if self._most_rows is not None:  # memory may have room for more by now
                    self._most_rows += 1

    def _leave(self, number: int, finished: list[Request]) -> None:
        row = self._rows[number]
        # The last produced id was never fed back, so it has no keys and values.
        self._keep(number, row.keys[: self._slots.lengths[number]])
        self._slots.remove(number)
        ids = [*row.request.conversation.ids[-DraftTable.longest_run :], *row.request.output_ids]
        self.table.learn(ids, start=len(ids) - len(row.request.output_ids))
        self._rows[number] = self._rows[-1]
        self._rows.pop()
        row.request.batch_size = max(row.request.batch_size, 1)
        finished.append(row.request)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
