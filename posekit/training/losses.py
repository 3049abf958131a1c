"""Losses of a head's output, normalised over the head's own labelled points.

A loss gives one value for each keypoint of each sample; `LossTerm` holds their weighted sum and
what it is to be divided by, so that several micro-batches and processes add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from posekit.codecs.base import Codec
from posekit.config import Strict, validate
from posekit.errors import ConfigError, nearest


class PointLoss(nn.Module):
    """Gives one value for each keypoint of each sample; may have parameters of its own.

    Attributes:
        uses_points: whether it reads `points` at all.
    """

    uses_points = False

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Give float32 (B, K), not yet weighted.

        Args:
            codec: the head's codec.
            output: (B, C, H, W), what the head gave.
            target: float32 (B, C, H, W), maps as the codec encodes them or a teacher gives them.
            points: float32 (B, K, 2), what the target stands for, in crop pixels; anything where
                a keypoint has no weight.
        """
        raise NotImplementedError


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


@dataclass
class LossTerm:
    """A head's loss before division: the weighted sum over points, and two possible divisors.

    Attributes:
        total: float32 (), sum of weight * loss over the head's points.
        weight: float32 (), sum of the weights: the labelled points.
        points: number of points, labelled or not (rows times K).
    """

    total: Tensor
    weight: Tensor
    points: int


def build_loss(config: dict[str, Any], codec: Codec, where: str) -> PointLoss:
    """Give the per-point loss that a head card's `loss` mapping describes.

    Raises:
        ConfigError: unknown kind or key, or a loss that does not go with the codec's activation.
    """
    kind = config.get("kind")
    if kind not in _LOSSES:
        raise ConfigError(f"{where}: unknown loss '{kind}'{nearest(str(kind), _LOSSES)}")
    model, build, activation = _LOSSES[kind]
    typed = validate(model, config, where)
    if codec.activation != activation:
        raise ConfigError(
            f"{where}: loss '{kind}' needs the codec's activation to be '{activation}', "
            f"found '{codec.activation}'"
        )
    return build(typed)


class MapLoss(PointLoss):
    """A plain function of output and target, times a factor."""

    def __init__(self, function: Callable[[Codec, Tensor, Tensor], Tensor], scale: float):
        super().__init__()
        self.function, self.scale = function, scale

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Give float32 (B, K); see `PointLoss`."""
        return self.function(codec, output, target) * self.scale


def mse(codec: Codec, output: Tensor, target: Tensor) -> Tensor:
    """Give (B, K), the squared error of each keypoint's maps averaged over their pixels.

    Source: ViTPose's JointsMSELoss without its mean over batch and keypoints, which is
    `LossTerm.total / LossTerm.points`.
    """
    batch = output.shape[0]
    error = (output.float() - target).square()
    return error.reshape(batch, -1, codec.channels_per_keypoint * _pixels(output)).mean(-1)


def cross_entropy(codec: Codec, output: Tensor, target: Tensor) -> Tensor:
    """Give (B, K), the cross-entropy between softmax(output) and target / sum(target).

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


def loss_term(
    loss: PointLoss, codec: Codec, output: Tensor, points: Tensor, labelled: Tensor
) -> LossTerm:
    """Encode the targets of one head's rows and give its loss term.

    Args:
        loss: per-point loss.
        codec: the head's codec.
        output: (n, C, H, W), what the head gave.
        points: float32 (n, K, 2) in crop pixels.
        labelled: float32 (n, K), weight of each point before encoding.
    """
    target, weights = codec.encode(points, labelled)
    values = loss(codec, output, target, points)
    return LossTerm((values * weights).sum(), weights.sum(), weights.numel())


def _pixels(output: Tensor) -> int:
    return output.shape[-2] * output.shape[-1]


_LOSSES: dict[str, tuple[type[Any], Callable[[Any], PointLoss], str]] = {
    "mse": (MseConfig, lambda config: MapLoss(mse, config.scale), "none"),
    "cross_entropy": (
        CrossEntropyConfig,
        lambda config: MapLoss(cross_entropy, config.scale),
        "softmax",
    ),
}
