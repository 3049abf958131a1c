"""Decoders that give numbers or vectors for each keypoint instead of a map."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.decoders.base import DecoderConfig, Size


class SimccDecoderConfig(DecoderConfig):
    """Settings of the SimCC decoder.

    Attributes:
        kernel: size of the convolution that makes one map a keypoint (1 in SimCC, 7 in RTMPose).
    """

    kernel: int = Field(1, ge=1)

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return a SimccDecoder."""
        if target[0] != 1:
            raise ConfigError(
                f"the simcc decoder gives vectors, but the codec expects maps of "
                f"{target[0]}x{target[1]} (h x w); give the head a simcc codec"
            )
        if self.kernel % 2 == 0:
            raise ConfigError(f"simcc decoder: kernel is {self.kernel}, expected an odd number")
        return SimccDecoder(in_channels, out_channels, size, target[1], self.kernel)


class SimccDecoder(nn.Module):
    """One small map a keypoint, flattened, then one linear layer to the vectors of both axes.

    The map's size is fixed when the decoder is built.

    Source: Li et al., SimCC (ECCV 2022); mmpose 1.x, `simcc_head.py` (two linear layers there, one
    for each axis, are one here).
    """

    def __init__(self, in_channels: int, out_channels: int, size: Size, length: int, kernel: int):
        super().__init__()
        self.final_layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.vectors = nn.Linear(size[0] * size[1], length)
        nn.init.normal_(self.vectors.weight, std=0.01)
        nn.init.zeros_(self.vectors.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, 1, L) for features (B, D, h, w)."""
        maps = self.final_layer(features)
        return self.vectors(maps.flatten(2))[:, :, None, :]


class RegressionDecoderConfig(DecoderConfig):
    """Settings of the regression decoder."""

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return a RegressionDecoder."""
        if target[0] != 1 or target[1] > 8:
            raise ConfigError(
                f"the regression decoder gives a few numbers a keypoint, but the codec expects "
                f"{target[0]}x{target[1]} (h x w); give the head a regression codec"
            )
        return RegressionDecoder(in_channels, out_channels, target[1])


class RegressionDecoder(nn.Module):
    """The mean of the map, then one linear layer to a few numbers for each keypoint.

    Source: Toshev and Szegedy, DeepPose (CVPR 2014), in the form of mmpose's regression_head.py.
    """

    def __init__(self, in_channels: int, out_channels: int, numbers: int):
        super().__init__()
        self.numbers = nn.Linear(in_channels, out_channels * numbers)
        self.shape = (out_channels, 1, numbers)
        nn.init.normal_(self.numbers.weight, std=0.01)
        nn.init.zeros_(self.numbers.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, 1, n) for features (B, D, h, w)."""
        return self.numbers(features.mean((2, 3))).unflatten(1, self.shape)
