"""How the heads pull at the backbone: each one's share of the gradient, and whether they agree.

Source of the measures: gradient norm shares and pairwise cosines as in the literature on conflicts
in multi-task learning (Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from posekit.data.batch import Batch
from posekit.errors import ConfigError
from posekit.models import PoseModel
from posekit.models.batch_norm import statistics_of_this_process
from posekit.training.objective import Objective
from posekit.training.step import LossModule, LossScale, add_up, rows_of


@dataclass(frozen=True)
class GradientReport:
    """What one measurement found, for the shared weights of one late layer.

    Attributes:
        layer: number of the layer of the backbone (`layer_of`; its last one that trains).
        norm: head -> Euclidean norm of the gradient of its part of the loss.
        share: head -> its norm over the sum of all heads' norms; NaN if all are 0.
        cosine: (head, head) -> cosine of the two gradients, below 0 where they conflict; NaN where
            one of them is 0.
    """

    layer: int
    norm: dict[str, float]
    share: dict[str, float]
    cosine: dict[tuple[str, str], float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the log; numbers that are NaN become None."""
        return {
            "layer": self.layer,
            "norm": {head: _plain(value) for head, value in self.norm.items()},
            "share": {head: _plain(value) for head, value in self.share.items()},
            "cosine": [[a, b, _plain(value)] for (a, b), value in self.cosine.items()],
        }


def measured_parameters(model: PoseModel) -> tuple[int, list[nn.Parameter]]:
    """Return the backbone's last layer that trains and its weights that all heads share.

    Experts' weights are left out: no other head moves them, so they show no conflict.

    Raises:
        ConfigError: the whole backbone is frozen, so there is nothing to measure.
    """
    layers: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.backbone.named_parameters():
        if parameter.requires_grad and "experts" not in name.split("."):
            layers.setdefault(model.backbone.layer_of(name), []).append(parameter)
    blocks = {n: found for n, found in layers.items() if n <= model.backbone.num_layers} or layers
    if not blocks:
        raise ConfigError(
            "training.gradient_report_every: the backbone is frozen, so no head moves it; set it "
            "to 0, or let a part of the backbone train"
        )
    last = max(blocks)
    return last, blocks[last]


def check_measurable(objective: Objective) -> None:
    """Raise ConfigError if a run has no heads whose pull at the backbone could be measured."""
    if not isinstance(objective, LossModule):
        raise ConfigError(
            "training.gradient_report_every: this run trains no heads that could be compared; set "
            "it to 0"
        )
    measured_parameters(objective.model)


def measure_gradients(
    module: LossModule, batches: Sequence[Batch], scale: LossScale, factor: float = 1.0
) -> GradientReport:
    """Measure how each head's part of a step's loss moves the backbone.

    Nothing is left behind: gradients are not accumulated, buffers (batch-norm statistics) are put
    back, and losses beside the heads' own, which may keep a state, are left out. Random draws (drop
    path) are the caller's to fix, see `keyed_randomness`.

    Args:
        module: the loss module, not wrapped for several processes; in training mode.
        batches: the step's micro-batches of this process.
        scale: how the heads' terms become one loss.
        factor: the loss is multiplied by it (against underflow in float16); cancels out but for
            infinities.

    Cost: a forward pass, and a backward pass through head and one layer for every head.
    """
    layer, weights = measured_parameters(module.model)
    rows = rows_of(batches)
    label_weight = add_up(module.label_weight(batch) for batch in batches)
    factors = scale.factors(label_weight, {**dict.fromkeys(label_weight, 1.0), **rows})
    gradients: dict[str, Tensor] = {}
    with _buffers_kept(module), _without_extras(module), statistics_of_this_process():
        for batch in batches:
            terms = module(batch)
            for head, (total, _) in terms.items():
                loss = total * factors[head] * factor
                found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
                flat = _flat(found, weights) / factor
                gradients[head] = gradients[head] + flat if head in gradients else flat
    return _report(layer, {head: gradients[head] for head in rows if head in gradients})


def _report(layer: int, gradients: Mapping[str, Tensor]) -> GradientReport:
    norm = {head: float(gradient.norm()) for head, gradient in gradients.items()}
    whole = sum(norm.values())
    heads = list(gradients)
    cosine = {
        (a, b): float(gradients[a] @ gradients[b]) / (norm[a] * norm[b])
        if norm[a] * norm[b] > 0
        else float("nan")
        for i, a in enumerate(heads)
        for b in heads[i + 1 :]
    }
    share = {head: value / whole if whole > 0 else float("nan") for head, value in norm.items()}
    return GradientReport(layer, norm, share, cosine)


@contextmanager
def _without_extras(module: LossModule) -> Iterator[None]:
    """Let a module give the heads' losses only."""
    extras, module.extras = module.extras, ()
    try:
        yield
    finally:
        module.extras = extras


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put every buffer back to what it was."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _flat(gradients: Sequence[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    """Return a float64 vector on the CPU; a weight that the head does not move counts as 0."""
    parts = [
        torch.zeros_like(weight) if gradient is None else gradient
        for gradient, weight in zip(gradients, weights, strict=True)
    ]
    return torch.cat([part.detach().cpu().double().flatten() for part in parts])


def _plain(value: float) -> float | None:
    return value if isfinite(value) else None
