"""UDP's combined codec: a disc around the keypoint and, in it, the way to the keypoint.

Three maps a keypoint: 1 in a disc around the keypoint, and the x and y distances from each pixel to
the keypoint divided by the disc's radius. Follows mmpose 0.x as ViTPose carries it; `follows:
"1.x"` takes mmpose 1.3.2's arithmetic: the radius is a share of the map's longer side instead of
its height, the distances are given all over the map, and decoding does not blur them.

Source: Huang et al., CVPR 2020, section 4.3; mmpose 0.x and 1.3.2.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from posekit.codecs.base import full_precision, usable
from posekit.codecs.heatmap import MapCodec, MapConfig, require_odd
from posekit.codecs.peaks import blurred_stencil, find_peaks, gaussian_kernel
from posekit.codecs.refine import blur_maps
from posekit.warp import Warp


class CombinedConfig(MapConfig):
    """Settings of the combined codec.

    Attributes:
        radius_factor: the disc's radius as a share of the map's height (longer side in 1.x).
        blur_kernel: size k of the blur of the distances before decoding; the disc's map is blurred
            with 2k + 1.
    """

    radius_factor: float = Field(0.0546875, gt=0)
    blur_kernel: int = Field(11, ge=1)

    _odd = field_validator("blur_kernel")(require_odd)


class CombinedCodec(MapCodec):
    """Disc and distances, three maps a keypoint, UDP warp."""

    settings = CombinedConfig
    config: CombinedConfig
    warp: Warp = "udp"
    channels_per_keypoint = 3

    def __init__(self, config: CombinedConfig, input_size: tuple[int, int]):
        super().__init__(config, input_size)
        longer = max(self.heatmap_size) if config.follows == "1.x" else self.heatmap_size[0]
        self.radius = config.radius_factor * longer

    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Draw disc and distances; points outside keep their weight, as in the reference."""
        points, weights = usable(points, weights)
        middle = self.to_grid(points)
        columns, rows = (
            ((middle[..., i, None] - axis) / self.radius).float()
            for i, axis in enumerate(self._axes(points.device))
        )
        disc = columns.square()[..., None, :] + rows.square()[..., :, None] <= 1
        disc = disc & (weights > 0)[..., None, None]
        if self.config.follows == "1.x":
            given = (weights > 0)[..., None, None].expand_as(disc)
        else:
            given = disc
        x = torch.where(given, columns[..., None, :], 0.0)
        y = torch.where(given, rows[..., :, None], 0.0)
        return torch.stack([disc.float(), x, y], dim=2).flatten(1, 2), weights

    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Find the peak of the blurred disc and go the way that is written there.

        The score is the blurred disc's maximum.

        Cost: blurs K whole maps of each instance, unlike the Gaussian codecs.
        """
        self._check(maps)
        batch, channels = maps.shape[:2]
        keypoints, size = channels // 3, self.config.blur_kernel
        with full_precision(maps.device):
            grouped = maps.reshape(batch * keypoints, 3, *self.heatmap_size)
            disc = blur_maps(grouped[:, 0], gaussian_kernel(2 * size + 1), reflect=True)
            x, y, peak = find_peaks(disc)
            blur = gaussian_kernel(1 if self.config.follows == "1.x" else size)
            ways = [
                blurred_stencil(grouped[:, axis], x, y, 0, blur, reflect=True)[:, 0, 0]
                for axis in (1, 2)
            ]
            step = torch.stack(ways, dim=1).nan_to_num(0.0, 0.0, 0.0) * self.radius
            points = torch.stack([x, y], dim=1).float() + step
            points = torch.where((peak > 0)[:, None], points, -1.0)
        points = self.from_grid(points).reshape(batch, keypoints, 2)
        return points, peak.nan_to_num(0.0).reshape(batch, keypoints)

    def distributions(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Return only the discs; distances are no distribution."""
        return (maps[:, ::3].flatten(2),)

    def _swap(self, maps: Tensor, flip_indices: Tensor | np.ndarray) -> Tensor:
        swapped = super()._swap(maps, flip_indices).clone()
        swapped[:, 1::3].neg_()
        return swapped
