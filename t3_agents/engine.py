"""Generation behind [`VLMModel`]: prompts continue from kept KV caches, and concurrent agents share a batch.

`Engine.generate` may be called from many threads. Whoever finds the batch complete runs it for all: there is no thread
of its own that could die, and an agent that goes away only makes the next batch smaller.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .encoding import ChatEncoder, Conversation, image_key
from .errors import InputError


if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel


@dataclass(eq=False)
class Request:
    """One prompt to continue.

    Args:
        conversation ([`Conversation`]): what the model reads.
        stop_sequences (`tuple[str, ...]`): strings that end the turn; they are part of what was produced.
        settings (`dict`): keyword arguments of `generate`, such as `max_new_tokens`. Requests with different settings
            never share a batch.
    """

    conversation: Conversation
    stop_sequences: tuple[str, ...]
    settings: dict[str, Any]
    output_ids: list[int] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False

    def __post_init__(self):
        # Different pictures have the same token ids, so a cache is looked up by ids and pixels.
        self.keys: list[Any] = list(self.conversation.ids)
        for (start, end), image in zip(self.conversation.image_spans, self.conversation.images, strict=True):
            digest = image_key(image)
            self.keys[start:end] = [(digest, offset) for offset in range(end - start)]


class Engine:
    """Runs requests on one model.

    Args:
        model ([`~transformers.PreTrainedModel`]): the model, in evaluation mode.
        encoder ([`ChatEncoder`]): makes the pixel inputs of new pictures.
        max_batch_size (`int`, *optional*, defaults to 16): requests that run together.
        max_cached_tokens (`int`, *optional*, defaults to 16384): tokens whose keys and values are kept, all
            conversations together; 0 turns reuse off.
        max_wait (`float`, *optional*, defaults to 10): seconds that a request waits for the other live conversations.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: ChatEncoder,
        max_batch_size: int = 16,
        max_cached_tokens: int = 16384,
        max_wait: float = 10.0,
    ):
        self.model = model
        self.encoder = encoder
        self.max_batch_size = max_batch_size
        self.max_cached_tokens = max_cached_tokens if _has_plain_cache(model) else 0
        self.max_wait = max_wait
        self._condition = threading.Condition()
        self._pending: list[Request] = []
        self._live = 0
        self._running = False
        self._caches: OrderedDict[int, _Cache] = OrderedDict()
        self._stop_criteria: dict[tuple[str, ...], Any] = {}

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Announce an agent, so that batches wait for it."""
        with self._condition:
            self._live += 1
        try:
            yield
        finally:
            with self._condition:
                self._live -= 1
                self._condition.notify_all()

    def generate(self, request: Request) -> list[int]:
        """Produced ids of a request, with the end-of-turn token if it came.

        Raises:
            InputError: when the prompt leaves no room in the model's context.
        """
        self._check_length(request)
        deadline = time.monotonic() + self.max_wait
        with self._condition:
            self._pending.append(request)
            self._condition.notify_all()
            try:
                while not request.done:
                    if not self._running and self._is_complete(deadline):
                        self._lead()
                    else:
                        self._condition.wait(timeout=max(0.01, min(deadline - time.monotonic(), 1.0)))
            finally:
                if request in self._pending:  # the caller was interrupted while it waited
                    self._pending.remove(request)
        if request.error:
            raise request.error
        return request.output_ids

    def _check_length(self, request: Request) -> None:
        limit = self.model.config.get_text_config().max_position_embeddings
        length, new = len(request.conversation.ids), request.settings.get("max_new_tokens", 0)
        if length + new > limit:
            raise InputError(
                f"The conversation has {length} tokens and {new} more are asked for, but the model takes {limit}."
            )

    def _is_complete(self, deadline: float) -> bool:
        waiting = len(self._pending)
        return waiting >= min(self.max_batch_size, max(self._live, 1)) or time.monotonic() >= deadline

    def _lead(self) -> None:
        """Run one batch for everybody who waits; the lock is held on entry and on return, not while the model runs."""
        first = self._pending[0]
        batch = [r for r in self._pending if r.settings == first.settings and r.stop_sequences == first.stop_sequences]
        batch = batch[: self.max_batch_size]
        self._pending = [r for r in self._pending if r not in batch]
        self._running = True
        self._condition.release()
        try:
            self._run(batch)
        except BaseException as error:
            for request in batch:
                request.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._condition.acquire()
            self._running = False
            for request in batch:
                request.done = True
            self._condition.notify_all()

    def _run(self, batch: list[Request]) -> None:
        import torch

        lengths = [len(request.keys) for request in batch]
        reused = [self._find_cache(request.keys) for request in batch]
        # Suffixes of equal length keep all padding on the left, where masks and positions are simple.
        suffix = max(length - shared for length, (shared, _) in zip(lengths, reused, strict=True))
        suffix = _avoid_images(suffix, batch)
        kept = [max(0, length - suffix) for length in lengths]
        longest = max(lengths)
        device = self.model.device
        pad = self.encoder.tokenizer.pad_token_id or 0
        ids = torch.full((len(batch), longest), pad, device=device)
        mask = torch.zeros_like(ids)
        new_images = []
        for row, request in enumerate(batch):
            ids[row, longest - lengths[row] :] = torch.tensor(request.conversation.ids, device=device)
            mask[row, longest - lengths[row] :] = 1
            spans = request.conversation.image_spans
            new_images.append(
                [i for (start, _), i in zip(spans, request.conversation.images, strict=True) if start >= kept[row]]
            )
        inputs = {name: value.to(device) for name, value in self.encoder.pixel_inputs(new_images).items()}
        settings = batch[0].settings
        if self.max_cached_tokens:
            inputs["past_key_values"] = _join_caches(
                [cache for _, cache in reused],
                kept,
                width=longest - suffix,
                num_layers=self.model.config.get_text_config().num_hidden_layers,
                room=longest + settings["max_new_tokens"],
            )
        if settings.get("seed") is not None:
            torch.manual_seed(settings["seed"])
        # A picture's token without a picture would end the conversation: the model looks for its pixels.
        suppressed = [*(settings.get("suppress_tokens") or []), self.encoder.image_token_id]
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                **inputs,
                **{name: value for name, value in settings.items() if name not in ("seed", "suppress_tokens")},
                suppress_tokens=suppressed,
                stopping_criteria=self._stop_at(batch[0].stop_sequences),
                return_dict_in_generate=True,
                use_cache=True,
            )
        for row, request in enumerate(batch):
            request.output_ids = self._trim(output.sequences[row, longest:].tolist(), request.stop_sequences)
            self._keep(request, output.past_key_values, row, longest)

    def _stop_at(self, stop_sequences: tuple[str, ...]) -> Any:
        from transformers import StoppingCriteriaList, StopStringCriteria

        if not stop_sequences:
            return None
        if stop_sequences not in self._stop_criteria:  # building one takes most of a second
            criteria = StopStringCriteria(self.encoder.tokenizer, list(stop_sequences))
            self._stop_criteria[stop_sequences] = StoppingCriteriaList([criteria])
        return self._stop_criteria[stop_sequences]

    def _trim(self, ids: list[int], stop_sequences: tuple[str, ...]) -> list[int]:
        """Cut the padding behind a row that ended before others of its batch."""
        ends = self.model.generation_config.eos_token_id
        ends = {*ends} if isinstance(ends, list) else {ends}
        for position, token in enumerate(ids):
            if token in ends:
                return ids[: position + 1]
        if stop_sequences:
            text = ""
            for position, token in enumerate(ids):
                text += self.encoder.tokenizer.decode([token])
                if any(stop in text for stop in stop_sequences):
                    return ids[: position + 1]
        return ids

    # Kept keys and values

    def _find_cache(self, keys: Sequence[Any]) -> tuple[int, _Cache | None]:
        """The longest shared prefix with a kept conversation, less the last token: its output is needed again."""
        best, found = 0, None
        for number, cache in self._caches.items():
            shared = _shared_length(cache.keys, keys[:-1])
            if shared > best:
                best, found = shared, number
        if found is None:
            return 0, None
        self._caches.move_to_end(found)
        return best, self._caches[found]

    def _keep(self, request: Request, past_key_values: Any, row: int, longest: int) -> None:
        if not self.max_cached_tokens:
            return
        # The last produced id was never fed back, so it has no keys and values.
        keys = [*request.keys, *request.output_ids[:-1]]
        start = longest - len(request.keys)
        layers = [
            (
                layer.keys[row, :, start : start + len(keys)].clone(),
                layer.values[row, :, start : start + len(keys)].clone(),
            )
            for layer in past_key_values.layers
        ]
        keys = keys[: layers[0][0].shape[1]]
        for number, cache in list(
            self._caches.items()
        ):  # an older state of the same conversation is a prefix of this one
            if len(cache.keys) <= len(keys) and _shared_length(cache.keys, keys) == len(cache.keys):
                del self._caches[number]
        self._caches[max(self._caches, default=0) + 1] = _Cache(keys, layers)
        while (
            len(self._caches) > 1 and sum(len(cache.keys) for cache in self._caches.values()) > self.max_cached_tokens
        ):
            self._caches.popitem(last=False)

    def clear(self) -> None:
        """Forget all kept keys and values, after the weights have changed."""
        self._caches.clear()


@dataclass
class _Cache:
    keys: list[Any]
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """Per layer keys and values of shape `(num_kv_heads, num_tokens, head_dim)`."""


def _shared_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length


def _avoid_images(suffix: int, batch: Sequence[Request]) -> int:
    """Lengthen the computed suffix until it starts inside no picture of any row."""
    moved = True
    while moved:
        moved = False
        for request in batch:
            cut = len(request.keys) - suffix
            for start, end in request.conversation.image_spans:
                if start < cut < end:
                    suffix, moved = len(request.keys) - start, True
                    break
    return suffix


def _join_caches(
    caches: Sequence[_Cache | None], kept: Sequence[int], width: int, num_layers: int, room: int
) -> DynamicCache:
    """A batch cache of `width` tokens, each row's kept tokens at its right end, with room for `room` tokens in all."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        """Writes new keys and values into a buffer, where the stock layer copies all of them for every token."""

        def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
            super().lazy_initialization(key_states, value_states)
            rows, heads, _, size = key_states.shape
            self.key_room = key_states.new_zeros(rows, heads, room, size)
            self.value_room = value_states.new_zeros(rows, heads, room, size)

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            self.key_room[:, :, start:end] = key_states
            self.value_room[:, :, start:end] = value_states
            self.keys, self.values = self.key_room[:, :, :end], self.value_room[:, :, :end]
            return self.keys, self.values

    joined = DynamicCache()
    joined.layers = [RoomyLayer() for _ in range(num_layers)]
    found = next((cache for cache in caches if cache is not None), None)
    for index, layer in enumerate(joined.layers if found and width else []):
        example = found.layers[index][0]
        layer.lazy_initialization(*[example.new_zeros(len(caches), example.shape[0], 0, example.shape[2])] * 2)
        layer.keys, layer.values = layer.key_room[:, :, :width], layer.value_room[:, :, :width]
        for row, (cache, count) in enumerate(zip(caches, kept, strict=True)):
            if cache is not None and count:
                layer.keys[row, :, width - count :] = cache.layers[index][0][:, :count]
                layer.values[row, :, width - count :] = cache.layers[index][1][:, :count]
    return joined


def _has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether keys and values can be kept and joined: full attention everywhere and one position per token."""
    config = model.config.get_text_config()
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = getattr(config, "rope_parameters", None) or {}
    return types == {"full_attention"} and "mrope_section" not in rope and not getattr(config, "sliding_window", None)
