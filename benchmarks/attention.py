"""Kinds of attention at feature stride 8: cost, CPU time of a step, accuracy.

python benchmarks/attention.py
"""

from __future__ import annotations

from practice_runs import MEASURE, SHORT, people_recipe, practice_folder, train_and_score

from posekit.engine.setup import build_run_model, read_heads
from posekit.models.costs import backbone_macs

STEPS = 80
WINDOW = "backbone.window=[4, 4]"
KINDS = {
    "full": "full",
    "window": "window",
    "window + shift": "[window, shifted]",
    "window + pool": "pooled",
    "window + shift + pool": "[pooled, shifted_pooled]",
    "window + full": "[window, window, window, full]",
}


def main() -> None:
    """Train each kind for a few steps and print a table."""
    with practice_folder(300, 150) as folder:
        print(
            f"12x8 tokens, windows of 4x4, {STEPS} steps\n\n| attention | attention's products, "
            f"share of full | whole backbone | CPU s a step | {MEASURE} |\n| --- | --- | --- | --- "
            "| --- |"
        )
        for kind, pattern in KINDS.items():
            settings = [
                *SHORT,
                "backbone.feature_stride=8",
                "heads.coco.head=simple_udp_ce",
                "heads.coco.decoder.upsample=1",
                "heads.coco.codec={heatmap_stride: 8, sigma: 1, smoothing: 0.7, refine: quarter}",
                f"backbone.attention={pattern}",
                WINDOW,
                "backbone.relative_bias=true",
            ]
            recipe = people_recipe(folder, kind.replace(" ", ""), settings, STEPS)
            macs = backbone_macs(build_run_model(recipe, read_heads(recipe)).backbone, (96, 64))
            rest = macs["projections"] + macs["ffn"]
            share = macs["attention"] / macs["full_attention"]
            whole = (rest + macs["attention"]) / (rest + macs["full_attention"])
            score, step_s = train_and_score(recipe)
            print(
                f"| {kind} | {share:.0%} | {whole:.0%} | {step_s:.3f} | {score:.3f} |", flush=True
            )


if __name__ == "__main__":
    main()
