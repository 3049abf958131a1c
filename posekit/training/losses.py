"""Losses of a head's output, normalised over the head's own labelled points.

A loss returns one value for each keypoint of each sample; `loss_term` sums them up, weighted, with
what they are to be divided by, so that several micro-batches and processes add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from posekit.codecs.base import Codec
from posekit.config.base import Strict
from posekit.config.plug_ins import Parts, settings_of
from posekit.errors import ConfigError
from posekit.training.point_loss import PointLoss
from posekit.training.regression_losses import IntegralLoss, L1Loss, RleLoss


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
    loss = LOSSES.kind_of(config, where)
    typed = settings_of(loss.settings, config, where)
    if problem := loss.misfit(codec):
        raise ConfigError(f"{where}: loss '{config['kind']}' needs {problem}")
    return loss(typed)


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


class MseLoss(MapLoss):
    """See MseConfig."""

    settings = MseConfig
    activation = "none"

    def __init__(self, config: MseConfig):
        super().__init__(mse, config.scale)


class CrossEntropyLoss(MapLoss):
    """See CrossEntropyConfig."""

    settings = CrossEntropyConfig
    activation = "softmax"

    def __init__(self, config: CrossEntropyConfig):
        super().__init__(cross_entropy, config.scale)


class KlLoss(MapLoss):
    """See KlConfig."""

    settings = KlConfig

    def __init__(self, config: KlConfig):
        super().__init__(partial(kl, beta=config.beta), config.scale)

    @classmethod
    def misfit(cls, codec: Codec) -> str | None:
        """Return what the codec lacks; see `PointLoss`."""
        empty = torch.zeros(0, 1, *codec.heatmap_size)
        if codec.activation == "none" and codec.distributions(empty):
            return None
        return "maps or vectors of activation 'none'"


LOSSES: Parts[type[Any]] = Parts(
    "loss",
    {
        "mse": MseLoss,
        "cross_entropy": CrossEntropyLoss,
        "kl": KlLoss,
        "integral": IntegralLoss,
        "l1": L1Loss,
        "rle": RleLoss,
    },
    lambda part: isinstance(part, type) and issubclass(part, PointLoss),
    "a subclass of posekit.training.point_loss.PointLoss",
)
