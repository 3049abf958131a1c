"""Heatmaps to keypoints without torch, for exported files that leave decoding out.

One map at a time and in the plainest way (whole maps are blurred), with the arithmetic of
`posekit.codecs`; the tests hold the two against each other for every codec.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

_FLOOR = 1e-10
_EPSILON = float(np.finfo(np.float32).eps)


def decode_maps(
    maps: np.ndarray, codec: Mapping[str, Any], input_size: tuple[int, int], warp: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read keypoints off a head's maps.

    Args:
        maps: float (B, C, H, W), what the exported graph gives.
        codec: the codec's kind and all its settings, as the file's metadata hold them.
        input_size: (height, width) of the crops.
        warp: 'plain' or 'udp', the warp that the crops were made with.

    Returns:
        float64 points (B, K, 2) in crop pixels and float32 scores (B, K), as `Codec.decode`.

    Cost: a blur of every map; about 0.1 ms a keypoint at 64 x 48.
    """
    kind = codec["kind"]
    per_keypoint = 3 if kind == "udp_combined" else 1
    batch, channels = maps.shape[:2]
    k = channels // per_keypoint
    grouped = maps.astype(np.float32).reshape(batch * k, per_keypoint, *maps.shape[2:])
    if kind in ("regression", "simcc"):
        read = _numbers if kind == "regression" else _simcc
        found = [read(group[0, 0], codec, input_size) for group in grouped]
        stride = np.ones(2)
    else:
        decode_one = {"udp_combined": _combined, "integral": _integral}.get(kind, _gaussian)
        found = [decode_one(group, codec) for group in grouped]
        less = 1 if warp == "udp" else 0
        crop, grid = np.array(input_size[::-1]), np.array(maps.shape[:1:-1])
        stride = (crop - less) / (grid - less)
    points = np.array([point for point, _ in found]).reshape(batch, k, 2) * stride
    return points, np.array([score for _, score in found], dtype=np.float32).reshape(batch, k)


