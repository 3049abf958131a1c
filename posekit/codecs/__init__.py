"""Keypoints to heatmaps and back, in batched torch."""

from posekit.codecs.base import Codec
from posekit.codecs.registry import build_codec, codec_kinds

__all__ = ["Codec", "build_codec", "codec_kinds"]
