"""The optimizer of a run, by torch or timm, over layer-wise parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch

from posekit.config.recipe import Optimizer
from posekit.models import PoseModel, parameter_groups
from posekit.training.muon import GroupedMuon


def build_optimizer(
    model: PoseModel, config: Optimizer, others: Iterable[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; its groups carry `lr_scale` for timm's schedulers.

    Parameters of the loss (`others`) get the top layer's learning rate and no weight decay.

    AdamW is ViTPose's. Muon (Jordan 2024; timm's, with updates scaled to AdamW's size) steps along
    the orthogonalised momentum of each weight matrix and learns from random weights in a fraction
    of AdamW's samples; biases, norms and the position table stay with AdamW at `adamw_lr`.
    """
    groups = parameter_groups(
        model, lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay
    )
    rest = list(others)
    if rest:
        groups.append({"params": rest, "lr": config.lr, "lr_scale": 1.0, "weight_decay": 0.0})
    if config.name == "adamw":
        for group in groups:
            group["lr"] = config.lr  # timm's schedulers multiply by the group's lr_scale
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    parts = [part for group in groups for part in _split(group, model, config)]
    return GroupedMuon(parts, lr=config.lr, momentum=config.momentum, betas=config.betas)


_TABLE = re.compile(r"pos_embed|_token$|\.token$")
"""Position tables and single tokens: rows that are added or joined, no matrices that multiply."""


def _split(group: dict[str, Any], model: PoseModel, config: Optimizer) -> list[dict[str, Any]]:
    """Split a group into its weight matrices (Muon) and the rest (AdamW)."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for parameter in group["params"]:
        name = names.get(id(parameter), "")
        is_matrix = parameter.ndim >= 2 and name and not _TABLE.search(name)
        (matrices if is_matrix else rest).append(parameter)
    scale = group["lr_scale"]
    decay = group["weight_decay"]
    parts = [
        {"params": matrices, "lr": config.lr, "lr_scale": scale, "weight_decay": decay},
        {
            "params": rest,
            "lr": config.lr,
            "lr_scale": scale * config.adamw_lr / config.lr,
            "weight_decay": decay,
            "use_fallback": True,
        },
    ]
    return [part for part in parts if part["params"]]
