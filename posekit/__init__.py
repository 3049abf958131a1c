"""posekit: one backbone, many keypoint datasets, one head and one evaluator for each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["Predictor", "__version__", "load"]

_HOME = {
    "Predictor": "posekit.inference.predictor",
    "load": "posekit.inference.predictor",
}  # imported when first used, so that `import posekit` stays quick


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'posekit' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
