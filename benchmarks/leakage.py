"""Recall and precision of the search for duplicates, and its time at scale.

    python benchmarks/leakage.py [--data DIR] [--images 400] [--hashes 200000]

Half of the images of DIR (practice data if none is given) are copied: scaled by 0.3 to 1.5 with one
of three filters and saved again as JPEG of quality 30 to 95. The copies lie among the other half. A
training image counts as found rightly if its own copy is named. Draws come from a seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from posekit.diagnosis.leakage import RADIUS, find_leaks
from posekit.diagnosis.near_hashes import near_pairs
from posekit.diagnosis.pictures import OK, SIDE, ImageFacts, perceptual_hash
from posekit.practice import PracticeSizes, write_practice_data

FILTERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
KINDS = {".jpg", ".jpeg", ".png"}


def facts(pictures: list[np.ndarray]) -> ImageFacts:
    """Return what the check would have seen of pictures, without equal bytes."""
    hashed = [perceptual_hash(picture) for picture in pictures]
    count = len(pictures)
    return ImageFacts(
        state=np.full(count, OK, np.uint8),
        size=np.zeros((count, 2), np.int32),
        digest=np.zeros(count, "S32"),
        hash=np.array([value for value, _, _ in hashed], np.uint64),
        thumbnail=np.stack([thumbnail for _, thumbnail, _ in hashed]).reshape(-1, SIDE, SIDE),
        has_hash=np.array([holds for _, _, holds in hashed]),
        problems={},
    )


def copied(picture: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Scale a picture and save it again."""
    scale = float(rng.uniform(0.3, 1.5))
    method = FILTERS[int(rng.integers(len(FILTERS)))]
    scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
    _, data = cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def copies_table(files: list[Path], seed: int = 0) -> None:
    """Print recall and precision for several qualities of JPEG."""
    rng = np.random.default_rng(seed)
    files = [files[i] for i in rng.permutation(len(files))]
    pictures = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    half = len(pictures) // 2
    train, others = pictures[:half], pictures[half:]
    print(f"{half} training images, {len(others)} others beside their copies")
    print(f"{'JPEG quality':>12} {'recall':>8} {'precision':>10} {'alike only':>11}")
    own = facts(train)
    for quality in (30, 50, 75, 95):
        copies = [copied(picture, rng, quality) for picture in train]
        leaks = find_leaks(own, facts([*others, *copies]))
        right = int((leaks.other == leaks.train + len(others)).sum())
        precision = right / len(leaks.train) if len(leaks.train) else 1.0
        print(f"{quality:12} {right / half:8.3f} {precision:10.3f} {len(leaks.alike):11}")


def search_time(count: int, seed: int = 0) -> None:
    """Print how long the search for near hashes takes."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 2**64, count, dtype=np.uint64) for _ in range(2))
    start = time.perf_counter()
    found = near_pairs(a, b, RADIUS)[0]
    seconds = time.perf_counter() - start
    print(f"{count:,} by {count:,} random hashes: {seconds:.1f} s, {len(found)} pairs by chance")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--hashes", type=int, default=200_000)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            write_practice_data(folder, 0, PracticeSizes(options.images // 4, 20))
        root = options.data or Path(folder)
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in KINDS)
        chosen = np.unique(np.linspace(0, len(files) - 1, options.images).astype(int))
        copies_table([files[i] for i in chosen])
    search_time(options.hashes)


if __name__ == "__main__":
    main()
