"""Masks with the Segment Anything models of transformers: SAM 2 for boxes and for everything, SAM 3 for words."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from .detection import suppress
from .shared_models import hub_model, load_once, loading


# The processors of these models need torchvision. What they do to a picture is what this one does: resize to a square
# and normalize, with the sizes and means of the same `preprocessor_config.json`.
_IMAGE_PROCESSOR = "ViTImageProcessorPil"

# Settings of automatic masks in the release of SAM 2: points per side and call, least predicted overlap, least
# stability under a shift of the threshold, and overlap of boxes that count as one.
_POINTS, _POINTS_PER_CALL = 32, 64
_LEAST_OVERLAP, _LEAST_STABILITY, _STABILITY_SHIFT, _SAME_THING = 0.8, 0.95, 1.0, 0.7
# Settings of SAM 3: least score of an answer, and the length of a text.
_LEAST_SCORE, _TEXT_TOKENS = 0.5, 32


def masks_in_boxes(image: Image.Image, boxes: Sequence[Sequence[int]], model: str, **placement: str | None) -> list:
    """One mask for each box.

    Args:
        image (`PIL.Image.Image`): RGB.
        boxes (`Sequence[Sequence[int]]`): x1, y1, x2, y2 in pixels.
        model (`str`): Hub id or folder of a SAM 2.
        placement: `device`, `dtype` and `revision`, see [`~shared_models.hub_model`].

    Returns:
        `list[numpy.ndarray]`: of shape `(height, width)` and type `bool`.
    """
    import torch

    sam, pixels, scale = _prepare("Sam2Model", image, model, placement)
    prompts = torch.tensor([boxes], dtype=pixels.dtype, device=pixels.device) * scale
    with sam.lock, torch.inference_mode():
        outputs = sam.model(pixel_values=pixels, input_boxes=prompts, multimask_output=False)
    return _enlarged(outputs.pred_masks[0, :, 0], image)


def all_masks(image: Image.Image, model: str, **placement: str | None) -> list:
    """Masks of everything in a picture, the largest first: a grid of points is asked, good answers are kept.

    Arguments and result are as in [`masks_in_boxes`].
    """
    import torch

    sam, pixels, scale = _prepare("Sam2Model", image, model, placement)
    at = (torch.arange(_POINTS) + 0.5) / _POINTS
    points = torch.cartesian_prod(at * image.width, at * image.height).to(pixels) * scale[:2]
    masks, scores = [], []
    with sam.lock, torch.inference_mode():
        features = sam.model.get_image_embeddings(pixels)
        for group in points.split(_POINTS_PER_CALL):
            outputs = sam.model(image_embeddings=list(features), input_points=group[None, :, None, :])
            found, overlap = outputs.pred_masks[0].flatten(0, 1), outputs.iou_scores[0].flatten()
            sure = (found > _STABILITY_SHIFT).sum(dim=(1, 2))
            maybe = (found > -_STABILITY_SHIFT).sum(dim=(1, 2))
            keep = (overlap > _LEAST_OVERLAP) & (sure > _LEAST_STABILITY * maybe) & (sure > 0)
            masks.append(found[keep])
            scores.append(overlap[keep])
    found, overlap = torch.cat(masks), torch.cat(scores)
    kept = suppress(_bounds(found > 0), overlap.float().cpu().numpy(), _SAME_THING)
    kept.sort(key=lambda index: -int((found[index] > 0).sum()))
    return _enlarged(found[kept], image)


def named_masks(image: Image.Image, text: str, model: str, **placement: str | None) -> list:
    """Masks of all things that a short text names, the most certain first.

    Args:
        image (`PIL.Image.Image`): RGB.
        text (`str`): a noun phrase, such as `"red apple"`.
        model (`str`): Hub id or folder of a SAM 3.
        placement: as in [`masks_in_boxes`].
    """
    import torch
    from transformers import AutoTokenizer

    sam, pixels, _ = _prepare("Sam3Model", image, model, placement)
    revision = placement.get("revision")
    with loading(model):
        tokenizer = load_once(
            ("tokenizer", model, revision), lambda: AutoTokenizer.from_pretrained(model, revision=revision)
        )
    words = tokenizer(text, padding="max_length", max_length=_TEXT_TOKENS, truncation=True, return_tensors="pt").to(
        pixels.device
    )
    with sam.lock, torch.inference_mode():
        outputs = sam.model(pixel_values=pixels, input_ids=words["input_ids"], attention_mask=words["attention_mask"])
    # How likely each query is right, times how likely the thing is there at all.
    scores = outputs.pred_logits[0].sigmoid() * outputs.presence_logits[0].sigmoid()
    best = [index for index in scores.argsort(descending=True).tolist() if scores[index] > _LEAST_SCORE]
    # SAM 3 resizes probabilities, SAM 2 logits.
    return _enlarged(outputs.pred_masks[0, best].sigmoid() - 0.5, image)


def _prepare(model_class: str, image: Image.Image, model: str, placement: dict[str, str | None]):
    """The model, its input, and what coordinates (x1, y1, x2, y2) of the picture are multiplied by."""
    sam = hub_model(model_class, model, _IMAGE_PROCESSOR, **placement)
    pixels = sam.processor(images=image, return_tensors="pt")["pixel_values"].to(sam.model.device, sam.model.dtype)
    across, down = pixels.shape[-1] / image.width, pixels.shape[-2] / image.height
    return sam, pixels, pixels.new_tensor([across, down, across, down])


def _bounds(masks):
    """Boxes around masks, as x1, y1, x2, y2 in pixels of the masks."""
    import numpy as np

    boxes = np.zeros((len(masks), 4))
    for index, mask in enumerate(masks.cpu().numpy()):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _enlarged(logits, image: Image.Image) -> list:
    """Mask logits of shape `(n, height, width)` as masks of the picture's size."""
    import torch

    size = (image.height, image.width)
    # One by one: a hundred masks of a large picture would not fit in memory as floats.
    return [
        (torch.nn.functional.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0] > 0).cpu().numpy()
        for mask in logits
    ]
