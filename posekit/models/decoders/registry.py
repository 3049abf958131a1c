"""From a head's `decoder` mapping to a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from posekit.config.plug_ins import Parts, settings_of
from posekit.errors import ConfigError
from posekit.models.decoders.base import DecoderConfig, Size
from posekit.models.decoders.heatmap import ClassicConfig, ShuffleConfig, SimpleConfig
from posekit.models.decoders.pyramid import PyramidConfig
from posekit.models.decoders.vectors import RegressionDecoderConfig, SimccDecoderConfig

DECODERS: Parts[type[DecoderConfig]] = Parts(
    "decoder",
    {
        "classic": ClassicConfig,
        "pyramid": PyramidConfig,
        "regression": RegressionDecoderConfig,
        "shuffle": ShuffleConfig,
        "simcc": SimccDecoderConfig,
        "simple": SimpleConfig,
    },
    lambda part: isinstance(part, type) and issubclass(part, DecoderConfig),
    "a subclass of posekit.models.decoders.DecoderConfig",
)


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
    checked = settings_of(DECODERS.kind_of(config, where), config, where)
    try:
        return checked.build(in_channels, out_channels, map_size, output_size)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
