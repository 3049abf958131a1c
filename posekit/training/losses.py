"""Losses of a head's output, normalised over the head's own labelled points.

A loss returns one value for each keypoint of each sample; `loss_term` sums them up, weighted, with
what they are to be divided by, so that several micro-batches and processes add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from posekit.codecs.base import Codec
from posekit.codecs.integral import IntegralCodec
from posekit.codecs.regression import RegressionCodec
from posekit.config.base import Strict, validate
from posekit.errors import ConfigError, nearest
from posekit.training.point_loss import PointLoss
from posekit.training.regression_losses import (
    IntegralLoss,
    IntegralLossConfig,
    L1Config,
    L1Loss,
    RleConfig,
    RleLoss,
)


class MseConfig(Strict):
    """ViTPose's weighted mean squared error between heatmaps.

    Attributes:
        scale: factor of the loss, which is of the order of 1e-3 at the start.
    """

    kind: Literal["mse"] = "mse"
    scale: float = Field(1.0, gt=0)


class CrossEntropyConfig(Strict):
    """Cross-entropy between the map's softmax over positions and the normalised target.

    Learns many times faster than MSE from random weights; the head's codec needs
    `activation: softmax`.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    scale: float = Field(1.0, gt=0)


class KlConfig(Strict):
    """SimCC's divergence between vectors, as RTMPose trains it.

    The target is softmax(beta g) of the encoded vector g, and the head's vector z gives
    softmax(beta z), so z comes to look like g itself and is decoded without a softmax.

    Attributes:
        beta: factor of both before their softmax.
    """

    kind: Literal["kl"] = "kl"
    beta: float = Field(10.0, gt=0)
    scale: float = Field(1.0, gt=0)


def build_loss(config: dict[str, Any], codec: Codec, where: str) -> PointLoss:
    """Return the per-point loss that a head card's `loss` mapping describes.

    Raises:
        ConfigError: unknown kind or key, or a loss that does not go with the codec's activation.
    """
    kind = config.get("kind")
    if kind not in _LOSSES:
        raise ConfigError(f"{where}: unknown loss '{kind}'{nearest(str(kind), _LOSSES)}")
    model, build, refuse = _LOSSES[kind]
    typed = validate(model, config, where)
    if problem := refuse(codec):
        raise ConfigError(f"{where}: loss '{kind}' needs {problem}")
    return build(typed)


class MapLoss(PointLoss):
    """A plain function of output and target, times a factor."""

    def __init__(self, function: Callable[[Codec, Tensor, Tensor], Tensor], scale: float):
        super().__init__()
        self.function, self.scale = function, scale

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Return float32 (B, K); see `PointLoss`."""
        return self.function(codec, output, target) * self.scale


def mse(codec: Codec, output: Tensor, target: Tensor) -> Tensor:
    """Return (B, K), the squared error of each keypoint's maps averaged over their pixels.

    Source: ViTPose's JointsMSELoss without its mean over batch and keypoints.
    """
    batch = output.shape[0]
    error = (output.float() - target).square()
    return error.reshape(batch, -1, codec.channels_per_keypoint * _pixels(output)).mean(-1)


def cross_entropy(codec: Codec, output: Tensor, target: Tensor) -> Tensor:
    """Return (B, K), the cross-entropy between softmax(output) and target / sum(target).

    A codec with several distributions a keypoint (SimCC) gets their mean. A target of sum 0
    costs nothing.
    """
    parts = []
    for logits, goal in zip(
        codec.distributions(output.float()), codec.distributions(target), strict=True
    ):
        mass = goal.sum(-1, keepdim=True)
        share = goal / mass.clamp_min(torch.finfo(goal.dtype).tiny)
        parts.append(-(share * logits.log_softmax(-1)).sum(-1))
    return torch.stack(parts).mean(0)


def kl(codec: Codec, output: Tensor, target: Tensor, beta: float) -> Tensor:
    """Return (B, K), KL(softmax(beta target) || softmax(beta output)) of each vector.

    The mean over bins is taken, and the sum over a keypoint's vectors.

    Source: mmpose 1.x, `KLDiscretLoss` with `use_target_softmax`, without its sum over keypoints
    and division by K.
    """
    total = torch.zeros((), device=output.device)
    for ours, goal in zip(
        codec.distributions(output.float()), codec.distributions(target), strict=True
    ):
        log_goal = (goal * beta).log_softmax(-1)
        total = total + (log_goal.exp() * (log_goal - (ours * beta).log_softmax(-1))).mean(-1)
    return total


def loss_term(
    loss: PointLoss, codec: Codec, output: Tensor, points: Tensor, labelled: Tensor
) -> tuple[Tensor, Tensor]:
    """Encode the targets of one head's rows and return its weighted loss and the weights, summed.

    Args:
        loss: per-point loss.
        codec: the head's codec.
        output: (n, C, H, W), the head's output.
        points: float32 (n, K, 2) in crop pixels.
        labelled: float32 (n, K), weight of each point before encoding.
    """
    target, weights = codec.encode(points, labelled)
    values = loss(codec, output, target, points)
    return (values * weights).sum(), weights.sum()


def _pixels(output: Tensor) -> int:
    return output.shape[-2] * output.shape[-1]


def _activation(wanted: str) -> Callable[[Codec], str | None]:
    def problem(codec: Codec) -> str | None:
        if codec.activation == wanted:
            return None
        return f"the codec's activation to be '{wanted}', found '{codec.activation}'"

    return problem


def _needs_vectors(codec: Codec) -> str | None:
    if codec.activation == "none" and codec.distributions(torch.zeros(0, 1, *codec.heatmap_size)):
        return None
    return "maps or vectors of activation 'none'"


def _needs_integral(codec: Codec) -> str | None:
    return None if isinstance(codec, IntegralCodec) else "the codec 'integral'"


def _needs_numbers(codec: Codec) -> str | None:
    return None if isinstance(codec, RegressionCodec) else "the codec 'regression'"


def _needs_spread(codec: Codec) -> str | None:
    has_spread = isinstance(codec, RegressionCodec) and codec.config.spread
    return None if has_spread else "the codec 'regression' with spread: true"


class _Entry(NamedTuple):
    config: type[Any]
    build: Callable[[Any], PointLoss]
    refuse: Callable[[Codec], str | None]


_LOSSES: dict[str, _Entry] = {
    "mse": _Entry(MseConfig, lambda c: MapLoss(mse, c.scale), _activation("none")),
    "cross_entropy": _Entry(
        CrossEntropyConfig, lambda c: MapLoss(cross_entropy, c.scale), _activation("softmax")
    ),
    "kl": _Entry(KlConfig, lambda c: MapLoss(partial(kl, beta=c.beta), c.scale), _needs_vectors),
    "integral": _Entry(IntegralLossConfig, IntegralLoss, _needs_integral),
    "l1": _Entry(L1Config, L1Loss, _needs_numbers),
    "rle": _Entry(RleConfig, RleLoss, _needs_spread),
}
