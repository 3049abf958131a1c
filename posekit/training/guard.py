"""Steps whose loss or gradient is not a finite number: left out, counted and named."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from posekit.errors import TrainingError

_LAG = 2
"""Steps until a verdict is read on the host: by then the device has long finished that step."""


@dataclass(frozen=True)
class BadStep:
    """A step that was left out.

    Attributes:
        step: its number, from 1.
        reason: the first value that was not finite.
    """

    step: int
    reason: str


@dataclass(frozen=True)
class _Verdict:
    """A step's numbers on their way to the host."""

    step: int
    losses: Tensor
    norms: Tensor
    parameters: tuple[str, ...]
    copied: torch.cuda.Event | None


class StepGuard:
    """Keeps numbers that are not finite out of weights, optimizer, averages and buffers.

    The verdict on a step is made on the device and stays there: the optimizer takes it as
    `found_inf` (as from a gradient scaler), buffers are selected by it. The host reads it two steps
    later, so that a good step waits for nothing; every process reads it at the same step.

    Args:
        module: what is trained; all its buffers (batch-norm statistics, prototypes) are guarded.
        names: every name that a step's terms may have, in one order for all processes.
        max_bad_steps: bad steps in a row after which the run ends.
        shared: whether several processes share each step.

    Attributes:
        count: steps left out so far.
    """

    def __init__(
        self, module: nn.Module, names: Sequence[str], max_bad_steps: int, shared: bool = False
    ):
        self.names, self.max_bad_steps, self.shared = tuple(names), max_bad_steps, shared
        self.count = self._in_row = 0
        self._parameters = [(n.removeprefix("model."), p) for n, p in module.named_parameters()]
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = list(by_type.values())
        self._before: list[Tensor] = []
        self._verdicts: deque[_Verdict] = deque()

    @torch.no_grad()
    def begin(self) -> None:
        """Remember the buffers as they are before a step."""
        self._before = [torch.cat([b.flatten() for b in same]) for same in self._buffers]

    @torch.no_grad()
    def judge(
        self, step: int, terms: Mapping[str, tuple[Tensor, Tensor]], clip_norm: float = 0.0
    ) -> Tensor:
        """Judge a step after its backward pass, put buffers back if it is bad, clip gradients.

        Args:
            step: number of the step, from 1.
            terms: head -> (sum of its losses, sum of weights), of this process.
            clip_norm: largest norm of the gradient; 0 does not clip.

        Returns:
            float32 (), 1 for a bad step, else 0; the same on all processes.
        """
        named = [(name, p) for name, p in self._parameters if p.grad is not None]
        gradients = [p.grad for _, p in named if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients)).float()
        total = torch.linalg.vector_norm(norms)
        zero = torch.zeros_like(total)
        losses = torch.stack([terms[n][0].float() if n in terms else zero for n in self.names])
        if self.shared:
            dist.all_reduce(losses)
        bad = ~(total.isfinite() & losses.isfinite().all())
        if clip_norm:
            torch.nn.utils.clip_grads_with_norm_([p for _, p in named], clip_norm, total)
        for same, before in zip(self._buffers, self._before, strict=True):
            after = torch.cat([buffer.flatten() for buffer in same])
            kept = torch.where(bad, before, after).split([buffer.numel() for buffer in same])
            torch._foreach_copy_(same, [k.view_as(b) for k, b in zip(kept, same, strict=True)])
        self._send(step, losses, norms, tuple(name for name, _ in named))
        return bad.float()

    def found(self, wait: bool = False) -> list[BadStep]:
        """Return the bad steps that the host has come to know since the last call.

        Args:
            wait: read all steps, the newest included (before a save, an evaluation, a log line).

        Raises:
            TrainingError: too many steps in a row were bad.
        """
        bad = []
        while len(self._verdicts) > (0 if wait else _LAG):
            verdict = self._verdicts.popleft()
            reason = self._reason(verdict)
            self._in_row = self._in_row + 1 if reason else 0
            if reason:
                self.count += 1
                bad.append(BadStep(verdict.step, reason))
            if self._in_row >= self.max_bad_steps:
                raise TrainingError(
                    f"step {verdict.step}: {reason}, and so it was in {self._in_row} steps in a "
                    "row (training.max_bad_steps); the weights are those before them; lower "
                    "optimizer.lr, or take training.precision: fp32 or training.attention: math"
                )
        return bad

    def _send(self, step: int, losses: Tensor, norms: Tensor, names: tuple[str, ...]) -> None:
        """Start the copy of a step's numbers to the host."""
        event = None
        if losses.is_cuda:
            losses = torch.empty_like(losses, device="cpu", pin_memory=True).copy_(losses, True)
            norms = torch.empty_like(norms, device="cpu", pin_memory=True).copy_(norms, True)
            event = torch.cuda.Event()
            event.record()
        self._verdicts.append(_Verdict(step, losses, norms, names, event))

    def _reason(self, verdict: _Verdict) -> str:
        """Return which value of a step was not finite, or an empty string."""
        if verdict.copied is not None:
            verdict.copied.synchronize()
        for name, loss in zip(self.names, verdict.losses.tolist(), strict=True):
            if not math.isfinite(loss):
                return f"the loss of {_head_words(name)} is {loss}"
        for name, norm in zip(verdict.parameters, verdict.norms.tolist(), strict=True):
            if not math.isfinite(norm):
                return f"the gradient of {name} is {norm}"
        total = torch.linalg.vector_norm(verdict.norms)
        return "" if total.isfinite() else "the norm of the gradient is too large for float32"


def _head_words(name: str) -> str:
    head, _, extra = name.partition(".")
    return f"head '{head}'" + (f" ({extra})" if extra else "") if head else f"'{extra}'"


@torch.no_grad()
def update_average(
    average: nn.Module, model: nn.Module, decay: float, bad: Tensor, at_once: int = 64
) -> None:
    """Move an exponential moving average towards a model's weights, unless the step was bad.

    Integers are copied. The step that is left out moves nothing: its share is multiplied by 0.

    Args:
        average: the averaged model.
        model: the model as the step left it.
        decay: share of the old average.
        bad: float32 (), 1 for a bad step.
        at_once: tensors whose differences are held in memory together.
    """
    share = (1.0 - decay) * (1.0 - bad)
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
    for first in range(0, len(floats), at_once):
        means, news = map(list, zip(*floats[first : first + at_once], strict=True))
        moves = torch._foreach_sub(news, means)
        torch._foreach_mul_(moves, share)
        torch._foreach_add_(means, moves)
    for mean, new in pairs:
        if not mean.is_floating_point():
            mean.copy_(new)
