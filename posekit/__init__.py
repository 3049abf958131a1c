"""posekit: one backbone, many keypoint datasets, one head and one evaluator for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from posekit.engine.evaluate import evaluate_run
    from posekit.engine.pretrain import pretrain
    from posekit.engine.train import plan, train
    from posekit.inference.predictor import Predictor, load

__all__ = ["Predictor", "__version__", "evaluate_run", "load", "plan", "pretrain", "train"]

_HOMES = {
    "Predictor": "posekit.inference.predictor",
    "evaluate_run": "posekit.engine",
    "load": "posekit.inference.predictor",
    "plan": "posekit.engine",
    "pretrain": "posekit.engine",
    "train": "posekit.engine",
}


def __getattr__(name: str) -> Any:
    """Import the parts that users call on first use, so that `import posekit` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'posekit' has no attribute '{name}'")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
