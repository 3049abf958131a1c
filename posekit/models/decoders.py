"""Decoders: from the backbone's feature map to a head's output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from posekit.config import Strict, validate
from posekit.errors import ConfigError, nearest

Size = tuple[int, int]


class DecoderConfig(Strict):
    """Settings of one kind of decoder, which they can build."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Give the decoder for a map of `size` whose output must have the size `target`."""


class ClassicConfig(DecoderConfig):
    """Settings of the classic decoder: transposed convolutions, each doubling the map."""

    layers: int = Field(2, ge=0)
    channels: int | tuple[int, ...] = 256

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Give a ClassicDecoder."""
        widths = self.channels
        if isinstance(widths, int):
            widths = (widths,) * self.layers
        check_size("classic", size, target, 2 ** len(widths), f"layers: {len(widths)}")
        return ClassicDecoder(in_channels, out_channels, widths)


class ClassicDecoder(nn.Module):
    """Transposed convolutions with batch norm and ReLU, then a 1x1 convolution.

    Module names are those of ViTPose's own checkpoints.

    Source: ViTPose, section 3.1; Xiao et al., Simple Baselines (ECCV 2018). Weights start normal
    with a standard deviation of 0.001, biases zero.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for width in channels:
            layers += [
                nn.ConvTranspose2d(in_channels, width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(in_channels, out_channels, 1)
        init_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, C, H, W) for features (B, D, h, w)."""
        return self.final_layer(self.deconv_layers(features))


class SimpleConfig(DecoderConfig):
    """Settings of the simple decoder."""

    upsample: float = Field(4, gt=0)
    kernel: int = Field(3, ge=1)

    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Give a SimpleDecoder."""
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
        """Give (B, C, H, W) for features (B, D, h, w)."""
        features = torch.relu(features)
        if self.upsample != 1:
            features = nn.functional.interpolate(
                features, scale_factor=self.upsample, mode="bilinear", align_corners=False
            )
        return self.final_layer(features)


def init_convolutions(module: nn.Module, std: float = 0.001) -> None:
    """Start convolution weights normal with `std` and their biases at zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


DECODERS: dict[str, type[DecoderConfig]] = {"classic": ClassicConfig, "simple": SimpleConfig}


def build_decoder(
    config: Mapping[str, Any],
    in_channels: int,
    out_channels: int,
    map_size: Size,
    output_size: Size,
    where: str = "decoder",
) -> nn.Module:
    """Build a decoder from its mapping (`kind` and settings).

    Args:
        config: the mapping.
        in_channels: channels of the feature map.
        out_channels: channels that the codec expects.
        map_size: (height, width) of the feature map.
        output_size: (height, width) that the codec expects.
        where: what to name in messages.

    Raises:
        ConfigError: unknown kind or key (names the nearest), or a decoder that does not reach
            the codec's size from the map.
    """
    settings = dict(config)
    kind = settings.pop("kind", None)
    if kind not in DECODERS:
        hint = nearest(str(kind), DECODERS)
        raise ConfigError(
            f"{where}: unknown decoder kind {kind!r}{hint} (kinds: {', '.join(sorted(DECODERS))})"
        )
    checked = validate(DECODERS[kind], settings, where)
    try:
        return checked.build(in_channels, out_channels, map_size, output_size)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def check_size(kind: str, size: Size, target: Size, factor: float, setting: str) -> None:
    """Raise ConfigError unless a map of `size` enlarged by `factor` has the size `target`."""
    reached = (int(size[0] * factor), int(size[1] * factor))
    if reached != tuple(target):
        raise ConfigError(
            f"the {kind} decoder ({setting}) makes {reached[0]}x{reached[1]} from the backbone's "
            f"{size[0]}x{size[1]} map, but the codec expects {target[0]}x{target[1]} (h x w); "
            f"change the decoder, the codec's heatmap_size or the backbone's feature_stride"
        )
