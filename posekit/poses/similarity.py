"""The similarity of boxes (IoU) and of poses (OKS)."""

from __future__ import annotations

import numpy as np


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes x, y, width, height: (N, 4), (M, 4) -> (N, M).

    Two boxes without area have nothing in common: 0.
    """
    a, b = first[:, None], second[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return shared / np.where(union > 0, union, 1.0)


def keypoint_oks(squared: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return each keypoint's share of the object keypoint similarity, in 0..1.

    Args:
        squared: (..., K), squared distances of the keypoints in pixels.
        area: (...) area of the instances in square pixels, above 0.
        sigmas: (K,), the schema's.
    """
    return np.exp(-squared / (sigmas * 2) ** 2 / area[..., None] / 2)
