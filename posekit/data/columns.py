"""InstanceColumns: all annotated instances of one split as columns of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class InstanceColumns:
    """N instances of one dataset split; the only form in which annotations travel.

    Attributes:
        keypoints: float32 (N, K, 2), (x, y) pixels of the original image; 0 where not labelled.
        visibility: uint8 (N, K): 0 not labelled, 1 labelled but occluded, 2 visible.
        box_xywh: float64 (N, 4); extent of the labelled keypoints where the file has none,
            NaN where neither exists.
        has_box: bool (N,): False where the box was derived from keypoints.
        area: float64 (N,): NaN where the file has none.
        category_id: int64 (N,).
        is_crowd: bool (N,).
        instance_id: int64 (N,), or bytes ('S') if the file's ids are text.
        image_index: int64 (N,): row of the image columns below.
        crop_center: float64 (N, 2): the annotation's own crop centre, NaN where it has none.
        crop_size: float64 (N, 2): (width, height) in pixels before padding, NaN likewise.
        image_path: bytes 'S' (M,): UTF-8 paths relative to the dataset's root.
        image_id: int64 (M,), or bytes ('S') if the file's ids are text.
        image_size: int32 (M, 2): (height, width) as declared, 0 where the file does not say.
        extras: name -> float64 (N,): further numbers of each instance; NaN where missing.
        image_extras: name -> float64 (M,): the same numbers of the images that hold no instance,
            NaN for all others.
    """

    keypoints: np.ndarray
    visibility: np.ndarray
    box_xywh: np.ndarray
    has_box: np.ndarray
    area: np.ndarray
    category_id: np.ndarray
    is_crowd: np.ndarray
    instance_id: np.ndarray
    image_index: np.ndarray
    crop_center: np.ndarray
    crop_size: np.ndarray
    image_path: np.ndarray
    image_id: np.ndarray
    image_size: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    image_extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def num_labelled(self) -> np.ndarray:
        """int64 (N,): labelled keypoints of each instance."""
        return (np.asarray(self.visibility) > 0).sum(axis=1)
