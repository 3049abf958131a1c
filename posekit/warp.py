"""The crop's geometry: boxes to crops, matrices between image and crop, the image warp itself.

Everything is numpy in float64 and vectorised over the B crops, because loader workers and the
runtime without torch use it. A head's codec decides which of the two warps its crops are made with
(`Codec.warp`):

* plain: a similarity; only the crop's width sets the scale and the middle of the crop is
  (w / 2, h / 2). Turns by R transposed.
* udp: distances are counted in pixel intervals, (w - 1) and (h - 1), each axis with its own scale,
  and the middle is ((w - 1) / 2, (h - 1) / 2). Turns by R.

The same rotation angle therefore turns the two warps in opposite directions, as in the reference
implementations. A crop without rotation maps the same way round in both.

Source: Huang et al., CVPR 2020 (UDP); ViTPose's mmpose 0.x, `get_affine_transform` and
`get_warp_matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np

from posekit.errors import PredictionError

Warp = Literal["plain", "udp"]
Pixels = Literal["full", "reduced"]


def crop_size_for(
    box_size: np.ndarray,
    input_size: tuple[int, int],
    padding: float = 1.25,
    keep_aspect: bool = True,
) -> np.ndarray:
    """Return the size in image pixels of the crop around each box.

    Args:
        box_size: (B, 2) or (2,), width and height of the boxes in image pixels.
        input_size: (height, width) of the network's input.
        padding: factor on both sides.
        keep_aspect: enlarge the box's short side until it has the input's aspect; False keeps the
            box's own aspect, so that the udp warp stretches it onto the input (ViTPose's MPII).

    Returns:
        float64, shape of `box_size`, width and height, padding included.
    """
    size = np.asarray(box_size, dtype=np.float64)
    if keep_aspect:
        height, width = input_size
        aspect = width / height
        size = np.stack(
            [
                np.maximum(size[..., 0], size[..., 1] * aspect),
                np.maximum(size[..., 1], size[..., 0] / aspect),
            ],
            axis=-1,
        )
    return size * padding


def crop_matrices(
    center: np.ndarray,
    size: np.ndarray,
    rotation_deg: np.ndarray | float,
    input_size: tuple[int, int],
    warp: Warp,
) -> np.ndarray:
    """Return the matrices that take image pixels to crop pixels.

    Args:
        center: (B, 2), middle of the crops in the image.
        size: (B, 2), width and height of the crops in image pixels, padding included. The plain
            warp uses the width only.
        rotation_deg: (B,) or one number; see the module's text for its direction.
        input_size: (height, width) of the crop in pixels.
        warp: 'plain' or 'udp'.

    Returns:
        float64 (B, 2, 3).
    """
    center, size = _pairs(center), _pairs(size)
    scale, middle = _scale_and_middle(size, input_size, warp)
    linear = scale[:, :, None] * _turn(rotation_deg, len(center), warp)
    return _with_shift(linear, middle - np.einsum("bij,bj->bi", linear, center))


def inverse_crop_matrices(
    center: np.ndarray,
    size: np.ndarray,
    rotation_deg: np.ndarray | float,
    input_size: tuple[int, int],
    warp: Warp,
) -> np.ndarray:
    """Return the matrices that take crop pixels to image pixels; arguments as `crop_matrices`.

    They are the exact inverse. For crops with the input's aspect that is what the reference
    implementations compute; for others the plain warp's reference (0.x) stretches y by the crop's
    own height although its warp never did, and that is not copied.

    Returns:
        float64 (B, 2, 3).
    """
    center, size = _pairs(center), _pairs(size)
    scale, middle = _scale_and_middle(size, input_size, warp)
    back = _turn(rotation_deg, len(center), warp).transpose(0, 2, 1) / scale[:, None, :]
    return _with_shift(back, center - np.einsum("bij,j->bi", back, middle))


def transform_points(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Apply matrix b to the points of instance b.

    Args:
        points: (B, K, 2), (x, y); NaN stays NaN.
        matrices: (B, 2, 3).

    Returns:
        float64 (B, K, 2).
    """
    points = np.asarray(points, dtype=np.float64)
    matrices = np.asarray(matrices, dtype=np.float64)
    return points @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]


def warp_image(image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """Cut one crop out of an image: bilinear, black outside the image.

    Args:
        image: uint8 (h, w, 3) or (h, w).
        matrix: (2, 3), image to crop.
        input_size: (height, width) of the crop.

    Returns:
        uint8 (height, width, 3) or (height, width).
    """
    height, width = input_size
    return cv2.warpAffine(image, np.asarray(matrix), (width, height), flags=cv2.INTER_LINEAR)


def cut_crop(
    image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int], pixels: Pixels = "full"
) -> np.ndarray:
    """Cut one crop out of an image, the one way in training, evaluation and prediction.

    Args:
        image: uint8 (h, w, 3).
        matrix: float64 (2, 3), image to crop.
        input_size: (height, width) of the crop.
        pixels: 'full' interpolates in the image itself (ViTPose's official code); 'reduced' takes
            means of 2x2, 4x4 or 8x8 pixels first where the crop is that much smaller, so that no
            fine detail turns into noise.

    Returns:
        uint8 (height, width, 3).
    """
    by = reduction(matrix) if pixels == "reduced" else 1
    if by > 1:
        image, matrix = _reduced_part(image, matrix, input_size, by)
    return warp_image(image, matrix, input_size)


