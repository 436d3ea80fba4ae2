"""From chat messages to token ids, the same way when a model runs and when it is trained.

A conversation is cut where the chat template switches between what the controller reads and what it writes. Each part
is tokenized by itself, as happens in a run, where the prompt is tokenized before a turn exists. Where the ids that a
model produced are known they stand in for its text.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import InputError
from ..turns import add_parts
from .chat_templates import bound_chat_templates
from .families import NUMBER_MARKS, picture_marks, rows_of_pictures


if TYPE_CHECKING:
    import torch
    from transformers import ProcessorMixin

Message = dict[str, Any]

_MAX_RATIO = 150


@dataclass
class Conversation:
    """Token ids of a conversation.

    Args:
        ids (`list[int]`): the sequence, with every picture expanded to its tokens.
        produced (`list[bool]`): per id, whether the controller wrote it; these are trained on.
        image_spans (`list[tuple[int, int]]`): start and end of each picture's tokens.
        turns (`list[tuple[int, int]]`): start and end of each assistant turn, up to its last produced id.
        images (`list[Image]`): the pictures, in order.
        turn_weights (`list[float]`): weight of each turn in the loss; empty where all count alike.
    """

    ids: list[int] = field(default_factory=list)
    produced: list[bool] = field(default_factory=list)
    image_spans: list[tuple[int, int]] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    turn_weights: list[float] = field(default_factory=list)

    def extend(self, ids: Sequence[int], produced: bool) -> None:
        self.ids += ids
        self.produced += [produced] * len(ids)

    def keys(self) -> list[Any]:
        """The ids, with those of pictures told apart by pixels: two pictures of one size have the same ids."""
        keys: list[Any] = list(self.ids)
        for (start, end), image in zip(self.image_spans, self.images, strict=True):
            digest = image_key(image)
            keys[start:end] = [(digest, offset) for offset in range(end - start)]
        return keys


class ChatEncoder:
    """Tokenizes conversations with a processor's own chat template, tokenizer and image processor.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of a vision-language model, with a chat template.

    Raises:
        InputError: when the processor has no chat template, or the template rewrites earlier turns (it is not
            prefix-stable), so that what is trained could not be what is run.
    """

    def __init__(self, processor: ProcessorMixin):
        if processor.chat_template is None:
            raise InputError(
                f"{type(processor).__name__} has no chat template: give it one before it is used as a controller."
            )
        bound_chat_templates()
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token: str = processor.image_token
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(self.image_token)
        self._control_tokens = sorted({*self.tokenizer.get_added_vocab(), self.image_token}, key=len, reverse=True)
        self._image_ids: dict[str, list[int]] = {}
        self.end_of_turn = self._find_end_of_turn()

    def encode(
        self,
        messages: Sequence[Message],
        images: Sequence[Image.Image] = (),
        output_ids: Sequence[Sequence[int] | None] | None = None,
        add_generation_prompt: bool = False,
        tools: Sequence[dict[str, Any]] = (),
    ) -> Conversation:
        """Tokenize a conversation.

        Args:
            messages (`Sequence[dict]`): `{"role", "content": [{"type": "text", "text"} | {"type": "image"}]}`.
            images (`Sequence[Image]`): one picture per image placeholder, in order.
            output_ids (`Sequence`, *optional*): per assistant turn the ids that a model produced, or `None` for those
                known as text.
            add_generation_prompt (`bool`, *optional*, defaults to `False`): end with the opening of an assistant turn.
            tools (`Sequence[dict]`, *optional*): JSON schemas of functions, for the template.

        Raises:
            InputError: when placeholders and pictures differ in number, `output_ids` and assistant turns do, or the
                template is not prefix-stable or has no place for tools.
        """
        if tools and "tools" not in self.processor.chat_template:
            raise InputError(
                f"The chat template of {type(self.processor).__name__} has no place for tools: use a code agent."
            )
        render = functools.partial(self._render, **({"tools": list(tools)} if tools else {}))
        messages = [self._clean(message) for message in messages]
        placeholders = sum(part["type"] == "image" for message in messages for part in message["content"])
        if placeholders != len(images):
            raise InputError(
                f"The messages have {placeholders} image placeholders, but there are {len(images)} pictures: put one "
                "part of type image where each picture belongs."
            )
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if output_ids is not None and len(output_ids) != len(turns):
            raise InputError(f"There are {len(turns)} assistant turns, but output ids for {len(output_ids)}.")
        conversation = Conversation(images=list(images))
        remaining = iter(images)
        done = ""
        for number, index in enumerate(turns):
            before = render(messages[:index], add_generation_prompt=True)
            after = render(messages[: index + 1])
            self._check_appended(done, before)
            self._check_appended(before, after)
            self._add_read(conversation, before[len(done) :], remaining)
            self._add_written(conversation, after[len(before) :], output_ids[number] if output_ids else None)
            done = after
        whole = render(messages, add_generation_prompt=add_generation_prompt)
        self._check_appended(done, whole)
        self._add_read(conversation, whole[len(done) :], remaining)
        if len(conversation.image_spans) != len(images):
            raise InputError(
                f"The chat template of {type(self.processor).__name__} writes {len(conversation.image_spans)} of "
                f"{len(images)} pictures: use one that writes `{self.image_token}` for every part of type image."
            )
        return conversation

    def pixel_inputs(self, images: Sequence[Sequence[Image.Image]]) -> dict[str, torch.Tensor]:
        """Model inputs for the pictures of a batch, in the layout of the model's family.

        Args:
            images (`Sequence[Sequence[Image]]`): the pictures of each row.

        Returns:
            `dict[str, Tensor]`: for example `pixel_values`; empty when there are no pictures.
        """
        if not any(images):
            return {}
        # Rows without pictures bring nothing; how many tokens a row has is known already, so the text is only a
        # carrier.
        rows = rows_of_pictures(self.processor, [[_broadened(image) for image in row] for row in images])
        texts = [self.image_token * len(row) or "-" for row in rows]
        inputs = self.processor(text=texts, images=rows, return_tensors="pt", padding=True)
        text_inputs = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}
        return {name: value for name, value in inputs.items() if name not in text_inputs}

    def token_types(self, ids: Sequence[int]) -> dict[str, list[int]]:
        """What the model is told about which tokens are a picture's, see [`picture_marks`]."""
        return picture_marks(self.processor, ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of produced ids, without the end-of-turn token."""
        ids = list(ids)
        if ids and ids[-1] == self.end_of_turn:
            ids = ids[:-1]
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    # Parts of a conversation

    def _check_appended(self, before: str, after: str) -> None:
        """Refuse a template that writes what was read already in another way."""
        if after.startswith(before):
            return
        same = len(os.path.commonprefix([before, after]))
        start = max(same - 20, 0)
        raise InputError(
            f"The chat template of {type(self.processor).__name__} rewrites earlier turns, so training would differ "
            f"from running: {before[start : same + 20]!r} becomes {after[start : same + 20]!r} when the conversation "
            "goes on. Use a template that only appends."
        )

    def _add_read(self, conversation: Conversation, text: str, images: Any) -> None:
        pieces = text.split(self.image_token)
        for number, piece in enumerate(pieces):
            if piece:
                conversation.extend(self._tokenize(piece), produced=False)
            if number < len(pieces) - 1:
                image = next(images, None)
                if image is None:
                    raise InputError(
                        f"The chat template of {type(self.processor).__name__} writes more pictures than the "
                        "messages have: use one that writes each picture once."
                    )
                ids = self._ids_of(image, number=len(conversation.image_spans))
                conversation.image_spans.append((len(conversation.ids), len(conversation.ids) + len(ids)))
                conversation.extend(ids, produced=False)

    def _add_written(self, conversation: Conversation, text: str, output_ids: Sequence[int] | None) -> None:
        start = len(conversation.ids)
        ids = self._tokenize(text)
        end = len(ids) - 1 - ids[::-1].index(self.end_of_turn) if self.end_of_turn in ids else len(ids)
        if output_ids is None:
            conversation.extend(ids[: end + 1], produced=True)
        else:
            conversation.extend(list(output_ids), produced=True)
        conversation.turns.append((start, len(conversation.ids)))
        if output_ids is not None and end < len(ids) and (not output_ids or output_ids[-1] != self.end_of_turn):
            # Generation ended at a stop sequence, so the template closes the turn.
            conversation.extend([self.end_of_turn], produced=False)
        conversation.extend(ids[end + 1 :], produced=False)

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _ids_of(self, image: Image.Image, number: int) -> list[int]:
        """Tokens that a picture takes; they depend on its size, and its number where the family writes that."""
        image = _broadened(image)
        key = f"{image.size}"
        if key not in self._image_ids:
            inputs = self.processor(text=[self.image_token], images=[[image]], add_special_tokens=False)
            self._image_ids[key] = [int(token) for token in inputs["input_ids"][0]]
        ids = self._image_ids[key]
        start, end = self.tokenizer.convert_tokens_to_ids(list(NUMBER_MARKS))
        if ids[0] == start:
            ids = [*self._tokenize(f"{number}".join(NUMBER_MARKS)), *ids[ids.index(end) + 1 :]]
        return ids

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool = False, **settings: Any) -> str:
        if not messages and not add_generation_prompt:
            return ""
        try:
            return self.processor.apply_chat_template(
                list(messages), add_generation_prompt=add_generation_prompt, tokenize=False, **settings
            )
        except Exception as error:  # a template comes with the model and may raise anything
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"The chat template of {type(self.processor).__name__} cannot be used: {reason}."
            ) from error

    def _clean(self, message: Message) -> Message:
        """Plain parts, with control tokens in words made harmless: a file's text must not open a turn or a picture."""
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] != "assistant":  # what was written stays as it is
            given, parts = parts, []
            add_parts(parts, given)
        return {
            "role": message["role"],
            "content": [
                {"type": "image"}
                if part["type"] == "image"
                else {"type": "text", "text": self._defuse(part["text"] or "")}
                for part in parts
            ],
        }

    def _defuse(self, text: str) -> str:
        if "<" not in text and "[" not in text and "|" not in text:
            return text
        for token in self._control_tokens:
            if len(token) > 1 and token in text:
                text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    def _find_end_of_turn(self) -> int | None:
        """The control token that the template writes after an assistant turn; `None` when it writes none."""
        words = "the quick brown fox"
        question = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
        turn = {"role": "assistant", "content": [{"type": "text", "text": words}]}
        text = self._render([*question, turn])
        if words not in text:
            raise InputError(
                f"The chat template of {type(self.processor).__name__} does not write what the assistant says: use "
                "one that writes its text as it is."
            )
        control = set(self.tokenizer.all_special_ids) | set(self.tokenizer.get_added_vocab().values())
        after = self._tokenize(text[text.rindex(words) + len(words) :])
        return next((token for token in after if token in control), None)


def _broadened(image: Image.Image) -> Image.Image:
    """A picture in white, where it is so long and thin that a processor refuses it: Qwen's from 200 on."""
    width, height = image.size
    least = -(-max(width, height) // _MAX_RATIO)
    if min(width, height) >= least:
        return image
    ground = Image.new("RGB", (max(width, least), max(height, least)), "white")
    ground.paste(image)
    return ground


def image_key(image: Image.Image) -> str:
    """Digest of a picture's pixels: two pictures with equal token ids differ in it."""
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()
