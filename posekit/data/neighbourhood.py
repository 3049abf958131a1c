"""How far from an instance's box its training crops can reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from posekit.config.augmentation import AugmentationConfig
from posekit.data.augment import choose_half, half_body_crop
from posekit.data.crops import CropSource, exact_boxes


@dataclass(frozen=True)
class Reach:
    """What limits the crops of a head.

    Attributes:
        input_size: (height, width) of the crop.
        warp: 'plain' or 'udp'.
        scale: largest factor on the crop's sides.
        rotation_deg: largest angle.
        shift: largest move, as a share of the unpadded box.
        half_body: True if half-body crops are made; then the next two count.
        half_body_labelled, half_body_padding: as in AugmentationConfig.
        sharpness: stored pixels for each pixel of the unscaled crop.
    """

    input_size: tuple[int, int]
    warp: str
    scale: float
    rotation_deg: float
    shift: float
    half_body: bool
    half_body_labelled: int
    half_body_padding: float
    sharpness: float

    @classmethod
    def of(cls, head: CropSource, sharpness: float) -> Reach:
        """Return the reach of a head's augmentation."""
        config = head.augmentation
        turn = config.rotation * (2 if config.rotation_draw == "normal" else 1)
        return cls(
            input_size=head.input_size,
            warp=head.warp,
            scale=1 + config.scale,
            rotation_deg=min(turn, 180.0) if config.rotation_probability else 0.0,
            shift=config.shift if config.shift_probability else 0.0,
            half_body=config.half_body > 0,
            half_body_labelled=config.half_body_labelled,
            half_body_padding=config.half_body_padding,
            sharpness=sharpness / (config.zoom[0] ** 0.5 if config.zoom else 1.0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a key."""
        return asdict(self)


def neighbourhoods(
    head: CropSource, rows: np.ndarray, reach: Reach
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes that hold every training crop of some rows.

    Returns:
        int64 (n, 4) x0, y0, x1, y1 in image pixels, ends exclusive, possibly beyond the image, and
        float64 (n,) factor of at most 1 by which they may be shrunk.
    """
    index = head.index
    center, size = exact_boxes(index, rows, reach.input_size)
    _, box_size = index.crop_boxes(rows)
    half = _half_extent(size, reach) + reach.shift * box_size
    low, high = center - half, center + half
    if reach.half_body and index.schema.upper_body:
        for i, row in enumerate(rows.tolist()):
            for half_center, half_size in _half_bodies(head, row, reach):
                extent = _half_extent(half_size[None], reach)[0]
                low[i] = np.minimum(low[i], half_center - extent)
                high[i] = np.maximum(high[i], half_center + extent)
    margin = 2
    boxes = np.concatenate([np.floor(low) - margin, np.ceil(high) + margin + 1], axis=1)
    per_pixel = reach.sharpness * np.array(reach.input_size[::-1]) / size
    factors = per_pixel[:, 0] if reach.warp == "plain" else per_pixel.max(axis=1)
    return boxes.astype(np.int64), np.minimum(factors, 1.0)


def _half_extent(size: np.ndarray, reach: Reach) -> np.ndarray:
    """Return half the width and height of the upright box around a turned crop of each size."""
    height, width = reach.input_size
    if reach.warp == "plain":
        size = np.stack([size[:, 0], size[:, 0] * height / width], axis=1)
    half = size * reach.scale / 2
    other = half[:, ::-1]
    angle = np.deg2rad(min(reach.rotation_deg, 90.0))
    widest = np.arctan2(other, half)
    turned = half * np.cos(angle) + other * np.sin(angle)
    return np.where(angle >= widest, np.hypot(half, other), turned)


def _half_bodies(head: CropSource, row: int, reach: Reach) -> list[tuple[np.ndarray, np.ndarray]]:
    schema, columns = head.index.schema, head.index.columns
    config = AugmentationConfig(half_body_labelled=reach.half_body_labelled)
    found = []
    for prefer_upper in (True, False):
        chosen = choose_half(config, schema, columns.visibility[row], prefer_upper)
        if chosen is not None:
            points = columns.keypoints[row][chosen]
            aspect = reach.input_size[1] / reach.input_size[0]
            found.append(half_body_crop(points, aspect, reach.half_body_padding))
    return found
