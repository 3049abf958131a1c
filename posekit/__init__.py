"""posekit: one backbone, many keypoint datasets, one head and one evaluator for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posekit.version import __version__

if TYPE_CHECKING:
    from posekit.engine.evaluate import evaluate_run
    from posekit.engine.model_card import model_card
    from posekit.engine.prepare import prepare
    from posekit.engine.pretrain import pretrain
    from posekit.engine.profile import profile
    from posekit.engine.share import push_to_hub
    from posekit.engine.train import plan, train
    from posekit.inference.export import export
    from posekit.inference.files import predict_files
    from posekit.inference.predictor import Predictor, load

__all__ = [
    "Predictor",
    "__version__",
    "evaluate_run",
    "export",
    "load",
    "model_card",
    "plan",
    "predict_files",
    "prepare",
    "pretrain",
    "profile",
    "push_to_hub",
    "train",
]

_HOMES = {
    "Predictor": "posekit.inference.predictor",
    "evaluate_run": "posekit.engine",
    "export": "posekit.inference.export",
    "load": "posekit.inference.predictor",
    "model_card": "posekit.engine.model_card",
    "plan": "posekit.engine",
    "predict_files": "posekit.inference.files",
    "prepare": "posekit.engine",
    "pretrain": "posekit.engine",
    "profile": "posekit.engine",
    "push_to_hub": "posekit.engine.share",
    "train": "posekit.engine",
}


def __getattr__(name: str) -> Any:
    """Import the parts that users call on first use, so that `import posekit` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'posekit' has no attribute '{name}'")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
