"""Decoders: from the backbone's feature map to a head's output."""

from posekit.models.decoders.base import DecoderConfig
from posekit.models.decoders.registry import DECODERS, build_decoder

__all__ = ["DECODERS", "DecoderConfig", "build_decoder"]
