"""Peak memory of a joint forward and backward pass: posekit beside the ViTPose+ stand-in.

    python benchmarks/step_memory.py [--size base] [--batch 12] [--precision fp32] [--optimizer]

Each step runs twice in a process of its own; the number is the process's peak resident memory less
what it held before the model was built. `_joint.py` says what the stand-in does. AdamW's two copies
of the parameters, the same for all, join with --optimizer.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

KINDS = ("stand-in", "posekit", "posekit, checkpointing")


def peak_mib() -> float:
    """Return this process's peak resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(kind: str, chosen: argparse.Namespace) -> float:
    """Run one kind of step in this process; gives its peak in MiB above the start."""
    from _joint import joint_batch, joint_model, posekit_step, stand_in_step  # noqa: PLC0415

    from posekit.cli.host_memory import keep_freed_memory  # noqa: PLC0415

    before = peak_mib()
    model, batch = joint_model(f"vitpose_{chosen.size}"), joint_batch(chosen.batch)
    bf16 = chosen.precision == "bf16"
    if kind == "stand-in":
        step = stand_in_step(model, batch, bf16, optimize=chosen.optimizer)
    else:
        keep_freed_memory()  # as training does
        model.backbone.gradient_checkpointing = "checkpointing" in kind
        step = posekit_step(model, batch, bf16, optimize=chosen.optimizer)
    for _ in range(2):
        step()
    return peak_mib() - before


def main() -> None:
    """Run every kind in a process of its own and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["small", "base"], default="base")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--optimizer", action="store_true")
    parser.add_argument("--json", type=Path, default=None, help="also write the numbers there")
    parser.add_argument("--child", choices=KINDS, default=None, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(child(chosen.child, chosen))
        return
    found: dict[str, float] = {}
    for kind in KINDS:
        command = [sys.executable, *sys.argv, "--child", kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[kind] = float(done.stdout.split()[-1])
    print(f"peak memory, ViT-{chosen.size}, batch {chosen.batch}, {chosen.precision}")
    print(f"  {'':24}{'MiB':>8}{'x stand-in':>12}")
    for kind, mib in found.items():
        print(f"  {kind:24}{mib:8.0f}{mib / found['stand-in']:12.3f}")
    if chosen.json is not None:
        title = f"peak memory, ViT-{chosen.size}, batch {chosen.batch}, {chosen.precision}"
        chosen.json.write_text(json.dumps({"title": title, "MiB": found}, indent=1))


if __name__ == "__main__":
    main()
