"""The teacher: a model behind an endpoint that is asked for structured replies."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from PIL import Image
from pydantic import BaseModel, RootModel, ValidationError
from smolagents.models import ChatMessage, ChatMessageStreamDelta, MessageRole, remove_content_after_stop_sequences
from smolagents.monitoring import TokenUsage

from t3_agents.errors import InputError, T3Error
from t3_agents.media import data_url, encode_image, to_rgb
from t3_agents.models.endpoint import Endpoint, EndpointError, RefusedRequest, tokens_of
from t3_agents.models.messages import TextModel, Turn, wire_messages
from t3_agents.turns import parse_python

from .progress import Ledger, Prices, Usage


Schema = TypeVar("Schema", bound=BaseModel)

MAX_CHARACTERS = 200_000
"""A reply that is longer is not searched for JSON."""
MAX_STARTS = 50
"""Places at which an object may begin that are tried."""
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)(?:```|\Z)", re.S)
_THINKING = re.compile(r"<think>.*?</think>", re.S)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_CONSTANTS = {"true": True, "false": False, "null": None}


class ReplyError(T3Error):
    """A teacher's reply is not what it was asked for, also after it was told why.

    Args:
        reason (`str`): what is wrong, in one line.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def parse_reply(text: str, schema: type[Schema]) -> Schema:
    """Read a reply: bare JSON, JSON in a fence or among prose, with trailing commas or in Python's quotes.

    Of several objects the first that fits the schema is taken; nothing is made up where the text ends too early. Not
    by `json_repair`, which completes replies that were cut off: of the beginnings of four good replies, it makes 184
    of 269 fit their schema, 179 with `strict=True`. Here 2 do, each by an inner object that is whole.

    Args:
        text (`str`): what the model wrote.
        schema (`type[BaseModel]`): what it should be.

    Raises:
        ReplyError: saying what is missing or wrong, so that the model can repair it.
    """
    text = _THINKING.sub("", text).strip()
    if not text:
        raise ReplyError("The reply is empty.")
    if len(text) > MAX_CHARACTERS:
        raise ReplyError(f"The reply has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read.")
    problem: str | None = None
    for value in _values(text):
        if isinstance(value, list) and not issubclass(schema, RootModel):
            if len(value) != 1:
                continue
            value = value[0]
        try:
            return schema.model_validate(value)
        except ValidationError as error:
            problem = problem or _describe(error)
    if problem is None:
        raise ReplyError("There is no complete JSON object in the reply.")
    raise ReplyError(problem)


def _values(text: str) -> Any:
    """Objects and lists in the text, likely ones first."""
    pieces = [text, *(match.group(1) for match in _FENCE.finditer(text))]
    for piece in pieces:
        value = _read(piece)
        if isinstance(value, dict | list):
            yield value
    decoder = json.JSONDecoder()
    place, starts = 0, 0
    while (match := re.compile(r"[{\[]").search(text, place)) and starts < MAX_STARTS:
        starts += 1
        try:
            value, place = decoder.raw_decode(text, match.start())
            yield value
            continue
        except (ValueError, RecursionError):
            place = match.start() + 1
        end = _closing(text, match.start())
        if end is not None and isinstance(value := _read(text[match.start() : end]), dict | list):
            place = end
            yield value


