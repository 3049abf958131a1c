"""Backbones, experts, decoders, the model that joins them, and its checkpoints."""

from posekit.models.build import build_model
from posekit.models.checkpoint import load_into, load_model, save_checkpoint
from posekit.models.checkpoint_file import load_checkpoint, read_description
from posekit.models.parameter_groups import parameter_groups
from posekit.models.pose_model import HeadSpec, PoseHead, PoseModel
from posekit.models.training_state import load_training_state, save_training_state

__all__ = [
    "HeadSpec",
    "PoseHead",
    "PoseModel",
    "build_model",
    "load_checkpoint",
    "load_into",
    "load_model",
    "load_training_state",
    "parameter_groups",
    "read_description",
    "save_checkpoint",
    "save_training_state",
]
