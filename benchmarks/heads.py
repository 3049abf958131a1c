"""Kinds of heads on the same backbone and steps: heatmaps, SimCC, soft-argmax, regression.

python benchmarks/heads.py              or, for some rows:  python benchmarks/heads.py RLE SimCC
"""

from __future__ import annotations

import sys

from practice_runs import MEASURE, SMALL, people_recipe, practice_folder, train_and_score

from posekit.engine.setup import build_run_model, read_heads

STEPS = 120
NARROW = ("heads.coco.decoder.channels=96", "heads.coco.decoder.layers=1")
STRIDE = "heads.coco.codec.heatmap_stride=8"
KINDS: dict[str, tuple[str, ...]] = {
    "heatmap, cross-entropy": ("light_udp_ce",),
    "heatmap, squared error": ("classic_udp", *NARROW, STRIDE, "heads.coco.codec.sigma=1"),
    "SimCC, cross-entropy": ("simcc_ce",),
    "SimCC, RTMPose's divergence": ("simcc_kl",),
    "soft-argmax": ("integral", *NARROW, STRIDE, "heads.coco.codec.sigma=1"),
    "regression, L1": ("regression",),
    "regression, RLE": ("rle",),
}


def main() -> None:
    """Train each kind for a few steps and print a table."""
    with practice_folder() as folder:
        print(
            f"{STEPS} steps\n\n| head | parameters of the head | CPU s a step | {MEASURE} |\n"
            "| --- | --- | --- | --- |"
        )
        wanted = sys.argv[1:]
        for kind, (card, *settings) in KINDS.items():
            if wanted and not any(word in kind for word in wanted):
                continue
            chosen = [*SMALL, f"heads.coco.head={card}", *settings]
            recipe = people_recipe(folder, kind.replace(" ", ""), chosen, STEPS)
            model = build_run_model(recipe, read_heads(recipe))
            count = sum(parameter.numel() for parameter in model.heads["coco"].parameters())
            score, step_s = train_and_score(recipe)
            print(f"| {kind} | {count:,} | {step_s:.3f} | {score:.3f} |", flush=True)


if __name__ == "__main__":
    main()
