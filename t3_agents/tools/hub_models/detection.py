"""Boxes of things that are named in words, with open-vocabulary detectors of transformers."""

from __future__ import annotations

from collections.abc import Sequence

from t3_agents.errors import needs_extra

from ..base import WorkspaceTool
from .shared_models import hub_model


DETECTOR = "google/owlv2-base-patch16-ensemble"
# Two boxes of one detector that share more than this (intersection over union) are taken for one thing.
_SAME_THING = 0.5


class DetectingTool(WorkspaceTool):
    """A tool that finds things with an open-vocabulary detector; tools with the same settings share one in memory.

    Args:
        model (`str`, *optional*, defaults to `"google/owlv2-base-patch16-ensemble"`): Hub id or folder of an
            `AutoModelForZeroShotObjectDetection` whose processor has `post_process_grounded_object_detection`: OWLv2,
            OWL-ViT, Grounding DINO, MM Grounding DINO.
        threshold (`float`, *optional*, defaults to 0.2): least confidence of a box (0-1).
        device (`str`, *optional*): the best one that torch finds, by default.
        dtype (`str`, *optional*): the checkpoint's own by default, `float32` on a CPU.
        revision (`str`, *optional*): branch, tag or commit of the model.
    """

    model: str = DETECTOR
    threshold: float = 0.2
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None

    def detect(self, image_path: str, labels: Sequence[str]) -> list[list[int]]:
        """Boxes `[x1, y1, x2, y2]` in pixels of what is named in a few words each, the most certain first.

        Raises:
            InputError: when the model cannot be loaded.
            MissingExtraError: when a library that its processor needs is not installed.
        """
        import torch

        image = self.open_image(image_path)
        detector = hub_model(
            "AutoModelForZeroShotObjectDetection", self.model, "AutoProcessor", self.revision, self.device, self.dtype
        )
        with needs_extra("scipy", "tools", f"The image processor of {self.model}"):
            inputs = detector.processor(images=image, text=[list(labels)], return_tensors="pt", truncation=True)
        inputs = inputs.to(detector.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(detector.model.dtype)
        with detector.lock, torch.inference_mode():
            outputs = detector.model(**inputs)
        (found,) = detector.processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[(image.height, image.width)]
        )
        boxes = found["boxes"].float().cpu().numpy().clip(0, [image.width, image.height] * 2)
        kept = suppress(boxes, found["scores"].float().cpu().numpy(), _SAME_THING)
        rounded = [[round(float(side)) for side in boxes[index]] for index in kept]
        return [box for box in rounded if box[0] < box[2] and box[1] < box[3]]


def suppress(boxes, scores, overlap: float) -> list[int]:
    """Indexes of the best boxes, best first, without those that cover the same place.

    Args:
        boxes (`numpy.ndarray` of shape `(n, 4)`): x1, y1, x2, y2.
        scores (`numpy.ndarray` of shape `(n,)`): confidence.
        overlap (`float`): boxes whose intersection over union reaches this count as one.
    """
    import numpy as np

    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = scores.argsort()[::-1], []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = sides.clip(0).prod(axis=1)
        order = rest[shared / (areas[best] + areas[rest] - shared + 1e-9) < overlap]
    return kept
