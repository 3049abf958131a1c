"""Muon that orthogonalises all weight matrices of one shape in one batched product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import Muon
from torch import Tensor

_QUINTIC = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Newton-Schulz coefficients (a, b, c) of each iteration, You 2025; timm's default."""

_MOST_STACKED = 1 << 24
"""Numbers in one stack, so that the products' buffers stay small beside the model."""


class GroupedMuon(Muon):
    """timm's Muon with the same steps, state and settings, in a tenth of the calls.

    A ViT has a handful of shapes among its matrices. Those of one shape (or its transpose) are
    stacked and go through the Newton-Schulz iteration together; momentum, decay and the step
    itself run over lists. Biases, norms and what AdamW updates is left to timm.

    Cost: a second copy of each stack in bfloat16 while it is orthogonalised.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step all parameters that have a gradient; gives what `closure` gives."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        done: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if not group.get("use_fallback", False):
                matrices = [p for p in group["params"] if p.grad is not None and p.ndim >= 2]
                self._step_matrices(matrices, group)
                done += [(matrix, matrix.grad) for matrix in matrices]
        for matrix, _ in done:
            matrix.grad = None  # timm steps what has a gradient
        super().step()
        for matrix, gradient in done:
            matrix.grad = gradient
        return loss

    def _step_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        if not matrices:
            return
        momenta = [self._momentum(matrix) for matrix in matrices]
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        flat = [momentum.flatten(1) for momentum in momenta]  # a convolution is (out, in * h * w)
        for numbers in _stacks(flat):
            directions = _orthogonalised([flat[number] for number in numbers], group["eps"])
            # an update as large as AdamW's (Liu et al. 2025, arXiv:2502.16982)
            scale = 0.2 * max(flat[numbers[0]].shape) ** 0.5
            for number, direction in zip(numbers, directions, strict=True):
                matrix = matrices[number]
                matrix.add_(direction.reshape(matrix.shape), alpha=-group["lr"] * scale)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["use_muon"] = True
            state["momentum_buffer"] = torch.zeros_like(matrix, memory_format=torch.preserve_format)
        return state["momentum_buffer"]


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


def _orthogonalised(matrices: list[Tensor], eps: float) -> list[Tensor]:
    """Return the nearest orthogonal matrices (bfloat16) of matrices that are alike.

    Source: the quintic Newton-Schulz iteration of Jordan 2024 (Muon), five steps.
    """
    tall = [matrix.shape[0] > matrix.shape[1] for matrix in matrices]
    wide = [m.mT if turned else m for m, turned in zip(matrices, tall, strict=True)]
    stack = torch.stack([matrix.to(torch.bfloat16) for matrix in wide])
    # the iteration converges for singular values up to 1, which the Frobenius norm ensures
    stack /= stack.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for a, b, c in _QUINTIC:
        gram = torch.bmm(stack, stack.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        stack = torch.baddbmm(stack, polynomial, stack, beta=a)
    return [f.mT if turned else f for f, turned in zip(stack, tall, strict=True)]
