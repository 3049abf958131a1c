"""From a head card's `codec` mapping to a codec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from posekit.codecs.base import Codec
from posekit.codecs.combined import CombinedCodec, CombinedConfig
from posekit.codecs.heatmap import (
    MsraCodec,
    MsraConfig,
    UdpCodec,
    UdpConfig,
    UnbiasedCodec,
    UnbiasedConfig,
)
from posekit.codecs.integral import IntegralCodec, IntegralConfig
from posekit.codecs.regression import RegressionCodec, RegressionConfig
from posekit.codecs.simcc import SimccCodec, SimccConfig
from posekit.config.base import Strict, validate
from posekit.errors import ConfigError, nearest


class _Entry(NamedTuple):
    config: type[Strict]
    build: Callable[[Any, tuple[int, int]], Codec]


_CODECS: dict[str, _Entry] = {
    "integral": _Entry(IntegralConfig, IntegralCodec),
    "msra": _Entry(MsraConfig, MsraCodec),
    "msra_unbiased": _Entry(UnbiasedConfig, UnbiasedCodec),
    "regression": _Entry(RegressionConfig, RegressionCodec),
    "simcc": _Entry(SimccConfig, SimccCodec),
    "udp": _Entry(UdpConfig, UdpCodec),
    "udp_combined": _Entry(CombinedConfig, CombinedCodec),
}


def codec_kinds() -> list[str]:
    """Return the names that `kind` may have, sorted."""
    return sorted(_CODECS)


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
    kind = config.get("kind")
    if kind is None:
        raise ConfigError(f"{where}: key 'kind' is missing (valid: {', '.join(codec_kinds())})")
    entry = _CODECS.get(str(kind))
    if entry is None:
        raise ConfigError(
            f"{where}: unknown kind '{kind}'{nearest(str(kind), _CODECS)} "
            f"(valid: {', '.join(codec_kinds())})"
        )
    settings = validate(entry.config, config, where)
    try:
        return entry.build(settings, input_size)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
