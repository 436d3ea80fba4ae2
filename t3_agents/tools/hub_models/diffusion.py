"""Pictures out of diffusion pipelines of diffusers, from words or from words and a picture."""

from __future__ import annotations

import inspect
import threading
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from t3_agents.errors import InputError, needs_extra
from t3_agents.models.device import best_device

from ..base import WorkspaceTool
from .shared_models import load_once, loading


# Pipelines were trained on pictures of about this side (pixels), and their memory grows with the square of it.
MAX_SIDE = 1024
# Both sides of a picture must be divisible by what the autoencoder and its patches divide them by.
_GRID = 16


class _Pipeline(NamedTuple):
    """A pipeline on its device, and the lock of those who use it: its scheduler keeps the state of one run."""

    run: Any
    lock: threading.Lock


class PicturingTool(WorkspaceTool):
    """A tool that makes pictures with a pipeline of diffusers; the same arguments make the same picture.

    Args:
        model (`str`): Hub id or folder of a pipeline. Its own class is used; for a text-to-image pipeline that is
            given a picture, the image-to-image pipeline of the same family.
        num_inference_steps (`int`, *optional*): denoising steps, the pipeline's own number by default.
        seed (`int`, *optional*, defaults to 0): of the noise.
        device (`str`, *optional*): the best one that torch finds, by default.
        dtype (`str`, *optional*): `bfloat16` by default, `float32` on a CPU.
        revision (`str`, *optional*): branch, tag or commit.
    """

    model: str = ""
    num_inference_steps: int | None = None
    seed: int = 0
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None

    def make_picture(self, prompt: str, image: Image.Image | None = None) -> Image.Image:
        """The picture for a prompt, or what the prompt makes of an RGB picture, reduced to `MAX_SIDE` pixels.

        Raises:
            InputError: when the pipeline cannot be loaded or does not do this.
            MissingExtraError: when `diffusers` is not installed.
        """
        device = self.device or best_device()
        dtype = self.dtype or ("float32" if device == "cpu" else "bfloat16")
        key = ("diffusion", self.model, image is not None, self.revision, device, dtype)
        pipeline = load_once(key, lambda: _load(self.model, image is not None, self.revision, device, dtype))
        import torch

        # Noise is drawn on the CPU, so that a seed means the same on every device.
        arguments: dict[str, Any] = {"prompt": prompt, "generator": torch.Generator("cpu").manual_seed(self.seed)}
        if self.num_inference_steps is not None:
            arguments["num_inference_steps"] = self.num_inference_steps
        if image is not None:
            arguments["image"] = _fitted(image)
        try:
            with pipeline.lock:
                return pipeline.run(**arguments).images[0]
        except (TypeError, ValueError) as error:
            # What a pipeline of another kind says: it wants a picture, or takes none.
            raise InputError(f"The pipeline `{self.model}` cannot be used for this: {error}") from error


def _load(model: str, edits: bool, revision: str | None, device: str, dtype: str) -> _Pipeline:
    import torch

    with needs_extra("diffusers", "diffusion", "Making pictures with a model"):
        from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
    with loading(model):
        pipeline = DiffusionPipeline.from_pretrained(model, revision=revision, dtype=getattr(torch, dtype))
        picture = inspect.signature(pipeline.__call__).parameters.get("image")
        if edits and picture is None:
            pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return _Pipeline(pipeline.to(device), threading.Lock())


def _fitted(image: Image.Image) -> Image.Image:
    if max(image.size) > MAX_SIDE:
        image = ImageOps.contain(image, (MAX_SIDE, MAX_SIDE))
    return image.resize(tuple(max(_GRID, side // _GRID * _GRID) for side in image.size), Image.Resampling.LANCZOS)
