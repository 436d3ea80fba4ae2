"""Generation behind [`VLMModel`]: prompts continue from kept keys and values, and concurrent agents share a batch.

`Engine.generate` may be called from many threads. One of the callers at a time runs the model, a token for everybody
in each turn, until its own request is done; then another caller takes over. There is no thread of its own that could
die, and an agent that goes away only makes the batch smaller. A caller waits until its request is done, so the number
of agents bounds what is queued.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING

from t3_agents.errors import InputError

from ..encoding import ChatEncoder
from .request import Request


if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
"""How often a stream looks for new tokens."""


class Engine:
    """Runs requests on one model.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, in evaluation mode.
        encoder ([`ChatEncoder`]): makes the pixel inputs of new pictures.
        max_batch_size (`int`, *optional*, defaults to 16): requests that run together.
        max_cached_tokens (`int`, *optional*, defaults to 32768): tokens whose keys and values are kept between
            requests, all conversations together; 0 turns reuse off.
        max_drafted_tokens (`int`, *optional*, defaults to 12): tokens of a request that are guessed from what was read
            and written before, and checked in one call of the model; 0 turns it off. What is written stays the same.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: ChatEncoder,
        max_batch_size: int = 16,
        max_cached_tokens: int = 32768,
        max_drafted_tokens: int = 12,
    ):
        from ..families import Positions, reason_against_continuous_batching
        from .continuous_batching import ContinuousBatchingDecoder
        from .static_batching import StaticBatchingDecoder

        self.model = model
        self.encoder = encoder
        reason = reason_against_continuous_batching(model)
        if reason:
            logger.warning(
                "%s: keys and values are not kept between turns, and a request waits until the running batch is done.",
                reason,
            )
            self.decoder = StaticBatchingDecoder(model, encoder, max_batch_size)
        else:
            self.decoder = ContinuousBatchingDecoder(
                model, encoder, Positions(model), max_batch_size, max_cached_tokens, max_drafted_tokens
            )
        self._condition = threading.Condition()
        self._waiting: deque[Request] = deque()
        self._taken: list[Request] = []
        self._led = False

    def generate(self, request: Request) -> list[int]:
        """Produced ids of a request, with the end-of-turn token if it came.

        Raises:
            InputError: when the prompt leaves no room in the model's context.
            InterruptedTurn: when the run was cancelled or its time is up.
        """
        self._check_length(request)
        if request.settings.get("num_beams", 1) != 1:
            raise InputError("A controller writes one turn, greedily or by sampling: leave `num_beams` at 1.")
        request.check()
        with self._condition:
            self._waiting.append(request)
            try:
                while not request.done:
                    if self._led:
                        self._condition.wait(timeout=1.0)
                    else:
                        self._lead(request)
            finally:
                if not request.done:  # the caller was interrupted
                    request.abandoned = True
                    if request in self._waiting:
                        self._waiting.remove(request)
        if request.error:
            raise request.error
        return request.output_ids

    def stream(self, request: Request) -> Generator[list[int]]:
        """The same, piece by piece; closing the generator ends the request.

        Yields:
            `list[int]`: all ids until now.
        """
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self.generate(request)
            except BaseException as error:  # raised again for the caller
                failures.append(error)

        thread = threading.Thread(target=work, name="t3-stream", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                yield list(request.output_ids)
        finally:
            request.abandoned = True
            thread.join()
        if failures:
            raise failures[0]

    def clear(self) -> None:
        """Forget all kept keys and values, after the weights have changed."""
        self.decoder.clear()

    def _check_length(self, request: Request) -> None:
        limit = self.model.config.get_text_config().max_position_embeddings
        length, new = len(request.conversation.ids), request.settings.get("max_new_tokens", 0)
        if length + new > limit:
            raise InputError(
                f"The conversation has {length} tokens and {new} more are asked for, but the model takes {limit}."
            )

    def _lead(self, request: Request) -> None:
        """Run the model for everybody until `request` is done; the lock is held on entry and on return, not while the
        model runs."""
        self._led = True
        self._condition.release()
        try:
            while not request.done:
                finished = self.decoder.step(self._take)
                with self._condition:
                    for other in finished:
                        other.done = True
                        self._taken.remove(other)
                    if finished:
                        self._condition.notify_all()
        except BaseException:
            # Not an error of a request: the leading thread itself was interrupted, maybe between two halves of a
            # change. The next one that leads begins what was running anew.
            self.decoder.restart()
            with self._condition:
                self._waiting.extendleft(other for other in reversed(self._taken) if other is not request)
                for other in self._taken:
                    other.output_ids.clear()
                self._taken.clear()
            raise
        finally:
            self._condition.acquire()
            self._led = False
            self._condition.notify_all()

    def _take(self) -> Request | None:
        """The next request that waits."""
        with self._condition:
            if not self._waiting:
                return None
            self._taken.append(self._waiting.popleft())
            return self._taken[-1]
