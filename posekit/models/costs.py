"""What a plain ViT costs to run, so that kinds of attention can be compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from posekit.models.vit import ViTBackbone


def backbone_macs(backbone: ViTBackbone, input_size: tuple[int, int]) -> dict[str, int]:
    """Count the multiply-adds of the backbone for one image of (height, width) pixels.

    Returns:
        `stem` (its convolutions), `projections` and `ffn` (linear layers of the blocks),
        `attention` (logits and weighted sums as the blocks are set up), `full_attention` (the
        same if every block attended everywhere).
    """
    grid = backbone.map_size(input_size)
    vit = backbone.vit
    extra = vit.num_prefix_tokens + (backbone.knowledge is not None)
    tokens, width = grid[0] * grid[1] + extra, vit.embed_dim
    counts = {"stem": _stem_macs(backbone, input_size)}
    counts |= dict.fromkeys(("projections", "ffn", "attention", "full_attention"), 0)
    block: Any
    for block in vit.blocks:
        counts["projections"] += 4 * tokens * width**2
        counts["ffn"] += 2 * tokens * width * block.mlp.fc1.out_features
        counts["full_attention"] += 2 * tokens**2 * width
        window = block.window
        pairs = tokens**2 if window is None else window.pairs(grid)
        counts["attention"] += 2 * pairs * width
    return counts


def _stem_macs(backbone: ViTBackbone, input_size: tuple[int, int]) -> int:
    """Count what the stem's convolutions do, by running it on one empty image."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        weight: Any = module.weight
        total += output[0, 0].numel() * weight.numel()

    stem = backbone.vit.patch_embed
    convolutions = [module for module in stem.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    was_training = stem.training
    try:
        like = next(stem.parameters())
        with torch.no_grad():
            stem.eval()(torch.zeros(1, 3, *input_size, device=like.device, dtype=like.dtype))
    finally:
        stem.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
