"""Muon for the hidden weight matrices, AdamW for the rest, in one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from posekit.training.kernels import has_fast_bf16

_QUINTIC = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Newton-Schulz coefficients (a, b, c) of each iteration, You 2025."""

_MOST_STACKED = 1 << 24
"""Numbers in one stack, so that the products' buffers stay small beside the model."""


class Muon(torch.optim.AdamW):
    """Steps weight matrices along their orthogonalised momentum, all else as AdamW does.

    The momentum M of a matrix (out, in) becomes the nearest orthogonal matrix O, and the step is
    lr * sqrt(max(1, out / in)) * O: its largest effect on a vector of a given RMS is the same
    whatever the width, so one learning rate serves ViT-S and ViT-H. A convolution (out, in, h, w)
    counts as (out, in * h * w).

    Matrices of one shape (or its transpose) go through the iteration together.

    Args:
        groups: parameter groups; those with `matrices: True` are stepped by Muon.
        lr: learning rate of groups that name none.
        momentum: share of the old momentum in the new one.
        betas: AdamW's.

    Source: Jordan 2024, "Muon: an optimizer for hidden layers"; the scale as in its reference code.
    Cost: a second copy of each stack while it is orthogonalised.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ):
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self.defaults.update(matrices=False, momentum=momentum)
        for group in self.param_groups:
            group.setdefault("matrices", False)
            group.setdefault("momentum", momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step all parameters that have a gradient; return what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["matrices"]:
                self._step_matrices([p for p in group["params"] if p.grad is not None], group)
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        if not matrices:
            return
        momenta = [self._momentum(matrix) for matrix in matrices]
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        bad: Tensor | None = getattr(self, "found_inf", None)
        keep: Tensor | float = 1.0
        if bad is not None:  # a step to leave out: 0 for the step, the momentum for the gradient
            keep, is_bad = 1.0 - bad, bad > 0
            pairs = zip(momenta, gradients, strict=True)
            gradients = [torch.where(is_bad, old, gradient) for old, gradient in pairs]
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"] * keep)
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        flat = [momentum.flatten(1) for momentum in momenta]
        for numbers in _stacks(flat):
            directions = _orthogonalised([flat[number] for number in numbers])
            for number, direction in zip(numbers, directions, strict=True):
                matrix, (rows, columns) = matrices[number], flat[number].shape
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                matrix.sub_(direction.reshape(matrix.shape) * (size * keep))

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["step"] = torch.zeros((), device=matrix.device)  # AdamW's loader looks for it
            state["momentum"] = torch.zeros_like(matrix, memory_format=torch.preserve_format)
        return state["momentum"]


def _stacks(matrices: list[Tensor]) -> list[list[int]]:
    """Return lists of numbers of matrices that are alike up to transposition, none too long."""
    alike: dict[tuple[int, int], list[list[int]]] = {}
    for number, matrix in enumerate(matrices):
        low, high = sorted(matrix.shape)
        stacks = alike.setdefault((low, high), [[]])
        if (len(stacks[-1]) + 1) * matrix.numel() > _MOST_STACKED and stacks[-1]:
            stacks.append([])
        stacks[-1].append(number)
    return [stack for stacks in alike.values() for stack in stacks]


def _orthogonalised(matrices: list[Tensor], eps: float = 1e-7) -> list[Tensor]:
    """Return the nearest orthogonal matrices (float32) of matrices that are alike.

    Source: the quintic Newton-Schulz iteration of Jordan 2024 (Muon), five steps, in bfloat16
    where the device multiplies in it.
    """
    tall = [matrix.shape[0] > matrix.shape[1] for matrix in matrices]
    wide = [m.mT if turned else m for m, turned in zip(matrices, tall, strict=True)]
    dtype = torch.bfloat16 if has_fast_bf16(wide[0].device.type) else torch.float32
    stack = torch.stack([matrix.to(dtype) for matrix in wide])
    # the iteration converges for singular values up to 1, which the Frobenius norm ensures
    stack /= stack.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for a, b, c in _QUINTIC:
        gram = torch.bmm(stack, stack.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        stack = torch.baddbmm(stack, polynomial, stack, beta=a)
    found = stack.float()
    return [f.mT if turned else f for f, turned in zip(found, tall, strict=True)]
