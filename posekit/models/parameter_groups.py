"""Parameter groups for the optimiser: layer-wise learning rates, weight decay where it belongs."""

from __future__ import annotations

from typing import Any

from timm.optim import param_groups_layer_decay

from posekit.models.pose_model import PoseModel


def parameter_groups(
    model: PoseModel, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return the optimiser's groups of the trainable parameters.

    The learning rate of a parameter is lr x layer_decay^(layers + 1 - id), with id 0 for stem and
    position table, n + 1 for block n, and layers + 1 for the rest (last norm, heads). One-
    dimensional tensors, biases and the position table get no weight decay.

    Returns:
        Groups with `params`, `lr`, `lr_scale` and `weight_decay`; groups that would be alike are
        one group.

    Source: ViTPose's layer-decay optimiser constructor (which ignores its own custom_keys).
    """
    undecayed = [
        name
        for name, _ in model.named_parameters()
        if name.endswith(".bias") or "pos_embed" in name or name.endswith("knowledge.token")
    ]
    groups = param_groups_layer_decay(
        model, weight_decay, no_weight_decay_list=undecayed, layer_decay=layer_decay
    )
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        scale, decay = group["lr_scale"], group["weight_decay"]
        same = merged.setdefault(
            (scale, decay),
            {"params": [], "lr": lr * scale, "lr_scale": scale, "weight_decay": decay},
        )
        same["params"] += group["params"]
    return list(merged.values())
