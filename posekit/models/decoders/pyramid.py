"""ViTDet's simple feature pyramid with a convolutional head, as a heavier heatmap decoder."""

from __future__ import annotations

from pydantic import Field
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.decoders.base import DecoderConfig, Size, check_size


class PyramidConfig(DecoderConfig):
    """Settings of the pyramid decoder.

    Attributes:
        levels: maps to fuse, from the heatmap's resolution downwards, each half the one before.
        channels: channels of the pyramid.
        convs: 3x3 convolutions on the fused map before the last layer.
    """

    levels: int = Field(3, ge=1, le=4)
    channels: int = Field(256, ge=1)
    convs: int = Field(2, ge=0)

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return a PyramidDecoder."""
        factor = target[0] // size[0]
        if factor not in (1, 2, 4):
            raise ConfigError(
                f"the pyramid decoder enlarges the map by 1, 2 or 4, but the codec's {target[0]}x"
                f"{target[1]} is not that from the backbone's {size[0]}x{size[1]} (h x w)"
            )
        check_size("pyramid", size, target, factor, f"factor {factor}")
        return PyramidDecoder(
            in_channels, out_channels, factor, self.levels, self.channels, self.convs
        )


class PyramidDecoder(nn.Module):
    """Maps of several resolutions made from one, fused at the finest, then convolutions.

    The finest is made by transposed 2x2 convolutions, the coarsest by pooling; every level goes
    through a 1x1 and a 3x3 convolution with layer norms, is enlarged and summed.

    Source: Li et al., ViTDet (ECCV 2022), section 3, and detectron2's vit.py; the fusion by sum
    is ours, for a heatmap needs one resolution only.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        levels: int,
        channels: int,
        convs: int,
    ):
        super().__init__()
        finest = factor.bit_length() - 1
        self.levels = nn.ModuleList(
            _level(in_channels, channels, finest - level) for level in range(levels)
        )
        layers: list[nn.Module] = []
        for _ in range(convs):
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                LayerNorm2d(channels),
                nn.GELU(),
            ]
        self.convs = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, out_channels, 1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, H, W) for features (B, D, h, w)."""
        fused = self.levels[0](features)
        for level in list(self.levels)[1:]:
            fused = fused + nn.functional.interpolate(
                level(features), size=fused.shape[2:], mode="bilinear", align_corners=False
            )
        return self.final_layer(self.convs(fused))


def _level(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
    """Return a level that is enlarged `doublings` times, or pooled if that is negative."""
    layers: list[nn.Module] = []
    width = in_channels
    for step in range(doublings):
        half = max(width // 2, 1)
        layers.append(nn.ConvTranspose2d(width, half, 2, stride=2))
        if step + 1 < doublings:
            layers += [LayerNorm2d(half), nn.GELU()]
        width = half
    if doublings < 0:
        layers.append(nn.MaxPool2d(2**-doublings, ceil_mode=True))
    layers += [
        nn.Conv2d(width, channels, 1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        LayerNorm2d(channels),
    ]
    return nn.Sequential(*layers)
