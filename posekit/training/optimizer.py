"""The optimizer of a run, by torch or timm, over layer-wise parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch

from posekit.config.recipe import Optimizer
from posekit.models import PoseModel, parameter_groups
from posekit.training.muon import Muon


def build_optimizer(
    model: PoseModel, config: Optimizer, others: Iterable[torch.nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; its groups carry `lr_scale` for timm's schedulers.

    Parameters of the loss (`others`) get the top layer's learning rate and no weight decay.

    AdamW is ViTPose's. Muon steps along the orthogonalised momentum of each hidden weight matrix
    and learns from random weights in a fraction of AdamW's samples. The stem's first convolution,
    each head's last layer, biases, norms and position tables stay with AdamW at `adamw_lr`.
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
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden = hidden_matrices(model)
    parts = [part for group in groups for part in _split(group, names, hidden, config)]
    return Muon(parts, lr=config.lr, momentum=config.momentum, betas=config.betas)


_TABLE = re.compile(r"pos_embed|_token$|\.token$")
"""Position tables and single tokens: rows that are added or joined, no matrices that multiply."""


def hidden_matrices(model: torch.nn.Module) -> set[str]:
    """Return the names of a model's weights that multiply one hidden layer into another."""
    names = [name for name, p in model.named_parameters() if p.ndim >= 2]
    stem = [name for name in names if ".patch_embed." in name][:1]
    last = {name.split(".")[1]: name for name in names if name.startswith("heads.")}
    return {name for name in names if not _TABLE.search(name)} - set(stem) - set(last.values())


def _split(
    group: dict[str, Any], names: dict[int, str], hidden: set[str], config: Optimizer
) -> list[dict[str, Any]]:
    """Split a group into its hidden matrices (Muon) and the rest (AdamW)."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for parameter in group["params"]:
        (matrices if names.get(id(parameter)) in hidden else rest).append(parameter)
    scale, decay = group["lr_scale"], group["weight_decay"]
    own = {"lr": config.lr, "lr_scale": scale, "weight_decay": decay}
    other = {**own, "lr_scale": scale * config.adamw_lr / config.lr}
    parts = [{"params": matrices, "matrices": True, **own}, {"params": rest, **other}]
    return [part for part in parts if part["params"]]
