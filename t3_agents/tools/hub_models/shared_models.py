"""Models that tools share: each is loaded once per process, at the first call that needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from PIL import Image, ImageOps
from smolagents.models import Model

from t3_agents.errors import InputError, needs_extra
from t3_agents.models.device import best_device, num_cores
from t3_agents.models.server import ServerModel
from t3_agents.models.vlm import VLMModel

from ..base import WorkspaceTool


CONTROLLER = "controller"
"""Name that stands for the agent's own model where a tool asks for one."""

MAX_SIDE = 2048

_ONNX_THREADS = 4
"""More make the small networks of the tools no faster."""

_lock = threading.Lock()
_loaded: dict[tuple, Any] = {}
_waiting: dict[tuple, threading.Lock] = {}


def onnx_threads() -> int:
    """CPU threads for a small network: `OMP_NUM_THREADS`, which onnxruntime itself ignores, else the cores up to 4."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(wanted)) if wanted.isdigit() else min(_ONNX_THREADS, num_cores())


def load_once(key: tuple, load: Callable[[], Any]) -> Any:
    """The value of `load()`, called at most once per process for a key; others wait for it.

    Args:
        key (`tuple`): hashable, what makes two models the same: kind, name, revision, device, dtype.
        load (`Callable`): loads the model; what it raises reaches the caller, and the next call retries.
    """
    with _lock:
        lock = _waiting.setdefault(key, threading.Lock())
    with lock:
        if key not in _loaded:
            _loaded[key] = load()
        return _loaded[key]


def onnx_session(purpose: str, weights: Callable[[], bytes]) -> Any:
    """A small network on the CPU, loaded once per process.

    Args:
        purpose (`str`): what it is for, for messages.
        weights (`Callable`): gives the ONNX file.

    Raises:
        MissingExtraError: when onnxruntime is not installed.
    """

    def load() -> Any:
        with needs_extra("onnxruntime", "tools", purpose):
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = onnx_threads()
        # An arena would keep a picture's working memory for good.
        options.enable_cpu_mem_arena = False
        return onnxruntime.InferenceSession(weights(), options, providers=["CPUExecutionProvider"])

    return load_once(("onnx", purpose), load)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what libraries raise when a model cannot be loaded into an [`InputError`] that names it and says why."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, ImportError, AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0].removesuffix(":").removesuffix(".")
        raise InputError(f"The model `{name}` of this tool cannot be loaded: {reason}.") from error


class HubModel(NamedTuple):
    """A model of transformers with its processor.

    Args:
        model ([`~transformers.PreTrainedModel`]): in evaluation mode, on its device.
        processor (`Any`): processor, image processor or feature extractor.
        lock (`threading.Lock`): held while the model runs, since agents of several threads share it.
    """

    model: Any
    processor: Any
    lock: threading.Lock


def hub_model(
    model_class: str,
    name: str,
    processor_class: str = "AutoProcessor",
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> HubModel:
    """A model of the Hub or of a folder, loaded once per process.

    Args:
        model_class (`str`), processor_class (`str`, *optional*, defaults to `"AutoProcessor"`): classes of
            transformers, by name, so that nothing is imported before the first call.
        name (`str`): folder or Hub id.
        revision (`str`, *optional*): branch, tag or commit.
        device (`str`, *optional*): the best one that torch finds, by default.
        dtype (`str`, *optional*): the checkpoint's own by default, `float32` on a CPU.

    Raises:
        InputError: when the model cannot be loaded, or is one of another class; the message says why.
    """
    device = device or best_device()
    dtype = dtype or ("float32" if device == "cpu" else "auto")

    def load() -> HubModel:
        import transformers

        with loading(name):
            model, info = getattr(transformers, model_class).from_pretrained(
                name,
                revision=revision,
                dtype=dtype,
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
            processor = getattr(transformers, processor_class).from_pretrained(
                name, revision=revision, trust_remote_code=False
            )
        # transformers gives a class random weights where the checkpoint is one of another class.
        if len(info["missing_keys"]) > len(model.state_dict()) / 2:
            raise InputError(f"The model `{name}` of this tool holds no weights of a {type(model).__name__}.")
        return HubModel(model.to(device).eval(), processor, threading.Lock())

    return load_once((model_class, name, processor_class, revision, device, dtype), load)


def choose_model(
    controller: Model | None,
    model: str = CONTROLLER,
    api_base: str | None = None,
    max_new_tokens: int = 512,
    device: str | None = None,
    dtype: str | None = None,
) -> Model:
    """The model that a tool's settings name; one of its own is made once per process.

    Args:
        controller (`Model`, *optional*): the model of the agent that the tool belongs to.
        model (`str`, *optional*, defaults to `"controller"`): that one, folder or Hub id of a vision-language model,
            or the model's name at an endpoint.
        api_base (`str`, *optional*): URL of an OpenAI-compatible server; its key is taken from `OPENAI_API_KEY`.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that a reply of a model of its own may have.
        device (`str`, *optional*), dtype (`str`, *optional*): of a local model.

    Raises:
        InputError: when the controller is asked for and the tool belongs to no agent, or the model cannot be loaded.
    """
    if model == CONTROLLER:
        if controller is None:
            raise InputError(
                "This tool asks the agent's own model and belongs to no agent: give it to an agent, or make it with "
                '`model="<Hub id or folder>"`.'
            )
        return controller

    def load() -> Model:
        if api_base is not None:
            return ServerModel(model, api_base=api_base, max_new_tokens=max_new_tokens)
        return VLMModel.from_pretrained(model, device=device, dtype=dtype, max_new_tokens=max_new_tokens)

    return load_once(("chat", model, api_base, max_new_tokens, device, dtype), load)


def ask(model: Model, question: str, images: Sequence[Image.Image] = ()) -> str:
    """One question to a model, with pictures before it; returns the reply.

    Pictures over `MAX_SIDE` pixels are reduced: models see no more of them, and a request would have many megabytes.

    Raises:
        InputError: when the model or its server fails.
    """
    side = (MAX_SIDE, MAX_SIDE)
    reduced = [image if max(image.size) <= MAX_SIDE else ImageOps.contain(image, side) for image in images]
    content = [*({"type": "image", "image": image} for image in reduced), {"type": "text", "text": question}]
    try:
        reply = model.generate([{"role": "user", "content": content}])
    except InputError:
        raise
    except Exception as error:  # servers and their clients raise anything
        raise InputError(f"The model behind this tool failed ({type(error).__name__}: {error}).") from error
    return str(reply.content or "").strip()


class AskingTool(WorkspaceTool):
    """A tool that asks a vision-language model about pictures.

    Args:
        model (`str`, *optional*, defaults to `"controller"`): the agent's own model, or Hub id, folder or name at an
            endpoint, see [`choose_model`].
        api_base (`str`, *optional*): URL of an OpenAI-compatible server.
        max_new_tokens (`int`, *optional*, defaults to 512): tokens that an answer may have.
        device (`str`, *optional*), dtype (`str`, *optional*): of a local model.
    """

    model: str = CONTROLLER
    api_base: str | None = None
    max_new_tokens: int = 512
    device: str | None = None
    dtype: str | None = None

    def ask(self, question: str, image: Image.Image) -> str:
        """What the model says."""
        return ask(choose_model(self.controller, **self.settings), question, [image])
