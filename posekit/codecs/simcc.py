"""SimCC: a keypoint as two vectors, one over the crop's columns and one over its rows.

The vectors lie side by side in one map of height 1, x first: (B, K, 1, w r + h r), r bins a pixel.
So a head's output, its loss and the flip test handle them like any map.

Source: Li et al., ECCV 2022; mmpose 1.3.2, `simcc_label.py`.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from posekit.codecs.base import Activation, Codec, usable
from posekit.codecs.peaks import find_peaks, gaussian_sum, mass_around
from posekit.config.base import Strict

Sigma = Annotated[float, Field(gt=0)]


class SimccConfig(Strict):
    """Settings of the SimCC codec.

    Attributes:
        split_ratio: bins per crop pixel.
        sigma: the Gaussians' standard deviations in bins, (x, y); left out: sqrt(side / 8) of the
            crop's sides, which gives mmpose's 4.9 and 5.66 at 192 x 256.
        activation: 'softmax' for heads whose vectors are logits (cross-entropy and the KL loss of
            the paper), 'none' to decode the raw vectors as mmpose does.
    """

    kind: str
    split_ratio: float = Field(2.0, gt=0)
    sigma: tuple[Sigma, Sigma] | None = None
    activation: Activation = "none"


class SimccCodec(Codec):
    """Two Gaussian vectors a keypoint, plain warp.

    The flip test does not shift, as in mmpose: the mirrored vectors come back one bin too far to
    the right with two bins a pixel.
    """

    settings = SimccConfig
    shift_flipped = False

    def __init__(self, config: SimccConfig, input_size: tuple[int, int]):
        self.config = config
        self.activation = config.activation
        self.input_size = (int(input_size[0]), int(input_size[1]))
        height, width = self.input_size
        self.lengths = tuple(round(side * config.split_ratio) for side in (width, height))
        self.heatmap_size = (1, sum(self.lengths))
        self.sigma = config.sigma or (math.sqrt(width / 8), math.sqrt(height / 8))

    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the two Gaussians, around the nearest bin and over the whole vectors."""
        points, weights = usable(points, weights)
        middle = (points * self.config.split_ratio).round()
        reach = middle.new_tensor(self.sigma) * 3
        inside = (middle - reach < middle.new_tensor(self.lengths)) & (middle + reach + 1 >= 0)
        weights = weights * inside.all(-1)
        vectors = [
            torch.exp(
                (torch.arange(length, device=points.device) - middle[..., i, None].float()).square()
                / (-2 * sigma**2)
            )
            for i, (length, sigma) in enumerate(zip(self.lengths, self.sigma, strict=True))
        ]
        targets = torch.cat(vectors, dim=-1) * (weights > 0)[..., None]
        return targets[:, :, None, :], weights

    def to_heatmap(self, output: Tensor) -> Tensor:
        """Turn a head's output into float32 vectors of peak about 1 (see the Gaussian codecs)."""
        output = super().to_heatmap(output)
        if self.activation == "none":
            return output
        scaled = [
            vector.softmax(-1) * total
            for vector, total in zip(
                output.split(self.lengths, dim=-1), self._patch_sums(), strict=True
            )
        ]
        return torch.cat(scaled, dim=-1)

    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the highest bins; see `Codec.decode`.

        The score is the smaller of the two maxima; with activation 'softmax' the smaller of the
        probabilities within 3 sigma of them. A keypoint without a positive score is at bin -1.
        """
        self._check(maps)
        shape = maps.shape[:2]
        places, scores = [], []
        parts = maps.reshape(-1, 1, self.heatmap_size[1]).split(self.lengths, dim=-1)
        for vector, sigma, total in zip(parts, self.sigma, self._patch_sums(), strict=True):
            place, zero, peak = find_peaks(vector)
            if self.activation == "softmax":
                mass = mass_around(vector, place, zero, int(3 * sigma), 0) / total
                peak = torch.where(peak > 0, mass.clamp(0, 1), peak.float())
            places.append(place)
            scores.append(peak.float())
        score = torch.minimum(*scores)
        points = torch.where((score > 0)[:, None], torch.stack(places, dim=1).float(), -1.0)
        points = points / self.config.split_ratio
        return points.reshape(*shape, 2), score.nan_to_num(0.0).reshape(shape)

    def distributions(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Return the x vectors and the y vectors."""
        return maps.flatten(2).split(self.lengths, dim=-1)

    def flip_back(self, maps: Tensor, flip_indices: Tensor | np.ndarray) -> Tensor:
        """Mirror the x vectors and swap the keypoints."""
        x, y = self._swap(maps, flip_indices).split(self.lengths, dim=-1)
        return torch.cat([x.flip(-1), y], dim=-1)

    def _patch_sums(self) -> list[float]:
        return [gaussian_sum(sigma) for sigma in self.sigma]
