"""[`ServerModel`]: a controller behind an OpenAI-compatible server, in the place of a [`VLMModel`]."""

from __future__ import annotations

import logging
from typing import Any

from smolagents.models import ChatMessage, remove_content_after_stop_sequences
from smolagents.monitoring import TokenUsage

from ..errors import InputError
from ..media import data_url, encode_image
from .endpoint import BrokenReply, Endpoint, EndpointError, RefusedRequest, WrongEndpoint, tokens_of
from .messages import TextModel, wire_messages


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
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that one turn may have.
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
        unknown = sorted(set(generation) - set(SETTINGS))
        if unknown:
            raise InputError(f"A server takes no setting {', '.join(unknown)}; it takes {', '.join(SETTINGS)}.")
        super().__init__(model_id, do_sample=do_sample, **generation, max_new_tokens=max_new_tokens)
        self.knows_stops = True
        self.endpoint = Endpoint(api_base, api_key, request_time_limit, MAX_CONCURRENCY, max_retries)
        self.model_id = model_id or self._listed_model()

    def write(
        self, messages: list[ChatMessage | dict], stop_sequences: list[str], settings: dict[str, Any]
    ) -> tuple[str, TokenUsage, None]:
        """As in [`TextModel`]. Where the server does not stop by itself, the turn is cut here before the server tells
        its tokens: those written are counted, those read are unknown and 0."""
        settings = dict(settings)
        if not settings.pop("do_sample"):
            settings["temperature"] = 0
        request = {
            "model": self.model_id,
            "messages": wire_messages(messages, lambda image: data_url(encode_image(image), "image/png")),
            "max_tokens": settings.pop("max_new_tokens"),
            "stream_options": {"include_usage": True},
            **settings,
        }
        try:
            if stop_sequences and self.knows_stops:
                try:
                    return *self._read({**request, "stop": stop_sequences}, stop_sequences), None
                except BrokenReply as error:
                    # `transformers serve` 5.23 takes stop strings but fails on them with pictures' processors; here
                    # they are looked for anyway.
                    logger.info("The server fails on stop strings (%s); they are kept from it.", error)
                    self.knows_stops = False
            return *self._read(request, stop_sequences), None
        except EndpointError as error:
            too_long = any(words in str(error) for words in ("context", "too long"))
            start = f"The conversation is too long for `{self.model_id}`: " if too_long else ""
            raise InputError(f"{start}{error}") from error

    def _read(self, request: dict[str, Any], stop_sequences: list[str]) -> tuple[str, TokenUsage]:
        """Text up to the first stop string, and what was used."""
        text, tokens, pieces = "", None, 0
        with self.endpoint.stream("chat/completions", request) as stream:
            for piece in stream:
                tokens = tokens_of(piece) or tokens
                choice = (piece.get("choices") or [{}])[0]
                # A server that does not stream gives a whole message.
                written = (choice.get("delta") or choice.get("message") or {}).get("content")
                if not written:
                    continue
                text += written
                pieces += 1
                if any(stop in text for stop in stop_sequences):
                    break
        # A server sends what was used last; after a cut, or from one that sends nothing, pieces stand for tokens.
        text = remove_content_after_stop_sequences(text, stop_sequences)
        return text, TokenUsage(*(tokens or (0, pieces)))

    def _listed_model(self) -> str:
        try:
            names = [model["id"] for model in self.endpoint.get("models").get("data") or []]
        except (RefusedRequest, WrongEndpoint):  # `transformers serve` lists nothing while it is offline
            names = []
        except EndpointError as error:
            raise InputError(str(error)) from error
        if SERVED_NAME in names:
            return SERVED_NAME
        if len(names) != 1:
            offer = f"offers {', '.join(names[:10])}" if names else "lists no models"
            raise InputError(f"The server at {self.endpoint.api_base} {offer}: name the model with `--api-model`.")
        return names[0]