def cut_boxes(
    images: Sequence[np.ndarray],
    box_xywh: np.ndarray,
    input_size: tuple[int, int],
    padding: float,
    keep_aspect: bool,
    warp: Warp,
    pixels: Pixels = "full",
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the upright crop around one box out of each image.

    Args:
        images: B images, uint8 (h, w, 3).
        box_xywh: (B, 4) in image pixels.
        input_size, padding, keep_aspect: as in `crop_size_for`.
        warp: 'plain' or 'udp'.
        pixels: 'full' or 'reduced', see `cut_crop`.

    Returns:
        uint8 (B, height, width, 3), and float64 (B, 2, 3), from crop to image.
    """
    box_xywh = np.asarray(box_xywh, dtype=np.float64)
    center = box_xywh[:, :2] + box_xywh[:, 2:] / 2
    size = crop_size_for(box_xywh[:, 2:], input_size, padding, keep_aspect)
    to_crop = crop_matrices(center, size, 0.0, input_size, warp)
    crops = np.empty((len(to_crop), *input_size, 3), dtype=np.uint8)
    for i, (image, matrix) in enumerate(zip(images, to_crop, strict=True)):
        crops[i] = cut_crop(image, matrix, input_size, pixels)
    return crops, inverse_crop_matrices(center, size, 0.0, input_size, warp)


def reduction(matrix: np.ndarray) -> int:
    """Return 8, 4, 2 or 1: by how much an image may be reduced before it is cut by a matrix."""
    (a, b, _), (c, d, _) = np.asarray(matrix).tolist()
    area = abs(a * d - b * c)  # of a pixel of the image, in pixels of the crop
    return next((by for by in (8, 4, 2) if area * by * by <= 1), 1)


def reduced(image: np.ndarray, by: int) -> np.ndarray:
    """Return the means of an image's blocks of `by` x `by` pixels; the last ones may be cut off.

    Pixel (x, y) of the result lies at (by * x + (by - 1) / 2, ...) in the image, whatever its
    sides; they are those of the image divided by `by`, rounded up.
    """
    height, width = image.shape[:2]
    missing = -height % by, -width % by
    if any(missing):
        image = cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    size = (image.shape[1] // by, image.shape[0] // by)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _reduced_part(
    image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int], by: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reduce the part of an image that a crop shows; return it and the matrix from it to the crop.

    The part begins at a whole block, so that it holds the same numbers as the whole image reduced.
    """
    height, width = input_size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64)
    inside = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    limit = np.array(image.shape[1::-1])
    first = np.clip((np.floor(inside.min(0) / by) - 1) * by, 0, limit).astype(int)
    last = np.clip((np.ceil(inside.max(0) / by) + 1) * by, 0, limit).astype(int)
    if (last <= first).any():  # the crop lies outside the image: black
        return image, matrix
    part = reduced(image[first[1] : last[1], first[0] : last[0]], by)
    linear = matrix[:, :2]
    shift = matrix[:, 2] + linear @ (first + (by - 1) / 2)
    return part, np.concatenate([linear * by, shift[:, None]], axis=1)


def _pairs(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1, 2)


def _scale_and_middle(
    size: np.ndarray, input_size: tuple[int, int], warp: Warp
) -> tuple[np.ndarray, np.ndarray]:
    height, width = input_size
    if warp == "udp":
        extent = np.array([width - 1.0, height - 1.0])
        return extent / size, extent / 2
    if warp == "plain":
        return np.repeat(width / size[:, :1], 2, axis=1), np.array([width, height]) / 2
    raise ValueError(f"found warp {warp!r}, expected 'plain' or 'udp'")


def _turn(rotation_deg: np.ndarray | float, count: int, warp: Warp) -> np.ndarray:
    angle = np.deg2rad(np.broadcast_to(np.asarray(rotation_deg, dtype=np.float64), (count,)))
    cos, sin = np.cos(angle), np.sin(angle) * (1 if warp == "udp" else -1)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=1)


def _with_shift(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def check_boxes(boxes: Any, image_size: tuple[int, int], name: str) -> np.ndarray:
    """Return an image's boxes as float64 (N, 4) x, y, width, height; None is the whole image.

    Args:
        boxes: what a user gave, (4,) or (N, 4).
        image_size: (height, width).
        name: the image's name, for messages.

    Raises:
        PredictionError: another shape, a box without extent, not finite, or outside the image.
    """
    height, width = image_size
    if boxes is None:
        return np.array([[0.0, 0.0, width, height]])
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros((0, 0))
    if array.size == 0 and (array.ndim == 1 or array.shape[-1] == 4):
        return np.zeros((0, 4))
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != 4:
        raise PredictionError(
            f"{name}: found boxes of shape {np.shape(boxes)}, expected (N, 4): x, y, width, "
            "height in pixels"
        )
    for i, (x, y, w, h) in enumerate(array):
        where = f"{name}, box {i} (x {x:g}, y {y:g}, width {w:g}, height {h:g})"
        if not np.isfinite(array[i]).all() or w <= 0 or h <= 0:
            raise PredictionError(f"{where}: expected finite numbers and a positive size")
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise PredictionError(
                f"{where}: it lies outside the image of {width} x {height} pixels; boxes are x, y, "
                "width, height, not two corners"
            )
    return array