def _read(piece: str) -> Any:
    """A JSON value, or one with trailing commas, or a Python literal; `None` when it is none of these."""
    for candidate in (piece, _TRAILING_COMMA.sub(r"\1", piece)):
        try:
            return json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
    try:
        tree = parse_python(piece.strip(), "eval")
        return _literal(tree.body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> Any:
    """A Python literal in which JSON's `true`, `false` and `null` are known too."""
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise ValueError("no literal")
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    return ast.literal_eval(node)


def _closing(text: str, start: int) -> int | None:
    """Where the bracket at `start` is closed again, strings in either quotes left out; `None` when it is not."""
    depth, quote, escaped = 0, "", False
    for place in range(start, len(text)):
        letter = text[place]
        if escaped:
            escaped = False
        elif quote:
            escaped = letter == "\\"
            quote = "" if letter == quote else quote
        elif letter == '"' or (letter == "'" and not text[place - 1].isalnum()):
            quote = letter
        elif letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
            if depth == 0:
                return place + 1
    return None


def _describe(error: ValidationError) -> str:
    """What a model has to change, in one line."""
    parts = []
    for problem in error.errors(include_url=False, include_context=False)[:5]:
        where = ".".join(map(str, problem["loc"])) or "the reply"
        parts.append(f"`{where}`: {problem['msg']}")
    return f"The reply does not fit the schema: {'; '.join(parts)}."


@functools.cache
def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The schema as endpoints take it for a response format: no further properties, everything required."""
    return _strict(schema.model_json_schema())


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    node = {key: _strict(value) for key, value in node.items() if key != "default"}
    if node.get("type") == "object" and "properties" in node:
        node["additionalProperties"] = False
        node["required"] = list(node["properties"])
    return node


MAX_SIDE = 1024
"""Pixels of the longest side of a picture that is sent."""
OTHER_MODEL_TRIES = 3
"""Times that a request is sent when another model answers it."""
MAX_SHOWN = 4000
"""Characters of a wrong reply that the teacher is shown again."""


@dataclass(frozen=True)
class Answer(Generic[Schema]):
    """A structured reply.

    Args:
        value (`BaseModel`): the validated reply.
        model (`str`): the model, as the server named it in its last reply.
        usage ([`Usage`]): of all calls for this reply.
        attempts (`int`): times that the request or its repair was sent.
    """

    value: Schema
    model: str
    usage: Usage
    attempts: int


@dataclass(frozen=True)
class Completion:
    """A reply in plain text; `cut` when it reached the limit of tokens."""

    text: str
    model: str
    usage: Usage
    attempts: int
    cut: bool = False


class Teacher:
    """A model behind an OpenAI-compatible endpoint that is asked, from any thread.

    Args:
        endpoint ([`Endpoint`]): the connection.
        model (`str`): the model's name there.
        other_models (`Sequence[str]`, *optional*): further names under which it may answer. A name that begins with
            `model`, as dated versions do, is always taken.
        temperature (`float`, *optional*, defaults to 0): of sampling.
        max_tokens (`int`, *optional*, defaults to 2048): tokens of a reply.
        ledger ([`Ledger`], *optional*): where usage is counted and the budget checked.
        prices ([`Prices`], *optional*): what tokens cost.

    Attributes:
        knows_schemas (`bool`): whether replies are held to a schema by the server; else the model is told in words.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        other_models: Sequence[str] = (),
        temperature: float = 0.0,
        max_tokens: int = 2048,
        ledger: Ledger | None = None,
        prices: Prices | None = None,
    ):
        self.endpoint = endpoint
        self.name = model
        self.other_models = tuple(other_models)
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.ledger = ledger or Ledger()
        self.prices = prices or Prices()
        self.knows_schemas = True

    def ask(
        self,
        stage: str,
        prompt: str | list[dict[str, Any]],
        schema: type[Schema],
        system: str | None = None,
    ) -> Answer[Schema]:
        """Ask for a structured reply. One that does not fit is sent back once with what is wrong.

        Args:
            stage (`str`): name of the stage that asks, for the ledger.
            prompt (`str` or `list[dict]`): the question, or its parts `{"type": "text", "text": str}` and
                `{"type": "image", "image": PIL image}`.
            schema (`type[BaseModel]`): what the reply must be.
            system (`str`, *optional*): a system message before it.

        Raises:
            ReplyError: when the repaired reply does not fit either.
            EndpointError: when no reply can be had.
            BudgetSpent: when the run may use no more.
            WrongEndpoint: when the endpoint refuses the key or the model's name.
        """
        parts = [{"type": "text", "text": prompt}] if isinstance(prompt, str) else list(prompt)
        if not self.knows_schemas:
            words = json.dumps(schema.model_json_schema(), ensure_ascii=False)
            parts.append({"type": "text", "text": f"Reply with one JSON object of this JSON schema: {words}"})
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": parts})
        first = self.complete(stage, messages, schema)
        try:
            return Answer(parse_reply(first.text, schema), first.model, first.usage, first.attempts)
        except ReplyError as error:
            reason = _with_cut(error.reason, first)
        request = (
            f"This reply cannot be used. {reason} Write the whole reply again as one JSON object and nothing else."
        )
        messages += [
            {"role": "assistant", "content": first.text[:MAX_SHOWN] or "(empty)"},
            {"role": "user", "content": [{"type": "text", "text": request}]},
        ]
        second = self.complete(stage, messages, schema)
        usage = Usage(**first.usage.to_dict())
        usage.add(second.usage)
        try:
            value = parse_reply(second.text, schema)
        except ReplyError as error:
            raise ReplyError(_with_cut(error.reason, second)) from None
        return Answer(value, second.model, usage, first.attempts + second.attempts)

    def _count(self, stage: str, input_tokens: int, output_tokens: int, attempts: int) -> Usage:
        cost = self.prices.cost(input_tokens, output_tokens)
        usage = Usage(1, attempts - 1, input_tokens, output_tokens, cost)
        self.ledger.add(stage, usage)
        return usage

    def complete(
        self,
        stage: str,
        messages: list[ChatMessage | dict],
        schema: type[Schema] | None = None,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
    ) -> Completion:
        """One reply in plain text.

        Args:
            stage (`str`): for whom, in the ledger.
            messages (`list[ChatMessage]`): `{"role", "content"}` with text or parts; pictures are
                `{"type": "image", "image": PIL image}`.
            schema (`type[BaseModel]`, *optional*): shape of the reply, where the model can be held to it.
            stop (`Sequence[str]`, *optional*): strings that end the reply.
            max_tokens (`int`, *optional*): tokens that the reply may have.

        Raises:
            EndpointError: when no reply can be had.
            BudgetSpent: when the run may use no more.
        """
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [_plain(message) for message in wire_messages(messages, picture_url)],
            "temperature": self.temperature,
            "max_tokens": max_tokens or self.max_tokens,
        }
        if stop:
            request["stop"] = list(stop)
        if schema is not None and self.knows_schemas:
            about = {"name": schema.__name__, "schema": json_schema(schema), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": about}
        attempts = 0
        for _ in range(OTHER_MODEL_TRIES):
            self.ledger.check()
            reply, sent = self._post(request)
            attempts += sent
            completion = self._read(stage, reply, attempts)
            if self._is_mine(completion.model):
                return completion
        raise EndpointError(
            f"`{completion.model}` answers in the place of `{self.name}`: name it in `other_models` if it may."
        )

    def _post(self, request: dict[str, Any]) -> tuple[dict[str, Any], int]:
        try:
            return self.endpoint.post("chat/completions", request)
        except RefusedRequest as error:
            words = str(error).lower()
            if "response_format" not in request or not any(word in words for word in ("response_format", "schema")):
                raise
            # A server without structured output; its replies are read tolerantly from now on.
            self.knows_schemas = False
            del request["response_format"]
            return self.endpoint.post("chat/completions", request)

    def _read(self, stage: str, reply: dict[str, Any], attempts: int) -> Completion:
        usage = self._count(stage, *(tokens_of(reply) or (0, 0)), attempts)
        choices = reply.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        return Completion(
            text=text if isinstance(text, str) else "",
            model=str(reply.get("model") or self.name),
            usage=usage,
            attempts=attempts,
            cut=choice.get("finish_reason") == "length",
        )

    def _is_mine(self, name: str) -> bool:
        return name.startswith(self.name) or name in self.other_models


class TeacherModel(TextModel):
    """A teacher as the controller of an agent: its turns share the teacher's connection, limits and ledger.

    Args:
        teacher ([`Teacher`]): who writes.
        stage (`str`): name in the ledger.
        max_tokens (`int`, *optional*, defaults to 1024): tokens of a turn.
    """

    def __init__(self, teacher: Teacher, stage: str, max_tokens: int = 1024):
        super().__init__(teacher.name)
        self.teacher = teacher
        self.stage = stage
        self.max_tokens = max_tokens

    def write(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        is_streamed: bool,
    ) -> Turn:
        """As in [`~t3_agents.models.messages.TextModel`].

        Raises:
            InputError: when structured output or tool calls are asked for.
            EndpointError: when no turn can be had.
            BudgetSpent: when the run may use no more.
        """
        if {"response_format", "tools"} & settings.keys():
            raise InputError("A teacher writes plain text turns: use it with code agents.")
        completion = self.teacher.complete(self.stage, messages, stop=stop_sequences, max_tokens=self.max_tokens)
        text = remove_content_after_stop_sequences(completion.text, stop_sequences)
        usage = TokenUsage(completion.usage.input_tokens, completion.usage.output_tokens)
        yield ChatMessageStreamDelta(content=text, token_usage=usage)
        return ChatMessage(role=MessageRole.ASSISTANT, content=text, token_usage=usage)


def _with_cut(reason: str, completion: Completion) -> str:
    return f"{reason} It was cut at the limit of tokens." if completion.cut else reason


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message of text alone as a string, which servers of text models want."""
    parts = message["content"]
    if any(part["type"] != "text" for part in parts):
        return message
    return {"role": message["role"], "content": "\n\n".join(part["text"] for part in parts)}


def picture_url(image: Image.Image) -> str:
    """A data URL of a picture, made smaller where it is larger than `MAX_SIDE`.

    JPEG with full color resolution: encoded five times faster than PNG, and small print stays readable.
    """
    image = to_rgb(image)
    if max(image.size) > MAX_SIDE:
        image = image.copy()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    return data_url(encode_image(image, "JPEG", quality=92, subsampling=0), "image/jpeg")
