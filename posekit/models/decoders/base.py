"""What every kind of decoder offers."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from posekit.config.base import Strict
from posekit.errors import ConfigError

Size = tuple[int, int]


class DecoderConfig(Strict):
    """Settings of one kind of decoder, which they can build."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, size: Size, target: Size) -> nn.Module:
        """Return the decoder for a map of `size` whose output must have the size `target`."""


def init_convolutions(module: nn.Module, std: float = 0.001) -> None:
    """Start convolution weights normal with `std` and their biases at zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def check_size(kind: str, size: Size, target: Size, factor: float, setting: str) -> None:
    """Raise ConfigError unless a map of `size` enlarged by `factor` has the size `target`."""
    reached = (int(size[0] * factor), int(size[1] * factor))
    if reached != tuple(target):
        raise ConfigError(
            f"the {kind} decoder ({setting}) makes {reached[0]}x{reached[1]} from the backbone's "
            f"{size[0]}x{size[1]} map, but the codec expects {target[0]}x{target[1]} (h x w); "
            f"change the decoder, the codec's heatmap_size or the backbone's feature_stride"
        )
