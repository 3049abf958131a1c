"""Losses of heads that give a position instead of a map: distances, soft-argmax, RLE."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from posekit.codecs.base import Codec
from posekit.codecs.integral import IntegralCodec
from posekit.codecs.regression import RegressionCodec
from posekit.config.base import Strict
from posekit.training.point_loss import PointLoss

Distance = Literal["smooth_l1", "l1", "mse"]


class L1Config(Strict):
    """Mean absolute distance of x and y, in units of the crop's sides."""

    kind: Literal["l1"] = "l1"
    scale: float = Field(1.0, gt=0)


class IntegralLossConfig(Strict):
    """Distance of a map's mean position, and of the map itself.

    Attributes:
        distance: of x and y in units of the crop's sides, averaged; 'smooth_l1' is quadratic below
            1, as in mmpose.
        map_weight: weight of the Jensen-Shannon divergence between the map's probabilities and
            the target's; 0 leaves the map's form free.
        scale: factor of both.
    """

    kind: Literal["integral"] = "integral"
    distance: Distance = "smooth_l1"
    map_weight: float = Field(1.0, ge=0)
    scale: float = Field(1.0, gt=0)


class RleConfig(Strict):
    """Residual log-likelihood estimation.

    Attributes:
        base: 'laplace' or 'gaussian', the distribution that the flow changes.
    """

    kind: Literal["rle"] = "rle"
    base: Literal["laplace", "gaussian"] = "laplace"
    scale: float = Field(1.0, gt=0)


class L1Loss(PointLoss):
    """See L1Config."""

    settings = L1Config

    def __init__(self, config: L1Config):
        super().__init__()
        self.config = config

    @classmethod
    def misfit(cls, codec: Codec) -> str | None:
        """Return what the codec lacks; see `PointLoss`."""
        fits = isinstance(codec, RegressionCodec)
        return None if fits else "the codec 'regression'"

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Return float32 (B, K); see `PointLoss`."""
        error = output.float()[:, :, 0, :2] - target[:, :, 0, :2]
        return error.abs().mean(-1) * self.config.scale


class IntegralLoss(PointLoss):
    """See IntegralLossConfig.

    Source: mmpose 1.x, `dsnt_head.py` (with JS) and `integral_regression_head.py`. There JS is
    summed over the keypoints and the distance averaged; here both are of one keypoint.
    """

    settings = IntegralLossConfig
    uses_points = True

    def __init__(self, config: IntegralLossConfig):
        super().__init__()
        self.config = config

    @classmethod
    def misfit(cls, codec: Codec) -> str | None:
        """Return what the codec lacks; see `PointLoss`."""
        fits = isinstance(codec, IntegralCodec)
        return None if fits else "the codec 'integral'"

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Return float32 (B, K); see `PointLoss`."""
        integral = cast(IntegralCodec, codec)
        sides = points.new_tensor(codec.input_size[::-1])
        found = integral.expectation(output) / sides
        values = _distance(found, points / sides, self.config.distance).mean(-1)
        if self.config.map_weight:
            logits = output.float().flatten(2) * integral.config.beta
            values = values + self.config.map_weight * _js(logits, target.flatten(2))
        return values * self.config.scale


class RleLoss(PointLoss):
    """The negative log-likelihood of the true position, under a distribution that is learned.

    A RealNVP flow, shared by all keypoints, models the distribution of the scaled error; it is
    trained with the model and not needed afterwards.

    Source: Li et al., RLE (ICCV 2021), equation 10, in mmpose 1.x's arithmetic (`rle_head.py`,
    `regression_loss.py`): the flow's log-density is one number a keypoint and counts for both
    coordinates; the values are summed over x and y.
    """

    settings = RleConfig
    uses_points = True

    def __init__(self, config: RleConfig):
        super().__init__()
        self.config = config
        self.flow = RealNvp()

    @classmethod
    def misfit(cls, codec: Codec) -> str | None:
        """Return what the codec lacks; see `PointLoss`."""
        fits = isinstance(codec, RegressionCodec) and codec.config.spread
        return None if fits else "the codec 'regression' with spread: true"

    def forward(self, codec: Codec, output: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Return float32 (B, K); see `PointLoss`."""
        numbers = codec.to_heatmap(output)[:, :, 0]
        goal = target[:, :, 0, :2]
        sigma = numbers[..., 2:]
        error = (numbers[..., :2] - goal) / (sigma + 1e-9)
        log_phi = self.flow.log_density(error.flatten(0, 1)).unflatten(0, error.shape[:2])
        if self.config.base == "laplace":
            base = (2 * sigma).log() + error.abs()
        else:
            base = (sigma * math.sqrt(2 * math.pi)).log() + error.square() / 2
        return (sigma.log() - log_phi[..., None] + base).sum(-1) * self.config.scale


class RealNvp(nn.Module):
    """A flow between the plane and a standard normal: six couplings, one coordinate at a time.

    Source: Dinh et al., Real NVP (2017), in the sizes of RLE.
    """

    def __init__(self, couplings: int = 6, width: int = 64):
        super().__init__()
        self.scales = nn.ModuleList(_net(width, nn.Tanh()) for _ in range(couplings))
        self.shifts = nn.ModuleList(_net(width, nn.Identity()) for _ in range(couplings))
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight, gain=0.01)

    def log_density(self, points: Tensor) -> Tensor:
        """Return float32 (M,), the log-density at points (M, 2)."""
        log_det = points.new_zeros(len(points))
        # Backwards through the couplings, from the point to the normal; each changes one coordinate
        # by a function of the other, so its Jacobian is triangular and the log-determinant a sum.
        for number in reversed(range(len(self.scales))):
            kept = points.new_tensor([0.0, 1.0] if number % 2 == 0 else [1.0, 0.0])
            fixed = points * kept
            scale = self.scales[number](fixed) * (1 - kept)
            shift = self.shifts[number](fixed) * (1 - kept)
            points = (1 - kept) * (points - shift) * (-scale).exp() + fixed
            log_det = log_det - scale.sum(-1)
        return log_det - points.square().sum(-1) / 2 - math.log(2 * math.pi)


def _net(width: int, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width),
        nn.LeakyReLU(),
        nn.Linear(width, width),
        nn.LeakyReLU(),
        nn.Linear(width, 2),
        last,
    )


def _distance(found: Tensor, goal: Tensor, kind: Distance) -> Tensor:
    if kind == "smooth_l1":
        return nn.functional.smooth_l1_loss(found, goal, reduction="none")
    error = found - goal
    return error.abs() if kind == "l1" else error.square()


def _js(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence between softmax(logits) and target / sum(target)."""
    tiny = torch.finfo(torch.float32).tiny
    log_ours = logits.log_softmax(-1)
    ours, theirs = log_ours.exp(), target / target.sum(-1, keepdim=True).clamp_min(tiny)
    log_middle = ((ours + theirs) / 2).clamp_min(tiny).log()
    first = (ours * (log_ours - log_middle)).sum(-1)
    second = (theirs * (theirs.clamp_min(tiny).log() - log_middle)).sum(-1)
    return (first + second) / 2
