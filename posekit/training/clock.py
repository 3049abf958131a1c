"""Time, losses and work between two logs of the loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from posekit.config.recipe import Recipe
from posekit.data.batch import Batch
from posekit.training.events import StepLog
from posekit.training.objective import Terms
from posekit.training.utilisation import StepCost


class Clock:
    """Sums up losses, samples, work and waiting between two logs; leaves tensors on the device.

    Attributes:
        step_cost: what a sample costs and how fast the machine is; None if neither is known.
    """

    def __init__(
        self, recipe: Recipe, names: Sequence[str], instances: int, accelerator: Accelerator
    ):
        training, processes = recipe.training, accelerator.num_processes
        self.samples_per_step = training.batch_size * training.accumulate * processes
        self.names = list(names)
        self.instances = instances
        self.accelerator = accelerator
        self.waited_s = 0.0
        self.step_cost: StepCost | None = None
        self._flops = 0.0
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        self._steps = 0
        self._since = time.perf_counter()
        self._step_s: float | None = None

    def add(self, batches: Sequence[Batch], terms: Terms, bad: Tensor) -> None:
        """Count one step; the losses of one that was left out (`bad` is 1) count nothing."""
        self._steps += 1
        left_out = bad > 0
        for name, term in terms.items():
            total, weight = (torch.where(left_out, torch.zeros_like(t), t) for t in term)
            before = self._sums.get(name)
            pair = (total, weight) if before is None else (before[0] + total, before[1] + weight)
            self._sums[name] = pair
        if self.step_cost is not None:
            self._flops += self.step_cost.of(batches)

    def log(self, step: int, total_steps: int, groups: Sequence[dict[str, Any]]) -> StepLog:
        """Return the log since the last one and start over."""
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        step_s = elapsed / max(self._steps, 1)
        self._step_s = step_s if self._step_s is None else 0.7 * self._step_s + 0.3 * step_s
        lr = max(group["lr"] / group.get("lr_scale", 1.0) for group in groups)
        sums = self._sums_of_all_processes()
        log = StepLog(
            step=step,
            total_steps=total_steps,
            epoch=step * self.samples_per_step / max(self.instances, 1),
            lr=lr,
            loss={name: float(t / w.clamp_min(1.0)) for name, (t, w) in sums.items()},
            images_per_s=self._steps * self.samples_per_step / elapsed,
            data_wait=min(self.waited_s / elapsed, 1.0),
            time_left_s=self._step_s * (total_steps - step),
            utilisation=None
            if self.step_cost is None
            else self._flops / elapsed / self.step_cost.speed,
        )
        self._sums, self._steps, self.waited_s, self._flops = {}, 0, 0.0, 0.0
        self._since = time.perf_counter()
        return log

    def _sums_of_all_processes(self) -> Terms:
        """Add up the sums of all processes; a head that no good step met is left out."""
        if self.accelerator.num_processes == 1:
            return {name: (t, w) for name, (t, w) in self._sums.items() if float(w) > 0}
        zero = torch.zeros((), device=self.accelerator.device)
        pairs = [torch.stack(self._sums.get(name, (zero, zero))) for name in self.names]
        total = self.accelerator.reduce(torch.stack(pairs), reduction="sum")
        return {h: (t, w) for h, (t, w) in zip(self.names, total, strict=True) if float(w) > 0}

    def skip(self) -> None:
        """Leave the time since the last step out of the speed (evaluation, saving)."""
        if self._steps == 0:
            self._since = time.perf_counter()
