"""What the commands do, in Python: train, plan, pre-train, evaluate, compare."""

from posekit.engine.evaluate import evaluate_run
from posekit.engine.other_datasets import evaluate_elsewhere, transfer_matrix
from posekit.engine.prepare import PreparedHead, prepare
from posekit.engine.pretrain import PretrainResult, pretrain
from posekit.engine.profile import Profile, profile
from posekit.engine.reproduce import Reproduction, reproduce
from posekit.engine.single_heads import compare_heads, train_alone
from posekit.engine.train import Plan, RunResult, plan, train

__all__ = [
    "Plan",
    "PreparedHead",
    "PretrainResult",
    "Profile",
    "Reproduction",
    "RunResult",
    "compare_heads",
    "evaluate_elsewhere",
    "evaluate_run",
    "plan",
    "prepare",
    "pretrain",
    "profile",
    "reproduce",
    "train",
    "train_alone",
    "transfer_matrix",
]
