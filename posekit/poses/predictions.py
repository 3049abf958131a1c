"""Predictions of one dataset split, keyed by the ids of its images and instances."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from posekit.errors import PredictionError
from posekit.schema import KeypointSchema


@dataclass(frozen=True)
class Predictions:
    """N predicted instances of one dataset split, in pixels of the original images.

    Attributes:
        keypoints: float64 (N, K, 2), (x, y).
        scores: float64 (N, K), one score a keypoint.
        box_xywh: float64 (N, 4): the box that was cropped, before padding.
        box_scores: float64 (N,): the detector's scores, 1 for annotated boxes.
        image_id: (N,) int64 or bytes, the ids of the dataset's images.
        instance_id: (N,) int64 or bytes: the annotation whose box was used, or a running number
            where the boxes come from a detector.
        category_id: int64 (N,).
        input_area: float64 (N,): area of the padded, aspect-fixed crop in image pixels, which
            OKS-NMS takes as the instance's area.
        has_box: False if no box was given (a predictions file may leave it out).
        left_out: (image id, instance id) of annotated instances that could not be cropped, such as
            those with an empty box; point metrics leave them out, OKS counts them as missed.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    box_scores: np.ndarray
    image_id: np.ndarray
    instance_id: np.ndarray
    category_id: np.ndarray
    input_area: np.ndarray
    has_box: bool = True
    left_out: frozenset[tuple[Any, Any]] = frozenset()

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in _ARRAYS}
        if len(set(lengths.values())) > 1:
            raise PredictionError(f"predictions of different lengths: {lengths}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def take(self, rows: np.ndarray) -> Predictions:
        """Return the chosen rows (indices or a bool mask), in that order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    def check(self, schema: KeypointSchema) -> None:
        """Raise PredictionError unless the points fit the schema and are finite numbers."""
        if self.keypoints.shape[1:] != (len(schema), 2):
            raise PredictionError(
                f"predictions have {self.keypoints.shape[1]} keypoints each, but schema "
                f"'{schema.name}' has {len(schema)}; are they of another head or dataset?"
            )
        for name in ("keypoints", "scores", "box_scores"):
            finite = np.isfinite(getattr(self, name))
            bad = np.flatnonzero(~finite.all(axis=tuple(range(1, finite.ndim))))
            if bad.size:
                raise PredictionError(
                    f"prediction {bad[0]} (instance id {show_id(self.instance_id[bad[0]])}): field "
                    f"'{name}' holds NaN or infinity, expected finite numbers; "
                    f"{bad.size} of {len(self)} predictions are affected"
                )


_ARRAYS = [f.name for f in fields(Predictions) if f.name not in {"has_box", "left_out"}]


def show_id(value: Any) -> str:
    """Return an id as a person writes it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def plain_id(value: Any) -> int | str:
    """Return an id as JSON writes it."""
    return value.decode() if isinstance(value, bytes) else int(value)


def exact_points(points: np.ndarray) -> np.ndarray:
    """Take float32 coordinates to float64, each to the shortest decimal that it stands for.

    A file's 513.6 is 513.599976 in float32; references read it in float64, and an error that is
    exactly at a threshold then falls on the other side of it. float64 input is returned as it is.
    Cost: one pass over the array for coordinates that are whole numbers, up to seven for others.
    """
    points = np.ascontiguousarray(points)
    if points.dtype != np.float32:
        return points.astype(np.float64)
    exact = points.astype(np.float64)
    flat, source = exact.reshape(-1), points.reshape(-1)
    left = np.arange(flat.size)
    for decimals in range(7):
        rounded = np.round(source[left].astype(np.float64), decimals)
        fits = rounded.astype(np.float32) == source[left]
        flat[left[fits]] = rounded[fits]
        left = left[~fits]
        if not left.size:
            break
    return exact
