"""The tool `image_generator`: pictures from words, drawn by rules or made by a diffusion pipeline."""

from __future__ import annotations

from ..errors import InputError
from .base import WorkspaceTool
from .hub_models.diffusion import make_picture
from .local.drawing import ABILITIES, draw


class ImageGenerator(WorkspaceTool):
    """Draws what rules can draw: cards with text, shapes and charts; it refuses the rest."""

    name = "image_generator"
    description = (
        "Draws a picture and returns the path of the PNG file. Draws charts of given numbers, coloured shapes and "
        "cards with text in quotes; no photos and no scenes."
    )
    inputs = {
        "prompt": {
            "type": "string",
            "description": "what to draw, e.g. 'two red circles and a blue square' or 'a bar chart of A 3, B 5'",
        }
    }

    def forward(self, prompt: str) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"`prompt` must say what to draw: {ABILITIES}.")
        return self.save_image(draw(prompt), "image")


class HubImageGenerator(ImageGenerator):
    """Makes a picture with a text-to-image pipeline of diffusers.

    Args:
        model (`str`, *optional*, defaults to `"stabilityai/stable-diffusion-xl-base-1.0"`): Hub id or folder of a
            pipeline.
        num_inference_steps (`int`, *optional*): denoising steps, the pipeline's own number by default.
        seed (`int`, *optional*, defaults to 0): the same seed and prompt make the same picture.
        device (`str`, *optional*): the best one that torch finds, by default.
        dtype (`str`, *optional*): `bfloat16` by default, `float32` on a CPU.
        revision (`str`, *optional*): branch, tag or commit of the model.
    """

    description = "Makes a picture and returns the path of the PNG file."
    inputs = {"prompt": {"type": "string", "description": "what the picture shows"}}

    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    num_inference_steps: int | None = None
    seed: int = 0
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None

    def forward(self, prompt: str) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError("`prompt` must say what the picture shows, as a string.")
        return self.save_image(make_picture(prompt, **self.settings), "image")
