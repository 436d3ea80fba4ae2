"""[`ServerModel`]: a controller behind an OpenAI-compatible server, in the place of a [`VLMModel`]."""

from __future__ import annotations

import logging
import os
from typing import Any

from smolagents.models import ChatMessage, MessageRole, OpenAIModel
from smolagents.monitoring import TokenUsage

from ..errors import InputError, MissingExtraError
from ..interruption import Interruption, current_interruption
from ..tracing import model_call, record_usage


logger = logging.getLogger(__name__)

SERVED_NAME = "t3-agent"
"""Name under which `t3 serve` offers an agent where the server lets it choose one."""
SETTINGS = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
"""Generation settings that the protocol knows by the names of transformers or by its own."""


class ServerModel(OpenAIModel):
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
        timeout (`float`, *optional*, defaults to 300): seconds without a word from the server before a call fails.
        max_retries (`int`, *optional*, defaults to 4): times that a call is repeated, with growing pauses, when the
            server is busy, out of reach or fails.
        generation: further settings, one of `SETTINGS`.

    Raises:
        InputError: when a setting is unknown, or it cannot be said which model is meant.
        MissingExtraError: when the OpenAI client is not installed.
    """

    def __init__(
        self,
        model_id: str | None = None,
        *,
        api_base: str,
        api_key: str | None = None,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        timeout: float = 300.0,
        max_retries: int = 4,
        **generation: Any,
    ):
        unknown = sorted(set(generation) - set(SETTINGS))
        if unknown:
            raise InputError(f"A server takes no setting {', '.join(unknown)}; it takes {', '.join(SETTINGS)}.")
        self.api_base = api_base
        self.timeout = timeout
        self.knows_stops = True
        self.generation = {"do_sample": do_sample, **generation, "max_new_tokens": max_new_tokens}
        # Servers of one's own need no key, but the client refuses to start without one.
        api_key = api_key or os.environ.get("OPENAI_API_KEY", "none")
        super().__init__(
            model_id=model_id,
            api_base=api_base,
            api_key=api_key,
            client_kwargs={"timeout": timeout, "max_retries": max_retries},
            retry=False,  # the client repeats calls itself, with shorter pauses
        )
        self.model_id = model_id or self._listed_model()

    def create_client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", "serve", "A model behind a server") from error
        return openai.OpenAI(**self.client_kwargs)

    def generate(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,
        tools_to_call_from: list[Any] | None = None,
        **kwargs: Any,
    ) -> ChatMessage:
        """Write the next turn.

        Args:
            messages (`list[ChatMessage]`): the conversation; content parts `{"type": "image", "image": PIL image}` are
                seen.
            stop_sequences (`list[str]`, *optional*): strings that end the turn.
            kwargs: generation settings for this call.

        Returns:
            `ChatMessage`: `content` without the stop sequence. Where the server does not stop by itself, the turn is
                cut here before the server tells its tokens: those written are counted, those read are unknown and 0.

        Raises:
            InputError: when structured output or tool calls are asked for, the context is full, or the server cannot
                be used; the message says why.
            InterruptedTurn: when the run in this thread is cancelled or out of time, see [`interruptible`].
        """
        import openai

        if response_format or tools_to_call_from:
            raise InputError(
                "ServerModel writes plain text turns: use it with code agents, without structured outputs."
            )
        interruption = current_interruption() or Interruption()
        settings = {**self.generation, **kwargs}
        try:
            with model_call(self.model_id, settings) as span:
                content, usage = self._turn(messages, stop_sequences or [], settings, interruption)
                record_usage(span, content, usage.input_tokens, usage.output_tokens)
        except openai.APITimeoutError as error:
            interruption.check()
            raise InputError(f"The server at {self.api_base} said nothing for {self.timeout:g} seconds.") from error
        except openai.APIError as error:
            raise InputError(self._reason(error)) from error
        return ChatMessage(role=MessageRole.ASSISTANT, content=content, token_usage=usage)

    def _turn(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        interruption: Interruption,
    ) -> tuple[str, TokenUsage]:
        import openai

        while True:
            interruption.check()
            sent = (stop_sequences or None) if self.knows_stops else None
            try:
                stream = self._stream(messages, sent, settings, interruption.seconds_left())
                return self._read(stream, stop_sequences, interruption)
            except (openai.APIStatusError, openai.APIConnectionError):
                raise
            except openai.APIError as error:
                # Said in the stream. `transformers serve` 5.23 takes stop strings but fails on them with pictures'
                # processors; here they are looked for anyway.
                if not sent:
                    raise
                logger.info("The server fails on stop strings (%s); they are kept from it.", error)
                self.knows_stops = False

    def _stream(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str] | None,
        settings: dict[str, Any],
        seconds_left: float | None,
    ) -> Any:
        settings = dict(settings)
        if not settings.pop("do_sample"):
            settings["temperature"] = 0
        request = self._prepare_completion_kwargs(
            messages=messages,
            stop_sequences=stop_sequences,
            model=self.model_id,
            custom_role_conversions=self.custom_role_conversions or None,
            convert_images_to_image_urls=True,
            max_tokens=settings.pop("max_new_tokens"),
            **settings,
        )
        timeout = self.timeout if seconds_left is None else min(self.timeout, seconds_left)
        return self.client.with_options(timeout=timeout).chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )

    def _read(self, stream: Any, stop_sequences: list[str], interruption: Interruption) -> tuple[str, TokenUsage]:
        """Text up to the first stop string, and what was used; closing the stream lets the server stop too."""
        text, usage, chunks = "", None, 0
        with stream:
            for chunk in stream:
                interruption.check()
                usage = chunk.usage or usage
                if not chunk.choices or not chunk.choices[0].delta.content:
                    continue
                text += chunk.choices[0].delta.content
                chunks += 1
                places = [place for stop in stop_sequences if (place := text.find(stop)) >= 0]
                if places:
                    text = text[: min(places)]
                    break
        # A server sends what was used last; after a cut, or from one that sends nothing, pieces stand for tokens.
        if usage is None:
            return text, TokenUsage(0, chunks)
        return text, TokenUsage(usage.prompt_tokens, usage.completion_tokens)

    def _reason(self, error: Any) -> str:
        import openai

        words = " ".join(str(error).split())
        if isinstance(error, openai.APIConnectionError):
            return f"There is no server at {self.api_base}: start one with `t3 serve`, or check the URL."
        if isinstance(error, openai.AuthenticationError):
            return f"The server at {self.api_base} wants a key: set OPENAI_API_KEY."
        if isinstance(error, openai.BadRequestError) and ("context" in words or "too long" in words):
            return f"The conversation is too long for `{self.model_id}`: {words}"
        return f"The server at {self.api_base} refuses a turn of `{self.model_id}`: {words}"

    def _listed_model(self) -> str:
        import openai

        try:
            names = [model.id for model in self.client.models.list()]
        except openai.APIConnectionError as error:
            raise InputError(self._reason(error)) from error
        except openai.APIError:  # `transformers serve` lists nothing while it is offline
            names = []
        if SERVED_NAME in names:
            return SERVED_NAME
        if len(names) != 1:
            offer = f"offers {', '.join(names[:10])}" if names else "lists no models"
            raise InputError(f"The server at {self.api_base} {offer}: name the model with `--api-model`.")
        return names[0]
