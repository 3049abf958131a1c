"""The similarity of boxes (IoU) and of poses (OKS), and points exact enough for thresholds."""

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
