"""Messages between agents and models: a conversation as models take it, and a turn of plain text as the reply."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from smolagents.models import ChatMessage, ChatMessageStreamDelta, MessageRole, Model, get_tool_json_schema

from ..tracing import model_call, record_usage
from ..turns import Step, add_parts, called_tools, is_python, parse_turn


Turn = Generator[ChatMessageStreamDelta, None, ChatMessage]
"""Gives the words of a turn as they come, the last ones with the tokens that were used, and returns the whole."""


@dataclass(frozen=True)
class Generation:
    """What a local model produced, in `ChatMessage.raw`; of earlier turns only `output_ids` counts.

    Args:
        text (`str`): the whole turn, stop sequence included.
        output_ids (`tuple[int, ...]`): the produced ids, end-of-turn token included if it came.
        input_ids (`tuple[int, ...]`): the ids that the model saw.
        cached_tokens (`int`): how many of them were taken over from earlier calls.
        batch_size (`int`): calls of concurrent agents that ran together with this one at most, itself included.
    """

    text: str
    output_ids: tuple[int, ...]
    input_ids: tuple[int, ...] = field(default=(), repr=False)
    cached_tokens: int = field(default=0, compare=False)
    batch_size: int = field(default=1, compare=False)


class TextModel(Model):
    """A smolagents model that writes turns, at once or word by word.

    Args:
        model_id (`str`, *optional*): name for records and logs.
        generation: settings of every call.
    """

    def __init__(self, model_id: str | None = None, **generation: Any):
        super().__init__(model_id=model_id)
        self.generation = _named(generation)

    @abstractmethod
    def write(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        is_streamed: bool,
    ) -> Turn:
        """The next turn, without its stop sequence.

        Args:
            messages (`list[ChatMessage]`), stop_sequences (`list[str]`): as in [`~TextModel.generate`].
            settings (`dict`): of this call; also `response_format` and `tools` (JSON schemas), where they are given.
            is_streamed (`bool`): whether somebody waits for the words.
        """

    def generate(self, messages: list[ChatMessage | dict], *args: Any, **kwargs: Any) -> ChatMessage:
        """Write the next turn; arguments and errors are those of [`~TextModel.generate_stream`].

        Returns:
            `ChatMessage`: `content` without the stop sequence, as smolagents expects; `raw` is a [`Generation`] with
                the whole turn and its ids where the model runs here.
        """
        turn = self._turn(messages, *args, **kwargs, is_streamed=False)
        while True:
            try:
                next(turn)
            except StopIteration as end:
                return end.value

    def generate_stream(self, messages: list[ChatMessage | dict], *args: Any, **kwargs: Any) -> Turn:
        """Write the next turn word by word. Closing the generator ends it.

        Args:
            messages (`list[ChatMessage]`): the conversation; content parts `{"type": "image", "image": PIL image}` are
                seen.
            stop_sequences (`list[str]`, *optional*): strings that end the turn.
            response_format (`dict`, *optional*): the form of the turn, such as a JSON schema, where the model knows
                structured outputs.
            tools_to_call_from (`list[Tool]`, *optional*): tools that the chat template shows to the model. Calls that
                stand in the text are found by `parse_tool_calls`.
            kwargs: generation settings for this call; `max_tokens` stands for `max_new_tokens`.

        Yields:
            `ChatMessageStreamDelta`: some words or a part of a tool call; the last one with the tokens that were used.

        Returns:
            `ChatMessage`: what [`~TextModel.generate`] returns.

        Raises:
            InputError: when the model knows no structured outputs or its template no tools, the context is full, or
                the model cannot be used; the message says why.
            InterruptedTurn: when the run in this thread is cancelled or out of time, see [`interruptible`].
        """
        return self._turn(messages, *args, **kwargs, is_streamed=True)

    def _turn(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str] | None = None,
        response_format: dict[str, str] | None = None,
        tools_to_call_from: list[Any] | None = None,
        *,
        is_streamed: bool,
        **kwargs: Any,
    ) -> Turn:
        settings = {**self.generation, **_named(kwargs)}
        if response_format:
            settings["response_format"] = response_format
        if tools_to_call_from:
            settings["tools"] = [get_tool_json_schema(tool) for tool in tools_to_call_from]
        with model_call(self.model_id, settings) as span:
            message = yield from self.write(messages, stop_sequences or [], settings, is_streamed)
            raw, usage = message.raw, message.token_usage
            text, together = (raw.text, (raw.cached_tokens, raw.batch_size)) if raw else (message.content, ())
            record_usage(span, text, usage.input_tokens, usage.output_tokens, *together)
        return message


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the names of transformers; `max_tokens` is the protocol's."""
    return {"max_new_tokens" if name == "max_tokens" else name: value for name, value in settings.items()}


def shown_before_stop(text: str, strings: Sequence[str]) -> str:
    """What may be shown of a turn that is being written: up to its first stop string, or to what may begin one."""
    places = [place for string in strings if (place := text.find(string)) >= 0]
    if places:
        return text[: min(places)]
    longest = min(len(text), max((len(string) for string in strings), default=1) - 1)
    sizes = (size for size in range(longest, 0, -1) if any(s.startswith(text[-size:]) for s in strings))
    return text[: len(text) - next(sizes, 0)]


