"""The knowledge token: one token beside the image's, learned by a teacher, given to a student.

Source: ViTPose, section 3.4. The paper learns one token on the frozen teacher and joins it, frozen,
to the student's tokens. It does not say what happens where the widths differ, nor what start,
position and use at test time the token has. Chosen here: where the widths differ, a linear layer
that is trained with the student; a start normal with standard deviation 0.02; no position
embedding; the token stays in the student, and is dropped after the blocks.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from posekit.errors import CheckpointError, ConfigError
from posekit.models.pose_model import PoseModel
from posekit.models.training_state import load_training_state, save_training_state
from posekit.models.vit import KnowledgeToken, ViTBackbone

_NAME = "knowledge_token"


def attach_token(model: PoseModel, token: Tensor | int, trained: bool = False) -> KnowledgeToken:
    """Join a knowledge token to a model's backbone.

    Args:
        model: the model; its backbone must be a plain ViT. A token that it has already is replaced;
            its map, if any, stays.
        token: float (1, 1, D'), the token, or the width D' of a fresh one.
        trained: whether the token itself trains.

    Raises:
        ConfigError: the backbone is no plain ViT, or has a token of another width.
    """
    backbone = model.backbone
    if not isinstance(backbone, ViTBackbone):
        raise ConfigError("distillation.token: only plain ViTs can take a knowledge token")
    width = token if isinstance(token, int) else token.shape[-1]
    if backbone.knowledge is None:
        backbone.knowledge = KnowledgeToken(width, backbone.channels).to(model.mean.device)
        model.backbone_config["knowledge_token"] = width
    found = backbone.knowledge
    if found.token.shape[-1] != width:
        raise ConfigError(
            f"backbone.knowledge_token is {found.token.shape[-1]}, but the token of the "
            f"distillation is {width} wide; leave the key out"
        )
    if isinstance(token, Tensor):
        with torch.no_grad():
            found.token.copy_(token)
    found.token.requires_grad_(trained)
    return found


def fold_token(model: PoseModel) -> None:
    """Replace a model's token and map by the mapped token; the model's output stays the same."""
    backbone = model.backbone
    if not isinstance(backbone, ViTBackbone) or backbone.knowledge is None:
        return
    with torch.no_grad():
        mapped = backbone.knowledge().clone()
    folded = KnowledgeToken(backbone.channels, backbone.channels).to(mapped.device)
    folded.token = nn.Parameter(mapped, requires_grad=backbone.knowledge.token.requires_grad)
    backbone.knowledge = folded
    model.backbone_config["knowledge_token"] = backbone.channels


def save_token(path: Path, model: PoseModel) -> None:
    """Write a model's knowledge token, atomically; ValueError if it has none."""
    backbone = model.backbone
    if not isinstance(backbone, ViTBackbone) or backbone.knowledge is None:
        raise ValueError("the model has no knowledge token")
    save_training_state(path, {_NAME: backbone.knowledge.token.detach().cpu()})


def load_token(path: str | Path) -> Tensor:
    """Read a token that `save_token` wrote: float32 (1, 1, D).

    Raises:
        CheckpointError: there is no such file, or it holds no token.
    """
    token = load_training_state(path).get(_NAME)
    if not isinstance(token, Tensor) or token.ndim != 3 or token.shape[:2] != (1, 1):
        raise CheckpointError(
            f"{path}: no knowledge token in it; give the token.pt of a run that learned one, or "
            "leave distillation.token.file out"
        )
    return token.float()
