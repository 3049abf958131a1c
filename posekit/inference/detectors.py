"""Boxes from a detector: torchvision's, or any ONNX file that a small card describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError

import cv2
import numpy as np

from posekit.config.base import read_yaml, validate
from posekit.errors import ConfigError, PredictionError, nearest
from posekit.inference.detector_card import DetectorCard, InputCard, PartCard
from posekit.inference.runtime_files import open_onnx
from posekit.poses.similarity import box_iou

TORCHVISION = "torchvision:"


class Detector(Protocol):
    """Finds the instances of an image."""

    name: str

    def detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes x, y, width, height, float64 (N, 4), and scores (N,), the best first.

        Args:
            pixels: uint8 (H, W, 3) RGB.
        """


def open_detector(name: str | Path, device: str = "cpu") -> Detector:
    """Open a detector: 'torchvision:NAME', or the path of an ONNX detector's card.

    torchvision's find persons, or the classes named behind: 'torchvision:NAME:horse,dog'.

    Raises:
        ConfigError: the card is wrong, or no such detector.
        CheckpointError: an ONNX file that is damaged, or ONNX Runtime is missing.
        PredictionError: a missing extra, or weights that are not available.
    """
    if str(name).startswith(TORCHVISION):
        model, _, classes = str(name).removeprefix(TORCHVISION).partition(":")
        keep = classes.split(",") if classes else ["person"]
        return TorchvisionDetector(model, keep=keep, device=device)
    if Path(name).suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"detector '{name}': expected {TORCHVISION}NAME (such as "
            f"{TORCHVISION}fasterrcnn_mobilenet_v3_large_fpn) or the .yaml card of an ONNX detector"
        )
    return OnnxDetector(name)


class OnnxDetector:
    """Runs an ONNX file as its card says.

    Args:
        card: path of the card.
    """

    def __init__(self, card: str | Path):
        path = Path(card).expanduser()
        self.name = str(path)
        self.card = validate(DetectorCard, read_yaml(path), str(path))
        file = path.parent / self.card.file
        if not file.is_file():
            raise ConfigError(f"{path}: key 'file': there is no file {file}")
        self._session = open_onnx(file)
        names = [output.name for output in self._session.get_outputs()]
        for part in self._parts():
            if part.name not in names:
                raise ConfigError(
                    f"{path}: the graph has no output '{part.name}'{nearest(part.name, names)} "
                    f"(outputs: {', '.join(names)})"
                )

    def detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and scores; see Detector."""
        card = self.card
        blob, scale, offset = _prepare(pixels, card.input)
        names = list(dict.fromkeys(part.name for part in self._parts()))
        feed = {self._session.get_inputs()[0].name: blob}
        try:
            values = self._session.run(names, feed)
        except Exception as error:  # onnxruntime has no common class of errors
            reason = str(error).splitlines()[0]
            raise PredictionError(f"{self.name}: the graph does not run ({reason})") from None
        outputs = dict(zip(names, values, strict=True))
        corners = _corners(self._columns(outputs, card.output.boxes), card.output.format)
        if card.output.frame == "unit":
            height, width = card.input.size
            corners = corners * [width, height, width, height]
        if card.output.frame != "image":
            corners = (corners - np.tile(offset, 2)) / np.tile(scale, 2)
        scores, classes = self._scores(outputs)
        keep = scores >= card.threshold
        if card.keep is not None:
            keep &= np.isin(classes, card.keep)
        return _finish(corners[keep], scores[keep], classes[keep], pixels.shape, card)

    def _scores(self, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        table = self._columns(outputs, self.card.output.scores)
        if self.card.output.objectness is not None:
            table = table * self._columns(outputs, self.card.output.objectness)
        scores = table.max(axis=1, initial=-np.inf)
        if self.card.output.classes is not None:
            return scores, self._columns(outputs, self.card.output.classes)[:, 0].astype(np.int64)
        return scores, table.argmax(axis=1) if table.shape[1] else np.zeros(len(table), np.int64)

    def _columns(self, outputs: dict[str, np.ndarray], part: PartCard) -> np.ndarray:
        values = np.asarray(outputs[part.name], dtype=np.float64)
        if values.ndim == 3 and len(values) == 1:
            values = values[0]
        if values.ndim == 1 or (values.ndim == 2 and values.shape[0] == 1 and part.columns is None):
            values = values.reshape(-1, 1)  # one number a box
        if part.transpose:
            values = values.T
        start, stop = part.columns or (0, values.shape[-1])
        if values.ndim != 2 or stop > values.shape[1]:
            raise ConfigError(
                f"{self.name}: output '{part.name}' has the shape {values.shape}, in which there "
                f"are no columns {start} to {stop}"
            )
        return values[:, start:stop]

    def _parts(self) -> list[PartCard]:
        output = self.card.output
        parts = (output.boxes, output.scores, output.objectness, output.classes)
        return [part for part in parts if part is not None]


class TorchvisionDetector:
    """A detector of torchvision with its trained weights.

    Args:
        model: name of a detection model of torchvision.
        keep: names of the classes to keep.
        threshold: boxes that score less are left out.
        device: where it runs.
    """

    def __init__(
        self,
        model: str,
        *,
        keep: Sequence[str] = ("person",),
        threshold: float = 0.5,
        device: str = "cpu",
    ):
        self.name, self.threshold, self.device = f"{TORCHVISION}{model}", threshold, device
        try:
            from torchvision import models  # noqa: PLC0415 - an extra
        except ImportError:
            raise PredictionError(
                "this detector needs the package 'torchvision', which is not installed; install "
                "the extra with: pip install 'posekit[detect]'"
            ) from None
        names = models.list_models(module=models.detection)
        if model not in names:
            raise ConfigError(
                f"torchvision has no detector '{model}'{nearest(model, names)} "
                f"(there are: {', '.join(names)})"
            )
        weights = models.get_model_weights(model).DEFAULT
        categories = list(weights.meta["categories"])
        for name in keep:
            if name not in categories:
                raise ConfigError(
                    f"detector '{model}' knows no class '{name}'{nearest(name, categories)}"
                )
        self._keep = [categories.index(name) for name in keep]
        try:
            self._model = models.get_model(model, weights=weights).to(device).eval()
        except (URLError, OSError) as error:
            file = str(weights.url).rsplit("/", maxsplit=1)[-1]
            raise PredictionError(
                f"the weights of torchvision's '{model}' cannot be downloaded "
                f"({getattr(error, 'reason', error)}); put {file} into torch's folder "
                "hub/checkpoints, or take an ONNX detector with a card"
            ) from None

    def detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and scores; see Detector."""
        import torch  # noqa: PLC0415 - the rest of this module needs none

        image = torch.from_numpy(pixels).permute(2, 0, 1).to(self.device).float() / 255
        with torch.inference_mode():
            found = self._model([image])[0]
        corners = found["boxes"].double().cpu().numpy().reshape(-1, 4)
        scores = found["scores"].double().cpu().numpy()
        labels = found["labels"].cpu().numpy()
        keep = np.isin(labels, self._keep) & (scores >= self.threshold)
        return _to_boxes(corners[keep], scores[keep], pixels.shape)


