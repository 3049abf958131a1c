"""Fused against plain attention on the CPU: seconds of a training step, alternated.

python benchmarks/cpu_attention.py
"""

from __future__ import annotations

import statistics
import time

import torch
from timm.models.vision_transformer import Block


def step_s(block: Block, tokens: torch.Tensor, fused: bool, dtype: torch.dtype) -> float:
    """Return the seconds of one forward and backward pass."""
    block.attn.fused_attn = fused
    begun = time.perf_counter()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = block(tokens).float().square().mean()
    loss.backward()
    return time.perf_counter() - begun


def main() -> None:
    """Print medians and ratios for small and base widths."""
    for width, heads, count in ((256, 4, 64), (384, 12, 192), (768, 12, 192)):
        block = Block(width, heads, qkv_bias=True)
        tokens = torch.randn(16, count, width)
        for dtype in (torch.float32, torch.bfloat16):
            times: dict[bool, list[float]] = {True: [], False: []}
            for repeat in range(8):
                for fused in (True, False):
                    seconds = step_s(block, tokens, fused, dtype)
                    if repeat:
                        times[fused].append(seconds)
            fused_s, plain_s = (statistics.median(times[fused]) for fused in (True, False))
            print(
                f"width {width}, {count} tokens, {str(dtype)[6:]:8}: "
                f"fused {fused_s * 1e3:7.1f} ms, plain {plain_s * 1e3:7.1f} ms, "
                f"plain/fused {plain_s / fused_s:.2f}"
            )


if __name__ == "__main__":
    main()
