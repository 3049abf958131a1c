"""Compiles the parts of a model that all batches run through, for a bounded number of shapes."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

from posekit.models import PoseModel


def compile_parts(model: Any, backend: str = "inductor") -> int:
    """Compile a model's transformer blocks and decoders in place; return how many modules.

    Every part keeps its name, so checkpoints are as before. Shapes are compiled as they come: the
    sampler's micro-batches hold at most as many different quotas as there are heads, so each
    input size leads to at most that many variants of a block with experts, to one of a block
    without, and to two of a decoder; later steps compile nothing. Arithmetic differs from the plain
    model's by rounding. On a CPU it needs a C++ compiler, and half a minute or more at the first
    step; its results are kept in torch's cache for the next run.

    Args:
        model: a PoseModel, or any module with such blocks.
        backend: torch.compile's.
    """
    parts: list[nn.Module] = [m for m in model.modules() if isinstance(m, Block)]
    variants = 1
    if isinstance(model, PoseModel):
        if not parts:
            parts = [model.backbone]
        sizes = {model.head(name).input_size for name in model.head_names}
        variants = len(model.head_names) * len(sizes)
        parts += [model.head(name).decoder for name in model.head_names]
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 4 * variants)
    for part in parts:
        part.compile(backend=backend, dynamic=False)
    return len(parts)
