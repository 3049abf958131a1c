"""Masked pre-training on the crops, then a short pose run, against the pose run from scratch.

python benchmarks/mae.py
"""

from __future__ import annotations

import time

from practice_runs import (
    MEASURE,
    SHORT,
    people_recipe,
    practice_folder,
    show,
    train_and_score,
)

import posekit
from posekit.training.events import Silent

STEPS = 100
PRETRAINING = 300
SEEDS = (0,)
STEM = "backbone.stem=patch"


def main() -> None:
    """Pre-train once, fine-tune and train from scratch, print a table."""
    with practice_folder(300, 150) as folder:
        listener = Silent()
        settings = [
            *SHORT,
            STEM,
            "pretraining.decoder_width=64",
            "pretraining.decoder_depth=1",
            "pretraining.decoder_heads=2",
            "augmentation.zoom=[0.3, 1]",
            "augmentation.rotation_probability=0",
        ]
        begun = time.process_time()
        recipe = people_recipe(folder, "mae", settings, PRETRAINING)
        done = posekit.pretrain(recipe, listener=listener)
        spent = time.process_time() - begun
        first, last = (listener.logs[i].loss["coco"] for i in (0, -1))
        print(
            f"{PRETRAINING} steps of pre-training: error {first:.3f} to {last:.3f}, {spent:.0f} s\n"
        )
        print(f"| pose run of {STEPS} steps | {MEASURE} | each seed |\n| --- | --- | --- |")
        starts = {
            "from scratch": [],
            "from the pre-trained backbone": [f"training.init={done.checkpoint}"],
        }
        for kind, start in starts.items():
            scores = []
            for seed in SEEDS:
                name = f"{kind}-{seed}".replace(" ", "-")
                pose = people_recipe(folder, name, [*SHORT, STEM, *start], STEPS, seed)
                scores.append(train_and_score(pose)[0])
            show(kind, scores)
        longer = STEPS + PRETRAINING // 3
        pose = people_recipe(folder, "longer", [*SHORT, STEM], longer)
        show(f"from scratch, {longer} steps", [train_and_score(pose)[0]])


if __name__ == "__main__":
    main()
