"""Decoders that enlarge the backbone's map to a heatmap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.batch_norm import SharedBatchNorm2d
from posekit.models.decoders.base import DecoderConfig, Size, check_size, init_convolutions


class ClassicConfig(DecoderConfig):
    """Settings of the classic decoder: transposed convolutions, each doubling the map.

    Attributes:
        layers: transposed convolutions.
        channels: their outputs, one number for all or one each.
        norm: 'batch' is ViTPose's; 'layer' norms each pixel by itself, which does not care how few
            of a mixed batch's samples are the head's.
    """

    layers: int = Field(2, ge=0)
    channels: int | tuple[int, ...] = 256
    norm: Literal["batch", "layer"] = "batch"

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return a ClassicDecoder."""
        widths = self.channels
        if isinstance(widths, int):
            widths = (widths,) * self.layers
        check_size("classic", size, target, 2 ** len(widths), f"layers: {len(widths)}")
        norm = SharedBatchNorm2d if self.norm == "batch" else LayerNorm2d
        return ClassicDecoder(in_channels, out_channels, widths, norm)


def transposed_layers(
    in_channels: int,
    channels: Sequence[int],
    norm: Callable[[int], nn.Module],
) -> list[nn.Module]:
    """Return transposed 4x4 convolutions that double the map, each with a norm and ReLU."""
    layers: list[nn.Module] = []
    for width in channels:
        layers += [
            nn.ConvTranspose2d(in_channels, width, 4, stride=2, padding=1, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
        ]
        in_channels = width
    return layers


class ClassicDecoder(nn.Module):
    """Transposed convolutions with a norm and ReLU, then a 1x1 convolution.

    Module names are those of ViTPose's own checkpoints.

    Source: ViTPose, section 3.1; Xiao et al., Simple Baselines (ECCV 2018). Weights start normal
    with a standard deviation of 0.001, biases zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        norm: Callable[[int], nn.Module] = SharedBatchNorm2d,
    ):
        super().__init__()
        self.deconv_layers = nn.Sequential(*transposed_layers(in_channels, channels, norm))
        last = channels[-1] if channels else in_channels
        self.final_layer = nn.Conv2d(last, out_channels, 1)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, H, W) for features (B, D, h, w)."""
        return self.final_layer(self.deconv_layers(features))


class SimpleConfig(DecoderConfig):
    """Settings of the simple decoder."""

    upsample: float = Field(4, gt=0)
    kernel: int = Field(3, ge=1)

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return a SimpleDecoder."""
        if self.kernel % 2 == 0:
            raise ConfigError(f"simple decoder: kernel is {self.kernel}, expected an odd number")
        check_size("simple", size, target, self.upsample, f"upsample: {self.upsample:g}")
        return SimpleDecoder(in_channels, out_channels, self.upsample, self.kernel)


class SimpleDecoder(nn.Module):
    """ReLU first, then bilinear upsampling, then one convolution.

    The order is that of the code; texts that put the ReLU after the upsampling are wrong, and the
    two do not commute.
    """

    def __init__(self, in_channels: int, out_channels: int, upsample: float, kernel: int):
        super().__init__()
        self.upsample = upsample
        self.final_layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, H, W) for features (B, D, h, w)."""
        features = torch.relu(features)
        if self.upsample != 1:
            features = nn.functional.interpolate(
                features, scale_factor=self.upsample, mode="bilinear", align_corners=False
            )
        return self.final_layer(features)


class ShuffleConfig(DecoderConfig):
    """Settings of the shuffle decoder."""

    upsample: int = Field(4, ge=1)

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return one 1x1 convolution whose channels are laid out as finer pixels.

        Source: the smallest decoder that ViTPose+ reports.
        """
        check_size("shuffle", size, target, self.upsample, f"upsample: {self.upsample}")
        convolution = nn.Conv2d(in_channels, out_channels * self.upsample**2, 1)
        nn.init.normal_(convolution.weight, std=0.001)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        return nn.Sequential(convolution, nn.PixelShuffle(self.upsample))
