"""The controller: a vision-language model of transformers that really gets the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolagents.models import (
    ChatMessage,
    ChatMessageStreamDelta,
    MessageRole,
    remove_content_after_stop_sequences,
)
from smolagents.monitoring import TokenUsage

from ..errors import InputError
from ..hub.repos import download_model
from ..hub.safe_loading import check_folder
from ..interruption import current_interruption
from .device import best_device
from .embedded import EMBEDDED, embedded_controller
from .encoding import ChatEncoder
from .engine.engine import Engine
from .engine.request import Request
from .messages import Generation, TextModel, Turn, shown_before_stop, split_messages
from .weights import load_adapter, load_whole


class VLMModel(TextModel):
    """A vision-language model of transformers, optionally with a PEFT adapter, as a smolagents model.

    Pictures in messages reach the model as pixels. Greedy by default; with `do_sample=True` a `seed` makes a run
    repeatable. Several agents in threads may share one instance, see [`Engine`].

    Args:
        model ([`~transformers.PreTrainedModel`]): an image-text-to-text model, or a PEFT model around one.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        model_id (`str`, *optional*): name for records and logs.
        revision (`str`, *optional*): commit of the base model.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that one turn may have.
        max_batch_size (`int`, *optional*, defaults to 16): requests of concurrent agents that run together.
        max_cached_tokens (`int`, *optional*, defaults to 32768): tokens whose keys and values are kept between calls;
            0 turns reuse off.
        max_drafted_tokens (`int`, *optional*, defaults to 12): tokens of a turn that are guessed and checked at once,
            see [`Engine`]; 0 turns it off.
        generation: further keyword arguments of `generate`, and `seed`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        model_id: str | None = None,
        revision: str | None = None,
        max_new_tokens: int = 512,
        max_batch_size: int = 16,
        max_cached_tokens: int = 32768,
        max_drafted_tokens: int = 12,
        **generation: Any,
    ):
        super().__init__(model_id, **{"do_sample": False, **generation, "max_new_tokens": max_new_tokens})
        self.model = model.eval()
        self.processor = processor
        self.revision = revision
        self.encoder = ChatEncoder(processor)
        self.engine = Engine(self.model, self.encoder, max_batch_size, max_cached_tokens, max_drafted_tokens)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        base: str | None = None,
        base_revision: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token: str | bool | None = None,
        trust_remote_code: bool = False,
        quantization_config: Any = None,
        **generation: Any,
    ) -> VLMModel:
        """Load a model: safetensors only, and no code of its repo.

        Args:
            pretrained_name_or_path (`str` or `Path`): folder or Hub id of a model or of a PEFT adapter; `embedded` is
                the offline controller.
            base (`str`, *optional*): Hub id of the model under an adapter, when the adapter does not name it.
            base_revision (`str`, *optional*): commit of that model.
            revision (`str`, *optional*): commit of `pretrained_name_or_path`.
            device (`str`, *optional*): the best device that torch finds, by default.
            dtype (`str`, *optional*): the checkpoint's own, by default; on a CPU `float32` for one in half precision.
            token (`str` or `bool`, *optional*): as in `huggingface_hub`.
            trust_remote_code (`bool`, *optional*, defaults to `False`): run code of the model's repo.
            quantization_config (`BitsAndBytesConfig`, *optional*): load the weights quantized, as in transformers.
            generation: handed to [`VLMModel`].

        Raises:
            InputError: when there is no such model, or it is no vision-language model with a processor.
        """
        from transformers import AutoProcessor

        name = str(pretrained_name_or_path)
        folder = Path(name)
        if name == EMBEDDED:
            folder = embedded_controller()
        elif not folder.is_dir():
            folder = download_model(name, revision, token, code=trust_remote_code)
        check_folder(folder)
        device = device or best_device()
        if device != "cpu":
            dtype = dtype or "auto"
        loading = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": trust_remote_code}
        if quantization_config is not None:
            loading |= {"quantization_config": quantization_config, "device_map": {"": device}}
        try:
            if (folder / "adapter_config.json").is_file():
                is_own = Path(name).is_dir()
                model, base, base_revision = load_adapter(folder, is_own, base, base_revision, token, loading)
            else:
                model = load_whole(folder, loading)
            processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except InputError:
            raise
        except Exception as error:  # settings of a stranger may raise anything in transformers
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise InputError(f"`{name}` cannot be loaded as a vision-language model: {reason}") from error
        label = base or (name if not Path(name).exists() else Path(name).resolve().name)
        # A snapshot in the Hub's cache is named by its commit.
        commit = base_revision or (folder.name if folder.parent.name == "snapshots" else None)
        return cls(model.to(device), processor, model_id=label, revision=commit, **generation)

    def write(
        self,
        messages: list[ChatMessage | dict],
        stop_sequences: list[str],
        settings: dict[str, Any],
        is_streamed: bool,
    ) -> Turn:
        if "response_format" in settings:
            raise InputError(
                "VLMModel writes plain text turns: leave out structured outputs, or run the model behind a server "
                "and use ServerModel."
            )
        settings = dict(settings)
        tools, _ = settings.pop("tools", ()), settings.pop("tool_choice", None)
        plain, images, output_ids = split_messages(messages)
        conversation = self.encoder.encode(plain, images, output_ids, add_generation_prompt=True, tools=tools)
        request = Request(conversation, tuple(stop_sequences), settings, current_interruption())
        shown = 0
        for ids in self.engine.stream(request) if is_streamed else ():
            # The end of the text may be half of a character, or of a stop string.
            text = shown_before_stop(self.encoder.decode(ids).rstrip("\ufffd"), stop_sequences)
            if len(text) > shown:
                yield ChatMessageStreamDelta(content=text[shown:])
                shown = len(text)
        produced = request.output_ids if is_streamed else self.engine.generate(request)
        text, read = self.encoder.decode(produced), tuple(conversation.ids)
        content = remove_content_after_stop_sequences(text, stop_sequences)
        usage = TokenUsage(input_tokens=len(read), output_tokens=len(produced))
        yield ChatMessageStreamDelta(content=content[shown:], token_usage=usage)
        raw = Generation(text, tuple(produced), read, request.cached_tokens, request.batch_size)
        return ChatMessage(role=MessageRole.ASSISTANT, content=content, raw=raw, token_usage=usage)

    def to_dict(self) -> dict[str, Any]:
        """
        Raises:
            InputError: always: a dictionary cannot hold weights.
        """
        raise InputError("A VLMModel is saved with its weights: use `save_pretrained` and `from_pretrained`.")

    def save_pretrained(self, folder: str | Path) -> dict[str, Any]:
        """Write weights and processor.

        An adapter on a Hub model is saved as an adapter; one on a local folder is merged and saved whole, since a path
        of this machine means nothing elsewhere.

        Returns:
            `dict`: the `controller` entry of `t3_agent.json`.
        """
        from peft import PeftModel

        model, base = self.model, None
        if isinstance(model, PeftModel):
            base = model.peft_config["default"].base_model_name_or_path
            if not base or Path(base).exists():
                import copy

                model, base = copy.deepcopy(model).merge_and_unload(), None
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        return {"base": base, "revision": self.revision if base else None, "adapter": base is not None}
