"""A joint training step (six heads, six experts) beside a stand-in for the official ViTPose+ step.

    python benchmarks/train_step.py [--size base|small] [--batch 24] [--precision fp32|bf16]

Forward, backward and AdamW on a mixed batch at 256x192. The official code cannot be installed any
more; `_joint.py` says what the stand-in does. The share of the machine's speed is the operations of
the products in posekit's step over its time, beside the speed of a plain matrix product of the same
float type timed in the same rounds.
"""

from __future__ import annotations

import statistics

import torch
from _joint import joint_batch, joint_model, posekit_step, stand_in_step
from _timing import alternate, gemm, gemm_flops, options, show, summary
from torch.utils.flop_counter import FlopCounterMode


def main() -> None:
    """Time both steps in alternation."""
    chosen = options(__doc__, rounds=3, add=_add)
    bf16 = chosen.precision == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    name, batch = f"vitpose_{chosen.size}", joint_batch(chosen.batch)
    ours = posekit_step(joint_model(name), batch, bf16)
    theirs = stand_in_step(joint_model(name), batch, bf16)
    with FlopCounterMode(display=False) as counted:
        ours()
    flops = counted.get_total_flops()
    runs = {"stand-in": theirs, "posekit": ours, "gemm": gemm(dtype)}
    seconds = alternate(runs, chosen.rounds)
    speed = gemm_flops() / statistics.median(seconds["gemm"])
    step_s = statistics.median(seconds["posekit"])
    show(
        f"joint step, ViT-{chosen.size}, batch {chosen.batch}, {chosen.precision}",
        {name: summary(seconds[name]) for name in ("stand-in", "posekit")},
        base="stand-in",
        unit="s",
        file=chosen.json,
        notes={
            "stand-in": "for the official ViTPose+ step: every head and expert on every sample",
            "GEMM, GFLOP/s": speed / 1e9,
            "posekit's step, GFLOP": flops / 1e9,
            "posekit's share of the GEMM speed": flops / step_s / speed,
        },
    )


def _add(parser) -> None:
    parser.add_argument("--size", choices=["small", "base"], default="base")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")


if __name__ == "__main__":
    main()
