"""From a head card's `codec` mapping to a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posekit.codecs.base import Codec
from posekit.codecs.combined import CombinedCodec
from posekit.codecs.heatmap import MsraCodec, UdpCodec, UnbiasedCodec
from posekit.codecs.integral import IntegralCodec
from posekit.codecs.regression import RegressionCodec
from posekit.codecs.simcc import SimccCodec
from posekit.config.plug_ins import Parts, settings_of
from posekit.errors import ConfigError

CODECS: Parts[type[Codec]] = Parts(
    "codec",
    {
        "integral": IntegralCodec,
        "msra": MsraCodec,
        "msra_unbiased": UnbiasedCodec,
        "regression": RegressionCodec,
        "simcc": SimccCodec,
        "udp": UdpCodec,
        "udp_combined": CombinedCodec,
    },
    lambda part: isinstance(part, type) and issubclass(part, Codec),
    "a subclass of posekit.codecs.Codec",
)


def build_codec(
    config: Mapping[str, Any], input_size: tuple[int, int], where: str = "codec"
) -> Codec:
    """Build the codec of a head.

    Args:
        config: `kind` and that kind's settings.
        input_size: (height, width) of the head's crops.
        where: what error messages call the mapping, e.g. the card's file.

    Raises:
        ConfigError: unknown kind or key (names the nearest), a value out of range, or an input
            size that the stride does not divide.
    """
    codec = CODECS.kind_of(config, where)
    settings = settings_of(codec.settings, config, where)
    try:
        return codec(settings, input_size)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
