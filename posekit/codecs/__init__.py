"""Keypoints to heatmaps and back, in batched torch, and the crop geometry that goes with them."""

from posekit.codecs.base import Codec
from posekit.codecs.registry import CODECS, build_codec
from posekit.warp import (
    Warp,
    crop_matrices,
    crop_size_for,
    inverse_crop_matrices,
    transform_points,
    warp_image,
)

__all__ = [
    "CODECS",
    "Codec",
    "Warp",
    "build_codec",
    "crop_matrices",
    "crop_size_for",
    "inverse_crop_matrices",
    "transform_points",
    "warp_image",
]
