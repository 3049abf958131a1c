"""Prediction on photographs and videos, export, and what reads both.

Names are imported when they are first used, so that the runtime for exported models
(`posekit.inference.runtime`) works without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posekit.data.any_image import LoadedImage, load_image
    from posekit.inference.predictor import HeadPoses, Predictor, load
    from posekit.poses.fusion import fuse, union_schema
    from posekit.poses.table import Poses

_HOME = {
    "HeadPoses": "posekit.inference.predictor",
    "LoadedImage": "posekit.data.any_image",
    "Poses": "posekit.poses.table",
    "Predictor": "posekit.inference.predictor",
    "fuse": "posekit.poses.fusion",
    "load": "posekit.inference.predictor",
    "load_image": "posekit.data.any_image",
    "union_schema": "posekit.poses.fusion",
}

__all__ = [
    "HeadPoses",
    "LoadedImage",
    "Poses",
    "Predictor",
    "fuse",
    "load",
    "load_image",
    "union_schema",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
