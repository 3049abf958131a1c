"""What a plain ViT costs to run, so that kinds of attention can be compared."""

from __future__ import annotations

from typing import Any

from posekit.models.vit import ViTBackbone


def backbone_macs(backbone: ViTBackbone, input_size: tuple[int, int]) -> dict[str, int]:
    """Count the multiply-adds of the blocks for one image of (height, width) pixels.

    Returns:
        `projections` and `ffn` (linear layers), `attention` (logits and weighted sums as the
        blocks are set up), `full_attention` (the same if every block attended everywhere).
    """
    grid = backbone.map_size(input_size)
    vit = backbone.vit
    tokens, width = grid[0] * grid[1] + vit.num_prefix_tokens, vit.embed_dim
    counts = {"projections": 0, "ffn": 0, "attention": 0, "full_attention": 0}
    block: Any
    for block in vit.blocks:
        counts["projections"] += 4 * tokens * width**2
        counts["ffn"] += 2 * tokens * width * block.mlp.fc1.out_features
        counts["full_attention"] += 2 * tokens**2 * width
        window = block.window
        pairs = tokens**2 if window is None else window.pairs(grid)
        counts["attention"] += 2 * pairs * width
    return counts
