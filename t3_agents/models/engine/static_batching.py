"""Decoding by stock `generate` for models whose keys and values cannot be reused: one batch after the other."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..encoding import ChatEncoder
from .request import Request, StopStrings


if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


class StaticBatchingDecoder:
    """Runs requests of equal settings together, padded on the left; each ends at its own stop strings and length.

    Args:
        model ([`~transformers.PreTrainedModel`]): any model that generates.
        encoder ([`ChatEncoder`]): makes the pixel inputs.
        max_batch_size (`int`): requests that run together.
    """

    cached_bytes = 0

    def __init__(self, model: PreTrainedModel, encoder: ChatEncoder, max_batch_size: int):
        self.model = model
        self.encoder = encoder
        self.max_batch_size = max_batch_size
        self._taken: deque[Request] = deque()

    def clear(self) -> None:
        pass

    def restart(self) -> None:
        """Forget what waits."""
        self._taken.clear()

    def step(self, take: Callable[[], Request | None]) -> list[Request]:
        """Run one batch of those that wait; returns them."""
        while (request := take()) is not None:
            self._taken.append(request)
        if not self._taken:
            return []
        shared = _shared_settings(self._taken[0])
        batch = [request for request in self._taken if _shared_settings(request) == shared][: self.max_batch_size]
        self._run(batch, shared)
        self._taken = deque(request for request in self._taken if request not in batch)
        return batch

    def _run(self, batch: list[Request], settings: dict[str, Any]) -> None:
        """Fill in what the requests produced or their error; a batch that fails is halved until one fails alone."""
        waiting = [request for request in batch if not request.is_interrupted()]
        if not waiting:
            return
        try:
            self._generate(waiting, settings)
        except Exception as error:
            if len(waiting) == 1:
                waiting[0].error = error
                return
            logger.warning("A batch of %d failed (%s): it is halved.", len(waiting), error)
            half = len(waiting) // 2
            self._run(waiting[:half], settings)
            self._run(waiting[half:], settings)

    def _generate(self, batch: list[Request], settings: dict[str, Any]) -> None:
        device = self.model.device
        longest = max(len(request.keys) for request in batch)
        ids = torch.full((len(batch), longest), self.encoder.tokenizer.pad_token_id or 0, device=device)
        mask = torch.zeros_like(ids)
        types: dict[str, torch.Tensor] = {}
        for row, request in enumerate(batch):
            left = longest - len(request.keys)
            ids[row, left:] = torch.tensor(request.conversation.ids, device=device)
            mask[row, left:] = 1
            for name, marks in self.encoder.token_types(request.conversation.ids).items():
                types.setdefault(name, torch.zeros_like(ids))[row, left:] = torch.tensor(marks, device=device)
        inputs = self.encoder.pixel_inputs([request.conversation.images for request in batch])
        inputs = {name: value.to(device) for name, value in inputs.items()} | types
        settings = dict(settings)
        seed = settings.pop("seed", None)
        if seed is not None:
            torch.manual_seed(seed)
        stops = [StopStrings(self.encoder.tokenizer, request.stop_sequences) for request in batch]

        def ended(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            rows = zip(batch, stops, input_ids[:, longest:].tolist(), strict=True)
            return torch.tensor([_has_ended(*row) for row in rows], device=device)

        suppressed = [*(settings.pop("suppress_tokens", None) or []), self.encoder.image_token_id]
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                **inputs,
                **settings,
                max_new_tokens=max(request.settings["max_new_tokens"] for request in batch),
                suppress_tokens=suppressed,
                stopping_criteria=[ended],
            )
        for row, request in enumerate(batch):
            if request.error is None:
                produced = output[row, longest:].tolist()
                request.output_ids = self._trim(produced[: request.settings["max_new_tokens"]], request)
            request.batch_size = len(batch)

    def _trim(self, ids: list[int], request: Request) -> list[int]:
        """Cut the padding behind a row that ended before others of its batch."""
        ends = self.model.generation_config.eos_token_id
        ends = {*ends} if isinstance(ends, list) else {ends}
        last = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        ids = ids[: last + 1]
        return StopStrings(self.encoder.tokenizer, request.stop_sequences).cut(ids)


def _has_ended(request: Request, stops: StopStrings, ids: list[int]) -> bool:
    """Whether a row ends: at its own length, its own stop strings, or because it is interrupted."""
    return request.is_interrupted() or len(ids) >= request.settings["max_new_tokens"] or stops.end(ids)


def _shared_settings(request: Request) -> dict[str, Any]:
    """What must be equal in a batch: everything but the length."""
    return {name: value for name, value in request.settings.items() if name != "max_new_tokens"}
