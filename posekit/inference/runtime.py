"""Prediction with an exported model: needs numpy, OpenCV and onnxruntime, but no torch.

The ONNX file says in its metadata what it needs to be used rightly: heads with their schemas, crop
size, warp and padding. Normalisation and decoding are inside its graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.errors import CheckpointError, PredictionError, nearest
from posekit.inference.results import Poses
from posekit.schema import KeypointSchema

METADATA_KEY = "posekit"
FORMAT = 1


class RuntimePredictor:
    """Predicts with an exported ONNX file.

    Args:
        file: what `posekit.inference.export.export_onnx` wrote.
        batch_size: crops in one run.
        providers: onnxruntime's execution providers; CPU if left out.

    Raises:
        CheckpointError: onnxruntime is missing, or the file is no exported posekit model.
    """

    def __init__(
        self, file: str | Path, *, batch_size: int = 32, providers: Sequence[str] | None = None
    ):
        try:
            import onnxruntime  # noqa: PLC0415 - an extra
        except ImportError:
            raise CheckpointError(
                "running an exported model needs the package 'onnxruntime', which is not "
                "installed; install it with: pip install onnxruntime"
            ) from None
        self.file, self.batch_size = Path(file), batch_size
        if not self.file.is_file():
            raise CheckpointError(f"{self.file}: there is no such file")
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.file), providers=list(providers or ["CPUExecutionProvider"])
            )
            text = self._session.get_modelmeta().custom_metadata_map[METADATA_KEY]
            about = json.loads(text)
        except KeyError:
            raise CheckpointError(f"{self.file}: an ONNX file, but not one of posekit's") from None
        except Exception as error:  # onnxruntime has no common class of errors
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self.file}: not a whole ONNX model ({reason})") from None
        if about["format"] > FORMAT:
            raise CheckpointError(f"{self.file}: written by a newer posekit; update posekit")
        self.about = about
        self.schemas = {
            name: KeypointSchema.from_dict(head["schema"]) for name, head in about["heads"].items()
        }

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the file's heads."""
        return tuple(self.schemas)

    def predict(self, image: Any, boxes: Any = None, head: str | None = None) -> Poses:
        """Predict the keypoints of every box in one image.

        Args:
            image: a path, or uint8 (H, W, 3) RGB.
            boxes: (N, 4) x, y, width, height in pixels; the whole image if left out.
            head: name of the head; may be left out if there is one only.

        Raises:
            PredictionError: an unreadable image, wrong boxes, or an unknown head.
        """
        if head is None and len(self.schemas) == 1:
            head = self.heads[0]
        if head is None or head not in self.schemas:
            hint = nearest(head or "", self.schemas)
            raise PredictionError(
                f"{self.file}: no head '{head}'{hint} (heads: {', '.join(self.heads)})"
            )
        name, pixels = _read(image)
        height, width = pixels.shape[:2]
        rows = _boxes([[0, 0, width, height]] if boxes is None else boxes, (height, width), name)
        crops, back = self._crops(pixels, rows)
        points, scores = self._run(crops, head)
        image_points = points @ back[:, :, :2].transpose(0, 2, 1) + back[:, None, :, 2]
        return Poses(
            head=head,
            schema=self.schemas[head],
            keypoints=image_points,
            scores=scores,
            box_xywh=rows,
            box_scores=np.ones(len(rows)),
            image_index=np.zeros(len(rows), dtype=np.int64),
            image_names=(name,),
            image_sizes=((height, width),),
        )

    def _crops(self, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.about["input_size"]
        to_crop, back = crop_geometry(
            boxes,
            (height, width),
            self.about["padding"],
            keep_aspect=self.about["keep_aspect"],
            warp=self.about["warp"],
        )
        crops = np.zeros((len(boxes), height, width, 3), dtype=np.uint8)
        for crop, matrix in zip(crops, to_crop, strict=True):
            cv2.warpAffine(pixels, matrix, (width, height), dst=crop, flags=cv2.INTER_LINEAR)
        return crops, back

    def _run(self, crops: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
        k = len(self.schemas[head])
        points = [np.zeros((0, k, 2))]
        scores = [np.zeros((0, k), dtype=np.float32)]
        names = [self.about["heads"][head]["points"], self.about["heads"][head]["scores"]]
        for start in range(0, len(crops), self.batch_size):
            part = crops[start : start + self.batch_size]
            found, sure = self._session.run(names, {"crops": part})
            points.append(np.asarray(found, dtype=np.float64))
            scores.append(sure)
        return np.concatenate(points), np.concatenate(scores)


def crop_geometry(
    boxes: np.ndarray,
    input_size: tuple[int, int],
    padding: float,
    *,
    keep_aspect: bool,
    warp: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the matrices image -> crop and crop -> image, float64 (N, 2, 3) each.

    The same numbers as posekit.codecs.warp gives, which cannot be imported without torch.
    """
    height, width = input_size
    center = boxes[:, :2] + boxes[:, 2:] / 2
    size = boxes[:, 2:].astype(np.float64)
    if keep_aspect:
        aspect = width / height
        wide = np.maximum(size[:, 0], size[:, 1] * aspect)
        size = np.stack([wide, np.maximum(size[:, 1], size[:, 0] / aspect)], axis=1)
    size = size * padding
    if warp == "udp":
        scale, middle = np.array([width - 1, height - 1]) / size, np.array([width - 1, height - 1])
    else:
        scale, middle = np.repeat(width / size[:, :1], 2, axis=1), np.array([width, height])
    to_crop = np.zeros((len(boxes), 2, 3))
    back = np.zeros((len(boxes), 2, 3))
    for axis in (0, 1):
        to_crop[:, axis, axis], back[:, axis, axis] = scale[:, axis], 1 / scale[:, axis]
    to_crop[:, :, 2] = middle / 2 - scale * center
    back[:, :, 2] = center - middle / 2 / scale
    return to_crop, back


def _read(image: Any) -> tuple[str, np.ndarray]:
    if isinstance(image, str | Path):
        try:
            data = np.frombuffer(Path(image).read_bytes(), dtype=np.uint8)
        except OSError as error:
            raise PredictionError(f"{image}: cannot be read ({error.strerror})") from None
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if decoded is None:
            raise PredictionError(f"{image}: it cannot be decoded as an image")
        return str(image), cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise PredictionError(
            f"image: found {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W, 3) RGB"
        )
    return "image 0", np.ascontiguousarray(pixels)


def _boxes(boxes: Any, size: tuple[int, int], name: str) -> np.ndarray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    array = np.atleast_2d(array)
    good = array.ndim == 2 and array.shape[1] == 4 and bool(np.isfinite(array).all())
    if good:
        low, high = array[:, :2], array[:, :2] + array[:, 2:]
        inside = (low < size[::-1]).all() and (high > 0).all()
        good = bool(inside and (array[:, 2:] > 0).all())
    if not good:
        raise PredictionError(
            f"{name}: expected boxes (N, 4) of x, y, width, height with positive sizes that touch "
            f"the image of {size[1]} x {size[0]} pixels"
        )
    return array
