"""Batch norm over the rows of all processes, a process without any row included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from posekit.models.processes import rank_and_size

_alone = 0


@contextmanager
def statistics_of_this_process() -> Iterator[None]:
    """Let batch norms inside see the rows of this process only, so that it may run them alone."""
    global _alone  # noqa: PLW0603 - a switch of the process, as torch.no_grad is
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


class SharedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose statistics in training are those of all processes' rows together.

    Every process must call it as often and in the same order as the others; one that has no rows
    calls it with none. N processes thus normalise as one with the same samples, to rounding. In
    evaluation mode, and in one process, it is nn.BatchNorm2d.

    Unlike nn.SyncBatchNorm it runs on CPUs too, and takes empty inputs.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features (n, C, h, w); n may be 0 with several processes."""
        if not self.training or _alone or rank_and_size()[1] == 1:
            return super().forward(features)
        output, mean, variance, count = _SharedNorm.apply(
            features, self.weight, self.bias, self.eps
        )
        if self.track_running_stats:
            self._update(mean, variance, count)
        return output

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        seen = (count > 0).to(mean.dtype)  # on the device: nothing waits for it
        share = seen * (self.momentum if self.momentum is not None else 0.1)
        unbiased = variance * count / (count - 1).clamp_min(1.0)
        assert self.running_mean is not None and self.running_var is not None  # noqa: S101, PT018
        self.running_mean.add_((mean - self.running_mean) * share)
        self.running_var.add_((unbiased - self.running_var) * share)
        assert self.num_batches_tracked is not None  # noqa: S101
        self.num_batches_tracked.add_(seen.to(torch.long))


class _SharedNorm(torch.autograd.Function):
    """Normalise by joint moments; one exchange forward, one backward.

    Source of the backward pass: Ioffe and Szegedy, Batch Normalization (ICML 2015), section 3. The
    moments are joined by Chan's formula, which does not cancel as sums of squares do.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = features.float()
        own_count = values.new_full((1,), values.numel() / values.shape[1])
        if len(values):
            own_mean = values.mean((0, 2, 3))
            spread = (values - own_mean[:, None, None]).square().sum((0, 2, 3))
        else:
            own_mean, spread = values.new_zeros(2, values.shape[1])
        mine = torch.cat([own_count, own_mean, spread])
        everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, mine)
        counts, means, spreads = torch.stack(everyone).split([1, len(own_mean), len(spread)], 1)
        count = counts.sum().clamp_min(1e-12)
        mean = (counts * means).sum(0) / count
        variance = (spreads + counts * (means - mean).square()).sum(0) / count
        scale = (variance + eps).rsqrt()
        normed = (values - mean[:, None, None]) * scale[:, None, None]
        ctx.save_for_backward(normed, weight, scale, count)
        output = normed * weight[:, None, None] + bias[:, None, None]
        ctx.mark_non_differentiable(mean, variance, counts)
        return output.to(features.dtype), mean, variance, counts.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight, scale, count = ctx.saved_tensors
        gradient = gradients[0].float()
        own = torch.stack([gradient.sum((0, 2, 3)), (gradient * normed).sum((0, 2, 3))])
        joint = own.clone()
        dist.all_reduce(joint)
        mean, along = (joint / count)[:, :, None, None]
        factor = (weight * scale)[:, None, None]
        back = factor * (gradient - mean - normed * along)
        # the reducer of the gradients adds up the processes' shares of weight and bias
        return back.to(gradients[0].dtype), own[1], own[0], None


def unused_batch_norms(model: nn.Module) -> list[str]:
    """Return the names of batch norms in training mode that have never seen a sample."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, SharedBatchNorm2d)
        and module.training
        and module.num_batches_tracked is not None
        and int(module.num_batches_tracked) == 0
    ]