def _prepare(pixels: np.ndarray, card: InputCard) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the graph's input, and scale and offset (x, y) from the image to it."""
    height, width = card.size
    scale = np.array([width / pixels.shape[1], height / pixels.shape[0]])
    if card.resize == "letterbox":
        scale[:] = scale.min()
    sides = np.maximum(np.round(np.array(pixels.shape[1::-1]) * scale), 1).astype(int)
    resized = cv2.resize(pixels, sides.tolist(), interpolation=cv2.INTER_LINEAR)
    room = np.array([width, height]) - sides
    offset = room // 2 if card.pad == "centre" else np.zeros(2, dtype=int)
    canvas = np.full((height, width, 3), card.fill, dtype=np.uint8)
    canvas[offset[1] : offset[1] + sides[1], offset[0] : offset[0] + sides[0]] = resized
    blob: Any = canvas[..., ::-1] if card.colour == "bgr" else canvas
    if card.type == "float32":
        mean, std = np.array(card.mean, np.float32), np.array(card.std, np.float32)
        blob = (blob.astype(np.float32) / np.float32(card.divide) - mean) / std
    blob = blob.transpose(2, 0, 1) if card.layout == "nchw" else blob
    return np.ascontiguousarray(blob[None]), scale, offset


def _corners(boxes: np.ndarray, form: str) -> np.ndarray:
    if boxes.shape[1] != 4:
        raise ConfigError(f"a detector's boxes have {boxes.shape[1]} columns, expected 4")
    if form == "xyxy":
        return boxes
    low = boxes[:, :2] - (boxes[:, 2:] / 2 if form == "cxcywh" else 0)
    return np.concatenate([low, low + boxes[:, 2:]], axis=1)


def _finish(
    corners: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    shape: tuple[int, ...],
    card: DetectorCard,
) -> tuple[np.ndarray, np.ndarray]:
    """Sort by score, suppress what overlaps a better box of its class, and clip to the image."""
    order = np.argsort(-scores, kind="stable")
    corners, scores, classes = corners[order], scores[order], classes[order]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept: list[int] = []
    for i in range(len(boxes)):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if card.nms is not None and rivals:
            overlap = box_iou(boxes[i : i + 1], boxes[rivals])
            if overlap.max() > card.nms:
                continue
        kept.append(i)
        if len(kept) == card.most:
            break
    return _to_boxes(corners[kept], scores[kept], shape)


def _to_boxes(
    corners: np.ndarray, scores: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Clip corners to the image; boxes without extent in it are left out."""
    limit = np.array([shape[1], shape[0]] * 2)
    corners = np.clip(corners.reshape(-1, 4), 0, limit)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    whole = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    return boxes[whole], scores[whole]