def to_chat(
    messages: Iterable[dict[str, Any]],
    pictures: Iterable[Image.Image],
    output_ids: Iterable[Sequence[int] | None] = (),
) -> list[ChatMessage]:
    """Rendered messages in the form that smolagents' models take.

    Args:
        messages (`Iterable[dict]`): what [`render_messages`] gave.
        pictures (`Iterable[Image]`): one for each image placeholder, in order.
        output_ids (`Iterable`, *optional*): per assistant turn the ids that the model produced, `None` where unknown.
    """
    remaining, known, chat = iter(pictures), iter(output_ids), []
    for message in messages:
        content = [
            {"type": "image", "image": next(remaining)} if part["type"] == "image" else part
            for part in message["content"]
        ]
        ids = next(known, None) if message["role"] == "assistant" else None
        raw = None if ids is None else Generation(text="", output_ids=tuple(ids))
        chat.append(ChatMessage(role=MessageRole(message["role"]), content=content, raw=raw))
    return chat


def split_messages(
    messages: list[ChatMessage | dict],
) -> tuple[list[dict[str, Any]], list[Image.Image], list[tuple[int, ...] | None]]:
    """Messages with placeholders, their pictures, and per assistant turn the ids that were produced (where known)."""
    plain, images, output_ids = [], [], []
    for message in messages:
        role, parts = role_and_parts(message)
        images += [part["image"] for part in parts if part["type"] == "image"]
        if plain and plain[-1]["role"] == role:
            add_parts(plain[-1]["content"], parts)
            continue
        plain.append({"role": role, "content": parts})
        if role == "assistant":
            raw = getattr(message, "raw", None)
            output_ids.append(raw.output_ids if isinstance(raw, Generation) else None)
    return plain, images, output_ids


def role_and_parts(message: ChatMessage | dict) -> tuple[str, list[dict[str, Any]]]:
    """Who writes a message, as chat templates name them, and a list of its parts."""
    role, content = (message[n] if isinstance(message, dict) else getattr(message, n) for n in ("role", "content"))
    role = str(getattr(role, "value", role))
    role = {"tool-call": "assistant", "tool-response": "user"}.get(role, role)
    return role, list(content) if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def wire_messages(
    messages: Sequence[ChatMessage | dict], url_of: Callable[[Image.Image], str]
) -> list[dict[str, Any]]:
    """Messages as the protocol has them; neighbors of one role are joined, as templates want it.

    Args:
        messages (`Sequence[ChatMessage]`): `role`, and `content` that is text or parts; pictures are
            `{"type": "image", "image": PIL image}`.
        url_of (`Callable`): the data URL of a picture.
    """
    wired: list[dict[str, Any]] = []
    for message in messages:
        role, parts = role_and_parts(message)
        parts = [
            {"type": "image_url", "image_url": {"url": url_of(part["image"])}} if part["type"] == "image" else part
            for part in parts
        ]
        if wired and wired[-1]["role"] == role:
            add_parts(wired[-1]["content"], parts)
        else:
            wired.append({"role": role, "content": parts})
    return wired


def read_turn(step: Step, message: ChatMessage, tags: tuple[str, str], tools: Collection[str]) -> int:
    """Fill in a step with what a model wrote: its text and the parts of it, the produced ids, the tokens.

    Args:
        step ([`Step`]): the step.
        message ([`~smolagents.ChatMessage`]): the turn.
        tags (`tuple[str, str]`): opening and closing tag of code.
        tools (`Collection[str]`): names of what code may call.

    Returns:
        `int`: the number of code blocks.
    """
    if message.token_usage:
        step.input_tokens, step.output_tokens = message.token_usage.input_tokens, message.token_usage.output_tokens
    if isinstance(message.raw, Generation):
        step.output_ids = list(message.raw.output_ids)
        return step.read(message.raw.text, tags, tools)
    text = text_of(message.content)
    blocks = step.read(text, tags, tools)
    if blocks and not (step.code and is_python(step.code)):
        # Servers take the closing tag away, since it is a stop sequence.
        given, closed = step.code, text.rstrip("\n") + "\n" + tags[1]
        step.read(closed, tags, tools)
        if given and not is_python(step.code):
            step.read(text, tags, tools)
    return blocks


def read_structured_turn(step: Step, message: ChatMessage, tags: tuple[str, str], tools: Collection[str]) -> int:
    """The same for a turn that is a JSON object with `thought` and `code`; 0 when it is none."""
    read_turn(step, message, tags, tools)
    try:
        record = json.loads(step.model_output)
        step.thought, code = str(record.get("thought", "")), record["code"]
        step.code = parse_turn(code, tags)[1] or code
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
    step.tools = called_tools(step.code, tools)
    return 1


def text_of(content: Any) -> str:
    """Words of a message, whose content may be a list of parts."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))
