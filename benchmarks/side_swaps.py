"""Recall and precision of the search for instances whose left and right are exchanged.

    python benchmarks/side_swaps.py [--data CARD:SPLIT:ROOT ...] [--share 0.03] [--figures 600]

Without --data the five practice datasets are rendered. The sides of a drawn share of the instances
are exchanged; what is listed is compared with them, once with the faults planted and once without
(everything listed then is a false alarm, or a true fault of the data). `certainty` is the mean
probability that the likelier side is the right one: near 0.5 the sides cannot be told from poses.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from posekit.config.cards import load_dataset_card
from posekit.data.index import build_index
from posekit.diagnosis.pose_shapes import PoseShapes, select_poses
from posekit.diagnosis.swaps import find_side_swaps
from posekit.practice import PRACTICE_DATASETS, PracticeSizes, write_practice_data


def planted(
    poses: PoseShapes, flip: np.ndarray, share: float, seed: int
) -> tuple[PoseShapes, np.ndarray]:
    """Exchange the sides of some poses; gives them and which."""
    count = max(1, round(share * len(poses)))
    chosen = np.random.default_rng(seed).choice(len(poses), count, replace=False)
    arrays = {name: getattr(poses, name).copy() for name in ("points", "labelled", "visible")}
    for values in arrays.values():
        values[chosen] = values[chosen][:, flip]
    return replace(poses, **arrays), chosen


def row(card_name: str, split: str, root: Path, share: float, cache: str) -> None:
    """Print one line of the table."""
    index = build_index(load_dataset_card(card_name), root, split, cache)
    poses, flip = select_poses(index.columns), np.asarray(index.schema.flip_indices)
    clean = find_side_swaps(poses, flip)
    if clean is None:
        print(f"{index.name:24} too few poses with pairs")
        return
    recall, precision = [], []
    start = time.perf_counter()
    for seed in range(3):
        spoiled, chosen = planted(poses, flip, share, seed)
        found = find_side_swaps(spoiled, flip)
        hits = np.isin(found.swapped, chosen).sum()
        recall.append(hits / len(chosen))
        precision.append(hits / len(found.swapped) if len(found.swapped) else np.nan)
    seconds = (time.perf_counter() - start) / 3
    print(
        f"{index.name:24} {len(poses):6} {clean.certainty:10.3f} {np.mean(recall):8.2f} "
        f"{np.nanmean(precision) if not np.isnan(precision).all() else np.nan:10.2f} "
        f"{len(clean.swapped):16} {seconds:8.1f}"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--figures", type=int, default=600)
    options = parser.parse_args()
    print(
        f"{'split':24} {'poses':>6} {'certainty':>10} {'recall':>8} {'precision':>10} "
        f"{'listed if clean':>16} {'seconds':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sets = [text.split(":", 2) for text in options.data]
        if not sets:
            sizes = PracticeSizes(options.figures, 1)
            write_practice_data(f"{folder}/practice", 0, sizes)
            sets = [[name, "train", f"{folder}/practice/{name}"] for name in PRACTICE_DATASETS]
        for card, split, root in sets:
            row(card, split, Path(root), options.share, f"{folder}/cache")


if __name__ == "__main__":
    main()
