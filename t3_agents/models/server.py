"""[`ServerModel`]: a controller behind an OpenAI-compatible server, in the place of a [`VLMModel`]."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from smolagents.models import (
    MODEL_REGISTRY,
    ChatMessage,
    ChatMessageStreamDelta,
    ChatMessageToolCallFunction,
    ChatMessageToolCallStreamDelta,
    agglomerate_stream_deltas,
)
from smolagents.monitoring import TokenUsage

from ..errors import InputError
from ..media import data_url, encode_image
from .endpoint import BrokenReply, Endpoint, EndpointError, RefusedRequest, WrongEndpoint, tokens_of
from .messages import TextModel, Turn, shown_before_stop, wire_messages


logger = logging.getLogger(__name__)

SERVED_NAME = "t3-agent"
"""Name under which `t3 serve` offers an agent where the server lets it choose one."""
SETTINGS = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
"""Generation settings that the protocol knows by the names of transformers or by its own."""

MAX_CONCURRENCY = 64
"""Turns under way at a time; fewer while the server is overloaded."""


class ServerModel(TextModel):
    """A vision-language model behind vLLM, SGLang, `transformers serve` or another OpenAI-compatible server.

    Pictures go as data URLs. Turns are streamed, so that one ends at its stop string, also where the server knows
    none, and when the run is cancelled or out of time. Greedy by default, as [`VLMModel`] is.

    Args:
        model_id (`str`, *optional*): the model's name at the server; by default the only one that it lists, or the one
            that `t3 serve` offers.
        api_base (`str`): URL of the server, such as `http://localhost:8000/v1`.
        api_key (`str`, *optional*): key; by default that of the environment variable `OPENAI_API_KEY`, if any.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that one turn may have; `max_tokens`, the name in
            the protocol, is understood too.
        do_sample (`bool`, *optional*, defaults to `False`): sample, with `temperature`, `top_p` and `seed` among
            `generation`.
        request_time_limit (`float`, *optional*, defaults to 300): seconds of silence before a call fails.
        max_retries (`int`, *optional*, defaults to 4): times that a call is repeated, with growing pauses, when the
            server is busy, out of reach or fails.
        generation: further settings, one of `SETTINGS`.

    Raises:
        InputError: when a setting is unknown, or it cannot be said which model is meant.
    """

    def __init__(
        self,
        model_id: str | None = None,
        *,
        api_base: str,
        api_key: str | None = None,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        request_time_limit: float = 300.0,
        max_retries: int = 4,
        **generation: Any,
    ):
        max_new_tokens = generation.pop("max_tokens", max_new_tokens)
        unknown = sorted(set(generation) - set(SETTINGS))
        if unknown:
            raise InputError(f"A server takes no setting {', '.join(unknown)}; it takes {', '.join(SETTINGS)}.")
        super().__init__(model_id, do_sample=do_sample, **generation, max_new_tokens=max_new_tokens)
        self.knows_stops = True
        self.endpoint = Endpoint(api_base, api_key, request_time_limit, MAX_CONCURRENCY, max_retries)
        self.model_id = model_id or self._listed_model()

    def write(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        is_streamed: bool,
    ) -> Turn:
        """As in [`TextModel`]. Where the server does not stop by itself, the turn is cut here before the server tells
        its tokens: those written are counted, those read are unknown and 0."""
        settings = dict(settings)
        if not settings.pop("do_sample"):
            settings["temperature"] = 0
        if "tools" in settings:
            settings.setdefault("tool_choice", "required")
        request = {
            "model": self.model_id,
            "messages": wire_messages(messages, lambda image: data_url(encode_image(image), "image/png")),
            "max_tokens": settings.pop("max_new_tokens"),
            "stream_options": {"include_usage": True},
            **settings,
        }
        deltas = []
        try:
            for delta in self._deltas(request, stop_sequences):
                deltas.append(delta)
                yield delta
        except EndpointError as error:
            too_long = any(words in str(error) for words in ("context", "too long"))
            start = f"The conversation is too long for `{self.model_id}`: " if too_long else ""
            raise InputError(f"{start}{error}") from error
        message = agglomerate_stream_deltas(deltas)
        message.tool_calls = message.tool_calls or None
        return message

    def _deltas(self, request: dict[str, Any], stops: list[str]) -> Iterator[ChatMessageStreamDelta]:
        if stops and self.knows_stops:
            stream = self._read({**request, "stop": stops}, stops)
            try:
                yield next(stream)
            except BrokenReply as error:
                # `transformers serve` 5.23 takes stop strings but fails on them with pictures' processors; here they
                # are looked for anyway.
                logger.info("The server fails on stop strings (%s); they are kept from it.", error)
                self.knows_stops = False
            else:
                yield from stream
                return
        yield from self._read(request, stops)

    def _read(self, request: dict[str, Any], stops: list[str]) -> Iterator[ChatMessageStreamDelta]:
        """What is written up to the first stop string, and at the end what was used."""
        text, shown, tokens, pieces = "", 0, None, 0
        with self.endpoint.stream("chat/completions", request) as stream:
            for piece in stream:
                tokens = tokens_of(piece) or tokens
                choice = (piece.get("choices") or [{}])[0]
                # A server that does not stream gives a whole message.
                written = choice.get("delta") or choice.get("message") or {}
                calls = [_call_delta(number, call) for number, call in enumerate(written.get("tool_calls") or [])]
                if not written.get("content") and not calls:
                    continue
                text += written.get("content") or ""
                pieces += 1
                ready = shown_before_stop(text, stops)
                if len(ready) > shown or calls:
                    yield ChatMessageStreamDelta(content=ready[shown:], tool_calls=calls or None)
                    shown = len(ready)
                if any(stop in text for stop in stops):
                    text = ready
                    break
        # A server sends what was used last; after a cut, or from one that sends nothing, pieces stand for tokens.
        yield ChatMessageStreamDelta(content=text[shown:], token_usage=TokenUsage(*(tokens or (0, pieces))))

    def to_dict(self) -> dict[str, Any]:
        """What [`from_dict`] reads; the key is left out."""
        return {"model_id": self.model_id, "api_base": self.endpoint.api_base, **self.generation}

    @classmethod
    def from_dict(cls, model_dictionary: dict[str, Any]) -> ServerModel:
        return cls(**model_dictionary)

    def _listed_model(self) -> str:
        try:
            names = [model["id"] for model in self.endpoint.get("models").get("data") or []]
        except (
            RefusedRequest,
            WrongEndpoint,
        ):  # that of `t3 serve` may list nothing
            names = []
        except EndpointError as error:
            raise InputError(str(error)) from error
        if SERVED_NAME in names or not names:
            return SERVED_NAME
        if len(names) != 1:
            offers = ", ".join(names[:10])
            raise InputError(
                f"The server at {self.endpoint.api_base} offers {offers}: name the model with `--api-model`."
            )
        return names[0]


def _call_delta(number: int, call: dict[str, Any]) -> ChatMessageToolCallStreamDelta:
    """A part of a tool call; whole messages do not number theirs."""
    function = call.get("function") or {}
    return ChatMessageToolCallStreamDelta(
        index=call.get("index", number),
        id=call.get("id"),
        type=call.get("type") or "function",
        function=ChatMessageToolCallFunction(function.get("arguments") or "", function.get("name") or ""),
    )


MODEL_REGISTRY["ServerModel"] = ServerModel
