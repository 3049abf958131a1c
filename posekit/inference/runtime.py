"""Prediction with an exported model: needs numpy, OpenCV and a runtime, but no torch.

The file's metadata hold the heads with their schemas and codecs, the crop size, warp and padding.
Normalisation is inside the graph, and so is decoding unless the file was exported with maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import cv2
import numpy as np

from posekit.data.jpeg import is_truncated_jpeg
from posekit.errors import PredictionError, nearest
from posekit.inference.decode_numpy import decode_maps
from posekit.inference.runtime_files import FORMAT, METADATA_KEY, Session, open_session
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema
from posekit.warp import check_boxes, cut_boxes, transform_points

__all__ = ["FORMAT", "METADATA_KEY", "RuntimePredictor"]

ALL = "all"


class RuntimePredictor:
    """Predicts with an exported file, by ONNX Runtime (.onnx) or OpenVINO (.xml).

    Args:
        file: what `posekit export` wrote.
        batch_size: crops in one run.
        providers: ONNX Runtime's execution providers; CPU if left out.
        session: an opened file, instead of opening `file`.

    Raises:
        CheckpointError: the runtime is missing, or the file is no exported posekit model.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        batch_size: int = 32,
        providers: Sequence[str] | None = None,
        session: Session | None = None,
    ):
        self.file, self.batch_size = Path(file), batch_size
        self._session = session or open_session(self.file, providers)
        self.about = self._session.about
        self.schemas = {
            name: KeypointSchema.from_dict(head["schema"])
            for name, head in self.about["heads"].items()
        }

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the file's heads."""
        return tuple(self.schemas)

    @overload
    def predict(
        self, image: Any, boxes: Any = None, head: Literal["all"] = ...
    ) -> dict[str, Poses]: ...

    @overload
    def predict(self, image: Any, boxes: Any = None, head: str | None = None) -> Poses: ...

    def predict(
        self, image: Any, boxes: Any = None, head: str | None = None
    ) -> Poses | dict[str, Poses]:
        """Predict the keypoints of every box in one image.

        Args:
            image: a path, or uint8 (H, W, 3) RGB.
            boxes: (N, 4) x, y, width, height in pixels; the whole image if left out.
            head: name of the head; may be left out if there is one only; "all" for every head.

        Returns:
            Poses, or with head="all" a mapping head -> Poses from one pass.

        Raises:
            PredictionError: an unreadable image, wrong boxes, or an unknown head.
        """
        heads = self._choose(head)
        name, pixels = _read(image)
        height, width = pixels.shape[:2]
        rows = check_boxes(boxes, (height, width), name)
        about, size = self.about, self.about["input_size"]
        crops, back = cut_boxes(
            [pixels] * len(rows),
            rows,
            (size[0], size[1]),
            about["padding"],
            about["keep_aspect"],
            about["warp"],
            about.get("pixels", "full"),
        )
        found = {}
        for key, (points, scores) in self._run(crops, heads).items():
            found[key] = Poses(
                head=key,
                schema=self.schemas[key],
                keypoints=transform_points(points, back),
                scores=scores,
                box_xywh=rows,
                box_scores=np.ones(len(rows)),
                image_index=np.zeros(len(rows), dtype=np.int64),
                image_names=(name,),
                image_sizes=((height, width),),
            )
        return found if head == ALL else found[heads[0]]

    def _choose(self, head: str | None) -> tuple[str, ...]:
        if head == ALL:
            return self.heads
        if head is None and len(self.schemas) == 1:
            return self.heads
        if head is None or head not in self.schemas:
            hint = nearest(head or "", self.schemas)
            raise PredictionError(
                f"{self.file}: no head '{head}'{hint} (heads: {', '.join(self.heads)}, {ALL})"
            )
        return (head,)

    def _run(
        self, crops: np.ndarray, heads: tuple[str, ...]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return each head's points in the crops, float64 (N, K, 2), and scores (N, K)."""
        parts = ("points", "scores") if self.about.get("decoded", True) else ("maps",)
        names = [self.about["heads"][head][part] for head in heads for part in parts]
        found = {}
        for head in heads:
            shape = (len(crops), len(self.schemas[head]))
            found[head] = np.zeros((*shape, 2)), np.zeros(shape, dtype=np.float32)
        for start in range(0, len(crops), self.batch_size):
            rows = slice(start, start + self.batch_size)
            outputs = self._session.run(names, crops[rows])
            for i, head in enumerate(heads):
                own: Sequence[np.ndarray] = outputs[i * len(parts) : (i + 1) * len(parts)]
                if len(own) == 1:
                    codec = self.about["heads"][head]["codec"]
                    own = decode_maps(own[0], codec, crops.shape[1:3], self.about["warp"])
                points, scores = own
                found[head][0][rows], found[head][1][rows] = points, scores
        return found


def _read(image: Any) -> tuple[str, np.ndarray]:
    if isinstance(image, str | Path):
        try:
            data = np.frombuffer(Path(image).read_bytes(), dtype=np.uint8)
        except OSError as error:
            raise PredictionError(f"{image}: cannot be read ({error.strerror})") from None
        if is_truncated_jpeg(data.tobytes()):
            raise PredictionError(f"{image}: the JPEG data end early (the file was cut off)")
        try:
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        except cv2.error:  # more pixels than OpenCV takes
            decoded = None
        if decoded is None:
            raise PredictionError(f"{image}: it cannot be decoded as an image")
        return str(image), cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise PredictionError(
            f"image: found {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W, 3) RGB"
        )
    return "image 0", np.ascontiguousarray(pixels)
