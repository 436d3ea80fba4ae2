"""The tool `image_generator`: pictures from words, drawn by rules or made by a diffusion pipeline."""

from __future__ import annotations

from ..errors import InputError
from .base import WorkspaceTool
from .hub_models.diffusion import PicturingTool
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


class HubImageGenerator(PicturingTool, ImageGenerator):
    """Makes a picture with a text-to-image pipeline of diffusers.

    Its settings are those of [`~diffusion.PicturingTool`].
    """

    description = "Makes a picture and returns the path of the PNG file."
    inputs = {"prompt": {"type": "string", "description": "what the picture shows"}}

    model: str = "stabilityai/stable-diffusion-xl-base-1.0"

    def forward(self, prompt: str) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError("`prompt` must say what the picture shows, as a string.")
        return self.save_image(self.make_picture(prompt), "image")
