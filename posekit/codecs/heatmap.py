"""Codecs with one heatmap a keypoint: MSRA, unbiased, and UDP with a Gaussian target.

They differ in the grid (plain or UDP warp), in where the Gaussian's middle lies and how far it
reaches, and in what they do after finding the peak. All follow mmpose 0.x as ViTPose carries it;
`follows: "1.x"` takes mmpose 1.3.2's arithmetic where it differs:

* quarter: border peaks are judged for each axis by itself;
* positions on the grid are computed in float32 instead of float64;
* dark_udp: the blur sees zeros beyond the border and keeps the map's maximum.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from posekit.codecs.base import Activation, Codec, full_precision, usable
from posekit.codecs.peaks import blur_matrix, find_peaks, gaussian_sum, mass_around
from posekit.codecs.refine import (
    dark_offsets,
    dark_udp_offsets,
    mean_positions,
    quarter_offsets,
)
from posekit.config.base import Strict
from posekit.errors import ConfigError
from posekit.warp import Warp

Refine = Literal["none", "quarter", "dark", "dark_udp", "soft_argmax"]
Follows = Literal["0.x", "1.x"]


def require_odd(value: int) -> int:
    """Check a blur's size for pydantic."""
    if value % 2 == 0:
        raise ValueError("expected an odd number of pixels")
    return value


class MapConfig(Strict):
    """Settings of every codec on a grid of pixels.

    Attributes:
        kind: name of the codec.
        heatmap_stride: crop pixels per heatmap pixel; must divide the crop's sides.
        follows: which mmpose's arithmetic to follow where the two differ.
    """

    kind: str
    heatmap_stride: int = Field(4, ge=1)
    follows: Follows = "0.x"


class GaussianConfig(MapConfig):
    """Settings of the codecs with a Gaussian target.

    Attributes:
        sigma: the Gaussian's standard deviation in heatmap pixels; it reaches 3 sigma.
        refine: how to get between pixels: 'none', 'quarter' pixel towards the higher neighbour,
            'dark', 'dark_udp', or 'soft_argmax' (the mean position of the map's mass).
        blur_kernel: size of the blur before DARK's Taylor step; odd.
        activation: 'softmax' for heads trained by cross-entropy.
        smoothing: with 'softmax', standard deviation in heatmap pixels of a Gaussian that the
            probabilities are smoothed with before the peak is looked for; 0 does not. The peak is
            then where most probability lies nearby, not where a single pixel has most.
    """

    sigma: float = Field(2.0, gt=0)
    refine: Refine
    blur_kernel: int = Field(11, ge=1)
    activation: Activation = "none"
    smoothing: float = Field(0.0, ge=0)

    _odd = field_validator("blur_kernel")(require_odd)

    @model_validator(mode="after")
    def _blur_is_used(self) -> GaussianConfig:
        if "blur_kernel" in self.model_fields_set and not self.refine.startswith("dark"):
            raise ValueError(f"blur_kernel does nothing with refine '{self.refine}'; leave it out")
        if self.smoothing and self.activation != "softmax":
            raise ValueError("smoothing does nothing without activation 'softmax'; leave it out")
        return self


class MsraConfig(GaussianConfig):
    """Settings of the plain codec of Xiao et al. (ECCV 2018)."""

    refine: Refine = "quarter"


class UnbiasedConfig(GaussianConfig):
    """Settings of the plain codec with DARK's target and decoding."""

    refine: Refine = "dark"


class UdpConfig(GaussianConfig):
    """Settings of the UDP codec with a Gaussian target."""

    refine: Refine = "dark_udp"


class MapCodec(Codec):
    """What codecs on a grid of pixels share: sizes and the change of coordinates."""

    def __init__(self, config: MapConfig, input_size: tuple[int, int]):
        self.config = config
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = _heatmap_size(self.input_size, config.heatmap_stride)
        self.shift_flipped = self.warp == "plain"

    @property
    def stride_xy(self) -> tuple[float, float]:
        """Crop pixels per heatmap pixel, (x, y): sides divided, or for UDP intervals divided."""
        less = 1 if self.warp == "udp" else 0
        (height, width), (rows, columns) = self.input_size, self.heatmap_size
        return (width - less) / (columns - less), (height - less) / (rows - less)

    def to_grid(self, points_crop: Tensor) -> Tensor:
        """Take float32 crop pixels to heatmap pixels, in the float type of the reference.

        That is float64 for 0.x, where the device has it (Apple's GPUs do not), and float32 for 1.x.
        It decides which of two equally near pixels of a target is the higher one.
        """
        if self.config.follows == "0.x" and points_crop.device.type != "mps":
            points_crop = points_crop.double()
        return points_crop / points_crop.new_tensor(self.stride_xy)

    def from_grid(self, points_heatmap: Tensor) -> Tensor:
        """Take heatmap pixels to crop pixels."""
        return points_heatmap * points_heatmap.new_tensor(self.stride_xy)

    def _axes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        rows, columns = self.heatmap_size
        return torch.arange(columns, device=device), torch.arange(rows, device=device)


