"""Keypoints to heatmaps and back, in batched torch."""

from posekit.codecs.base import Codec
from posekit.codecs.registry import CODECS, build_codec

__all__ = ["CODECS", "Codec", "build_codec"]
