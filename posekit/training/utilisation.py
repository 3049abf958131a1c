"""How much of the machine's speed training uses: the model's products over a measured product."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posekit.data.batch import Batch
from posekit.models import PoseModel

_SIDE = {"cpu": 768, "cuda": 4096}
_REPEATS = 5


@dataclass(frozen=True)
class StepCost:
    """What training a sample costs, and what the machine can do.

    Attributes:
        backbone: head -> operations of training the backbone on one sample (multiplications and
            additions each count); forward, and twice as many backward where it trains.
        heads: the same of the head's own layers.
        speed: operations a second of a plain matrix product in the run's float type, one process.
    """

    backbone: Mapping[str, float]
    heads: Mapping[str, float]
    speed: float

    def of(self, batches: Sequence[Batch]) -> float:
        """Return the operations of this process's micro-batches; cached maps cost no backbone."""
        total = 0.0
        for batch in batches:
            for part in batch.parts:
                for group in part.groups:
                    each = self.heads.get(group.head, 0.0)
                    if not part.is_cached:
                        each += self.backbone.get(group.head, 0.0)
                    total += each * len(group)
        return total


def measure_step_cost(model: Any, device: torch.device, precision: str) -> StepCost | None:
    """Count a PoseModel's operations and time a product; None for other models.

    Cost: a forward pass of one sample for each input size, and five products of 768 x 768 on a CPU
    (a few hundredths of a second), 4096 x 4096 on a GPU.
    """
    if not isinstance(model, PoseModel):
        return None
    backbone, heads = {}, {}
    passes: dict[tuple[int, int], tuple[Tensor, float]] = {}
    for name in model.head_names:
        head = model.head(name)
        with torch.no_grad(), _as_in_evaluation(model):
            if head.input_size not in passes:
                images = torch.zeros(1, 3, *head.input_size, device=device)
                groups = [(name, slice(0, 1))]
                passes[head.input_size] = _counted(model.features, images, groups)
            features, of_backbone = passes[head.input_size]
            _, of_head = _counted(head, features)
        backbone[name] = of_backbone * (3.0 if _trains(model.backbone) else 1.0)
        heads[name] = of_head * (3.0 if _trains(head) else 1.0)
    return StepCost(backbone, heads, product_speed(device.type, precision))


@lru_cache(maxsize=8)
def product_speed(device: str, precision: str) -> float:
    """Return the operations a second of a matrix product, measured once a process.

    Args:
        device: 'cpu' or 'cuda'.
        precision: the recipe's: 'fp32', 'bf16' or 'fp16'.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    side = _SIDE.get(device, 768)
    factor = torch.full((side, side), 1 / side, dtype=dtype, device=device)
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        factor @ factor
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 2.0 * side**3 / min(seconds)


def _counted(call: Any, *arguments: Any) -> tuple[Tensor, float]:
    with FlopCounterMode(display=False) as counter:
        result = call(*arguments)
    return result, float(counter.get_total_flops())


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def _as_in_evaluation(model: nn.Module) -> Any:
    """Hold batch norms and drop paths in eval mode; use plain attention, which can be counted."""
    fused = [m for m in model.modules() if getattr(m, "fused_attn", False)]
    training = model.training
    model.eval()
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]
        model.train(training)