def _gaussian(group: np.ndarray, codec: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    heat = group[0]
    smooth = heat
    if codec.get("smoothing"):
        smooth = _blur(heat, _taps(codec["smoothing"], math.ceil(3 * codec["smoothing"])), False)
    x, y, peak = _peak(smooth)
    if not peak > 0:
        return np.full(2, -1.0), float(np.nan_to_num(peak))
    score = peak
    if codec["activation"] == "softmax":
        score = _mass_near(heat, x, y, codec["sigma"])
    newer = codec["follows"] == "1.x"
    if codec["refine"] == "soft_argmax":
        return _mean_position(smooth), score
    offset = np.zeros(2)
    if codec["refine"] == "quarter":
        offset = _quarter(smooth, x, y, newer)
    elif codec["refine"] == "dark":
        offset = _dark(smooth, x, y, peak, codec["blur_kernel"])
    elif codec["refine"] == "dark_udp":
        offset = _dark_udp(smooth, (x, y), peak, codec["blur_kernel"], newer)
    return np.array([x, y]) + offset, score


def _combined(group: np.ndarray, codec: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    newer, size = codec["follows"] == "1.x", codec["blur_kernel"]
    disc = _blur(group[0], _opencv_kernel(2 * size + 1), True)
    x, y, peak = _peak(disc)
    if not peak > 0:
        return np.full(2, -1.0), float(np.nan_to_num(peak))
    ways = group[1:] if newer else [_blur(m, _opencv_kernel(size), True) for m in group[1:]]
    longer = max(disc.shape) if newer else disc.shape[0]
    step = np.nan_to_num([way[y, x] for way in ways], posinf=0, neginf=0)
    return np.array([x, y]) + step * codec["radius_factor"] * longer, peak


def _integral(group: np.ndarray, codec: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    heat = group[0]
    peak = float(heat.max())
    if not peak > 0:
        return np.full(2, -1.0), float(np.nan_to_num(peak))
    point = _mean_position(heat)
    x, y = (int(place) for place in np.rint(point))
    return point, _mass_near(heat, x, y, codec["sigma"])


def _numbers(
    numbers: np.ndarray, codec: Mapping[str, Any], input_size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    if not np.isfinite(numbers).all():
        return np.full(2, -1.0), 0.0
    sides = np.array([input_size[1], input_size[0]])
    score = 1 - float(numbers[2:].mean()) if codec["spread"] else 1.0
    return numbers[:2] * sides + (sides - 1) / 2, min(max(score, 0.0), 1.0)


def _simcc(
    vectors: np.ndarray, codec: Mapping[str, Any], input_size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    sides = (input_size[1], input_size[0])
    length = round(sides[0] * codec["split_ratio"])
    sigmas = codec["sigma"] or [math.sqrt(side / 8) for side in sides]
    places, scores = [], []
    for vector, sigma in zip((vectors[:length], vectors[length:]), sigmas, strict=True):
        place = int(np.argmax(vector))
        peak = float(vector[place])
        if codec["activation"] == "softmax" and peak > 0:
            near = vector[max(place - int(3 * sigma), 0) : place + int(3 * sigma) + 1]
            peak = float(np.clip(near.sum() / _gaussian_sum(sigma), 0, 1))
        places.append(float(place))
        scores.append(peak)
    score = float(np.min(scores))
    point = np.array(places) if score > 0 else np.full(2, -1.0)
    return point / codec["split_ratio"], float(np.nan_to_num(score))


def _peak(heat: np.ndarray) -> tuple[int, int, float]:
    y, x = np.unravel_index(int(np.argmax(heat)), heat.shape)
    return int(x), int(y), float(heat[y, x])


def _quarter(heat: np.ndarray, x: int, y: int, per_axis: bool) -> np.ndarray:
    height, width = heat.shape
    free_x, free_y = 1 < x < width - 1, 1 < y < height - 1
    if per_axis:
        free = np.array([free_x and y > 0, free_y and x > 0])
    else:
        free = np.array([free_x and free_y] * 2)
    around = np.pad(heat, 1, mode="edge").astype(np.float64)
    dx = around[y + 1, x + 2] - around[y + 1, x]
    dy = around[y + 2, x + 1] - around[y, x + 1]
    return np.where(free, 0.25 * np.nan_to_num(np.sign([dx, dy])), 0.0)


def _dark(heat: np.ndarray, x: int, y: int, peak: float, size: int) -> np.ndarray:
    height, width = heat.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.zeros(2)
    blurred = _blur(heat, _opencv_kernel(size), False)
    scale = peak / max(float(blurred.max()), float(np.finfo(np.float32).tiny))
    log = np.log(np.maximum(blurred[y - 2 : y + 3, x - 2 : x + 3] * scale, _FLOOR))
    log = log.astype(np.float64)
    slope = 0.5 * np.array([log[2, 3] - log[2, 1], log[3, 2] - log[1, 2]])
    xx = 0.25 * (log[2, 4] - 2 * log[2, 2] + log[2, 0])
    yy = 0.25 * (log[4, 2] - 2 * log[2, 2] + log[0, 2])
    xy = 0.25 * (log[3, 3] - log[1, 3] - log[3, 1] + log[1, 1])
    return _newton_step(slope, xx, xy, yy)


def _dark_udp(
    heat: np.ndarray, place: tuple[int, int], peak: float, size: int, rescaled: bool
) -> np.ndarray:
    x, y = place
    blurred = _blur(heat, _opencv_kernel(size), not rescaled)
    if rescaled:
        blurred = blurred * (peak / float(blurred.max()))
    padded = np.pad(blurred, 1, mode="edge")[y : y + 3, x : x + 3]
    log = np.log(np.clip(padded, 0.001, 50.0)).astype(np.float64)
    left, right, above, below = log[1, 0], log[1, 2], log[0, 1], log[2, 1]
    middle = log[1, 1]
    slope = 0.5 * np.array([right - left, below - above])
    xx = right - 2 * middle + left + _EPSILON
    yy = below - 2 * middle + above + _EPSILON
    xy = 0.5 * (log[2, 2] - right - below + 2 * middle - left - above + log[0, 0])
    return _newton_step(slope, xx, xy, yy)


def _newton_step(slope: np.ndarray, xx: float, xy: float, yy: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        step = np.array([xy * slope[1] - yy * slope[0], xy * slope[0] - xx * slope[1]])
        step = step / (xx * yy - xy * xy)
    return np.where(np.isfinite(step), step, 0.0)


def _mass_near(heat: np.ndarray, x: int, y: int, sigma: float) -> float:
    """Return the mass within 3 sigma of a place, in units of a Gaussian's, cut to 0..1."""
    reach = int(3 * sigma)
    near = heat[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    return float(np.clip(near.sum() / _gaussian_sum(sigma) ** 2, 0, 1))


def _mean_position(heat: np.ndarray) -> np.ndarray:
    mass = np.maximum(heat.astype(np.float64), 0)
    total = max(float(mass.sum()), float(np.finfo(np.float32).tiny))
    x = (mass.sum(0) * np.arange(heat.shape[1])).sum() / total
    y = (mass.sum(1) * np.arange(heat.shape[0])).sum() / total
    return np.nan_to_num([x, y], posinf=0, neginf=0)


def _blur(heat: np.ndarray, taps: np.ndarray, reflect: bool) -> np.ndarray:
    border = cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_CONSTANT
    reach = len(taps) // 2
    padded = cv2.copyMakeBorder(heat, reach, reach, reach, reach, border, value=0)
    whole = cv2.sepFilter2D(padded, cv2.CV_32F, taps, taps, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(whole)[reach : reach + heat.shape[0], reach : reach + heat.shape[1]]


def _opencv_kernel(size: int) -> np.ndarray:
    return np.asarray(cv2.getGaussianKernel(size, 0, cv2.CV_32F)).reshape(-1)


def _taps(sigma: float, reach: int) -> np.ndarray:
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return (taps / taps.sum()).astype(np.float32)


def _gaussian_sum(sigma: float) -> float:
    reach = int(3 * sigma)
    return float(np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2)).sum())
