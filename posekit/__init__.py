"""posekit: one backbone, many keypoint datasets, one head and one evaluator for each.

Every command is a function of the same name: `posekit train` is `posekit.train`. `import posekit`
loads none of them; each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from posekit.version import __version__

if TYPE_CHECKING:
    from posekit.config.recipe import load_recipe
    from posekit.engine.check import check
    from posekit.engine.compare import compare
    from posekit.engine.convert import convert
    from posekit.engine.evaluate import evaluate_run
    from posekit.engine.model_card import model_card
    from posekit.engine.other_datasets import evaluate
    from posekit.engine.predict import predict
    from posekit.engine.prepare import prepare
    from posekit.engine.prepare_run import prepare_run
    from posekit.engine.pretrain import pretrain
    from posekit.engine.profile import profile
    from posekit.engine.quickstart import quickstart
    from posekit.engine.reproduce import reproduce
    from posekit.engine.score import score
    from posekit.engine.share import push_to_hub
    from posekit.engine.train import plan, train
    from posekit.engine.view import view
    from posekit.inference.export import export
    from posekit.inference.files import predict_files
    from posekit.inference.predictor import Predictor, load
    from posekit.poses.table import Poses

__all__ = [
    "Poses",
    "Predictor",
    "__version__",
    "check",
    "compare",
    "convert",
    "evaluate",
    "evaluate_run",
    "export",
    "load",
    "load_recipe",
    "model_card",
    "plan",
    "predict",
    "predict_files",
    "prepare",
    "prepare_run",
    "pretrain",
    "profile",
    "push_to_hub",
    "quickstart",
    "reproduce",
    "score",
    "train",
    "view",
]

_HOMES = {
    "Poses": "poses.table",
    "Predictor": "inference.predictor",
    "check": "engine.check",
    "compare": "engine.compare",
    "convert": "engine.convert",
    "evaluate": "engine.other_datasets",
    "evaluate_run": "engine.evaluate",
    "export": "inference.export",
    "load": "inference.predictor",
    "load_recipe": "config.recipe",
    "model_card": "engine.model_card",
    "plan": "engine.train",
    "predict": "engine.predict",
    "predict_files": "inference.files",
    "prepare": "engine.prepare",
    "prepare_run": "engine.prepare_run",
    "pretrain": "engine.pretrain",
    "profile": "engine.profile",
    "push_to_hub": "engine.share",
    "quickstart": "engine.quickstart",
    "reproduce": "engine.reproduce",
    "score": "engine.score",
    "train": "engine.train",
    "view": "engine.view",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'posekit' has no attribute '{name}'")
    return getattr(import_module(f"posekit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook or shell."""
    return sorted(__all__)
