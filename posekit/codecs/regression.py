"""Regression: a keypoint as two numbers, or four with their spread, without any map.

The numbers lie in one map of height 1: (B, K, 1, 2 or 4). x and y are counted from the middle of
the crop in units of its sides, so a fresh head predicts the middle, and mirroring changes a sign.

Source: Toshev and Szegedy, DeepPose (CVPR 2014); Li et al., RLE (ICCV 2021); mmpose 1.x,
`regression_head.py` and `rle_head.py`, whose numbers are counted from the crop's corner.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posekit.codecs.base import Codec, usable
from posekit.config.base import Strict
from posekit.warp import Warp


class RegressionConfig(Strict):
    """Settings of the regression codec.

    Attributes:
        spread: the head also gives each coordinate's spread, as the loss `rle` needs; the score is
            then 1 minus the mean spread. Without, every score is 1.
        warp: 'udp' or 'plain'.
    """

    kind: str
    spread: bool = False
    warp: Warp = "udp"


class RegressionCodec(Codec):
    """Two or four numbers a keypoint."""

    settings = RegressionConfig
    shift_flipped = False

    def __init__(self, config: RegressionConfig, input_size: tuple[int, int]):
        self.config = config
        self.warp = config.warp
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = (1, 4 if config.spread else 2)

    @property
    def usual_loss(self) -> str:
        """Absolute distances."""
        return "l1"

    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers (spreads are 0); weight 0 outside the crop, as in mmpose."""
        points, weights = usable(points, weights)
        sides = points.new_tensor(self.input_size[::-1])
        inside = (points >= 0) & (points <= sides - 1)
        weights = weights * inside.all(-1)
        numbers = (points - (sides - 1) / 2) / sides * (weights > 0)[..., None]
        if self.config.spread:
            numbers = torch.cat([numbers, torch.zeros_like(numbers)], dim=-1)
        return numbers[:, :, None, :], weights

    def to_heatmap(self, output: Tensor) -> Tensor:
        """Turn a head's output into numbers whose spreads lie between 0 and 1."""
        output = super().to_heatmap(output)
        if not self.config.spread:
            return output
        return torch.cat([output[..., :2], output[..., 2:].sigmoid()], dim=-1)

    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return points and scores; numbers that are not finite give (-1, -1) and 0."""
        self._check(maps)
        numbers = maps[:, :, 0].float()
        sides = numbers.new_tensor(self.input_size[::-1])
        points = numbers[..., :2] * sides + (sides - 1) / 2
        scores = (1 - numbers[..., 2:].mean(-1)) if self.config.spread else points[..., 0] * 0 + 1
        found = torch.isfinite(numbers).all(-1)
        points = torch.where(found[..., None], points, -1.0)
        return points, torch.where(found, scores.clamp(0, 1), 0.0)

    def distributions(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Return none: there is no distribution over positions."""
        return ()

    def flip_back(self, maps: Tensor, flip_indices: Tensor | np.ndarray) -> Tensor:
        """Swap the keypoints and turn x about the middle."""
        swapped = self._swap(maps, flip_indices)
        return torch.cat([-swapped[..., :1], swapped[..., 1:]], dim=-1)
