"""Soft-argmax: a keypoint is the mean position of a map's probability.

Unlike a peak, the mean can be differentiated, so the head learns the position itself (the loss
`integral`); the map keeps a meaning through a second term or not at all.

Source: Sun et al., Integral Human Pose Regression (ECCV 2018); Nibali et al., DSNT (2018); mmpose
1.x, `integral_regression_head.py` and `dsnt_head.py`. mmpose makes plain crops and gives every
point the score 1; here the warp is UDP's unless said, whose grid is symmetric, and the score is the
probability within 3 sigma of the position.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from posekit.codecs.base import full_precision, usable
from posekit.codecs.heatmap import MapCodec, MapConfig
from posekit.codecs.peaks import gaussian_sum, mass_around
from posekit.codecs.refine import mean_positions
from posekit.warp import Warp


class IntegralConfig(MapConfig):
    """Settings of the soft-argmax codec.

    Attributes:
        sigma: the target Gaussian's standard deviation in heatmap pixels.
        beta: factor of the logits before the softmax (mmpose's IPR: 1, debiased IPR: 10).
        warp: 'udp', or 'plain' as in mmpose.
    """

    sigma: float = Field(2.0, gt=0)
    beta: float = Field(1.0, gt=0)
    warp: Warp = "udp"


class IntegralCodec(MapCodec):
    """Logits over positions, read by their mean."""

    settings = IntegralConfig
    config: IntegralConfig

    def __init__(self, config: IntegralConfig, input_size: tuple[int, int]):
        self.warp = config.warp
        super().__init__(config, input_size)
        self.activation = "softmax"
        self.reach = int(3 * config.sigma)
        self._peak_sum = gaussian_sum(config.sigma) ** 2

    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a Gaussian around each keypoint; weight 0 outside the map, where no mean can be."""
        points, weights = usable(points, weights)
        middle = self.to_grid(points)
        last = middle.new_tensor(self.heatmap_size[::-1]) - 1
        weights = weights * ((middle >= 0) & (middle <= last)).all(-1)
        columns, rows = (
            torch.exp((axis - middle[..., i, None]).float().square() / (-2 * self.config.sigma**2))
            for i, axis in enumerate(self._axes(points.device))
        )
        rows = rows * (weights > 0)[..., None]
        return rows[..., :, None] * columns[..., None, :], weights

    def to_heatmap(self, output: Tensor) -> Tensor:
        """Turn logits into probabilities, times the sum of a Gaussian of peak 1."""
        logits = super().to_heatmap(output).flatten(2) * self.config.beta
        return (logits.softmax(-1) * self._peak_sum).reshape(output.shape)

    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean positions; see `Codec.decode` and the module for the score."""
        self._check(maps)
        shape = maps.shape[:2]
        with full_precision(maps.device):
            flat = maps.reshape(-1, *self.heatmap_size)
            points = mean_positions(flat)
            x, y = points.round().long().unbind(1)
            score = mass_around(flat, x, y, self.reach, self.reach) / self._peak_sum
            peak = flat.flatten(1).amax(1)
            found = peak > 0
            score = torch.where(found, score.clamp(0, 1), peak.float()).nan_to_num(0.0)
            points = torch.where(found[:, None], points, -1.0)
        return self.from_grid(points).reshape(*shape, 2), score.reshape(shape)

    def expectation(self, output: Tensor) -> Tensor:
        """Return float32 (B, K, 2), the mean positions of logits in crop pixels, differentiable."""
        shares = (output.float().flatten(2) * self.config.beta).softmax(-1).reshape(output.shape)
        axes = self._axes(output.device)
        sums = (shares.sum(-2), shares.sum(-1))
        points = [(part * axis).sum(-1) for part, axis in zip(sums, axes, strict=True)]
        return self.from_grid(torch.stack(points, dim=-1))