class GaussianCodec(MapCodec):
    """One heatmap a keypoint with a Gaussian of peak 1."""

    config: GaussianConfig

    def __init__(self, config: GaussianConfig, input_size: tuple[int, int]):
        super().__init__(config, input_size)
        self.activation = config.activation
        self.reach = int(3 * config.sigma)

    @abstractmethod
    def _middle_and_patch(self, points_heatmap: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Return the Gaussian's middle, the middle of its patch, and whether the patch cuts it."""

    def encode(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a Gaussian for each keypoint; weight 0 where its patch lies wholly outside."""
        points, weights = usable(points, weights)
        middle, patch, cut = self._middle_and_patch(self.to_grid(points))
        size = patch.new_tensor(self.heatmap_size[::-1])
        inside = (patch - self.reach < size) & (patch + self.reach + 1 >= 0)
        weights = weights * inside.all(-1)
        columns, rows = (
            self._profile(axis, middle[..., i, None], patch[..., i, None], cut)
            for i, axis in enumerate(self._axes(points.device))
        )
        rows = rows * (weights > 0)[..., None]
        return rows[..., :, None] * columns[..., None, :], weights

    def _profile(self, axis: Tensor, middle: Tensor, patch: Tensor, cut: bool) -> Tensor:
        distance = (axis - middle).float()
        profile = torch.exp(distance.square() / (-2 * self.config.sigma**2))
        return profile * ((axis - patch).abs() <= self.reach) if cut else profile

    def to_heatmap(self, output: Tensor) -> Tensor:
        """Turn a head's output into float32 heatmaps.

        With activation 'softmax' these are the probabilities of the positions, times the sum of a
        Gaussian patch. A head that predicts its target exactly then gives exactly the Gaussian of
        peak 1 that a head trained by squared error would, and DARK finds it on the same scale.
        """
        output = super().to_heatmap(output)
        if self.activation == "none":
            return output
        return (output.flatten(2).softmax(-1) * self._patch_sum).reshape(output.shape)

    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Find each map's peak and refine it; see `Codec.decode`.

        The score is the map's maximum; with activation 'softmax' it is the probability that the
        head gives to the target's patch (3 sigma) around the peak, in [0, 1].
        """
        self._check(maps)
        shape = maps.shape[:2]
        with full_precision(maps.device):
            flat = maps.reshape(-1, *self.heatmap_size)
            smooth = self._smoothed(flat)
            x, y, peak = find_peaks(smooth)
            points = self._refine(smooth, x, y, peak)
            found = peak > 0
            points = torch.where(found[:, None], points, -1.0)
            score = peak.float().nan_to_num(0.0)
            if self.activation == "softmax":
                mass = mass_around(flat, x, y, self.reach, self.reach) / self._patch_sum
                score = torch.where(found, mass.clamp(0, 1), score)
        return self.from_grid(points).reshape(*shape, 2), score.reshape(shape)

    def _smoothed(self, maps: Tensor) -> Tensor:
        """Smooth maps (M, H, W) if the head's card asks for it."""
        if not self.config.smoothing:
            return maps
        sigma = self.config.smoothing
        reach = math.ceil(3 * sigma)
        taps = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-reach, reach + 1)]
        kernel = [tap / sum(taps) for tap in taps]
        rows, columns = (
            blur_matrix(side, kernel, reflect=False, device=maps.device)
            for side in self.heatmap_size
        )
        return rows @ maps.float() @ columns.T

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor, peak: Tensor) -> Tensor:
        refine, newer = self.config.refine, self.config.follows == "1.x"
        if refine == "soft_argmax":
            return mean_positions(maps)
        points = torch.stack([x, y], dim=1).float()
        if refine == "quarter":
            return points + quarter_offsets(maps, x, y, per_axis=newer)
        if refine == "dark":
            return points + dark_offsets(maps, x, y, peak, self.config.blur_kernel)
        if refine == "dark_udp":
            size = self.config.blur_kernel
            return points + dark_udp_offsets(maps, x, y, peak, size, rescaled=newer)
        return points

    @property
    def _patch_sum(self) -> float:
        return gaussian_sum(self.config.sigma) ** 2


class MsraCodec(GaussianCodec):
    """Gaussian around the rounded position, quarter-pixel decoding, plain warp."""

    settings = MsraConfig

    def _middle_and_patch(self, points_heatmap: Tensor) -> tuple[Tensor, Tensor, bool]:
        rounded = torch.trunc(points_heatmap + 0.5)  # towards zero, as the reference's int()
        return rounded, rounded, True


class UnbiasedCodec(GaussianCodec):
    """Gaussian around the exact position over the whole map, DARK decoding, plain warp."""

    settings = UnbiasedConfig

    def _middle_and_patch(self, points_heatmap: Tensor) -> tuple[Tensor, Tensor, bool]:
        return points_heatmap, points_heatmap, False


class UdpCodec(GaussianCodec):
    """Gaussian around the exact position in a patch around the rounded one, UDP warp."""

    settings = UdpConfig
    warp: Warp = "udp"

    def _middle_and_patch(self, points_heatmap: Tensor) -> tuple[Tensor, Tensor, bool]:
        return points_heatmap, torch.trunc(points_heatmap + 0.5), True


def _heatmap_size(input_size: tuple[int, int], stride: int) -> tuple[int, int]:
    height, width = input_size
    if height % stride or width % stride or min(height, width) < 2 * stride:
        raise ConfigError(
            f"heatmap_stride {stride} does not fit the input size {height}x{width} (height x "
            "width); both sides must be a multiple of it, at least twice"
        )
    return height // stride, width // stride
