"""Seconds and peak memory of the OKS engines beside pycocotools and xtcocotools.

    python benchmarks/oks_ap.py [--images 5000] [--detections 100000] [--keypoints 17] [--rounds 3]

Problems are drawn from a seed at COCO val2017's scale. Engines run in alternation, each round all
of them; the fastest round counts. Time is from arrays to the ten numbers; for the references that
includes making their dictionaries from the arrays. Every number must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import time
from collections.abc import Callable

import numpy as np

from posekit.errors import PosekitError
from posekit.evaluation import oks_engine, oks_reference
from posekit.evaluation.oks import numbers
from posekit.evaluation.oks_engine import OksDetections, OksResult, OksTruth


def problem(
    images: int, detections: int, keypoints: int, seed: int = 0
) -> tuple[OksTruth, OksDetections, np.ndarray]:
    """Draw people, crowds and detections: near hits, repeats and false ones, many to an image."""
    rng = np.random.default_rng(seed)
    people = np.minimum(rng.geometric(0.4, images) - 1, 13)
    image = np.repeat(np.arange(images), people)
    count = len(image)
    side = np.exp(rng.uniform(np.log(20), np.log(400), count))
    corner = rng.uniform(0, 400, (count, 2))
    box = np.column_stack([corner, side, 2 * side])
    points = box[:, None, :2] + rng.uniform(0, 1, (count, keypoints, 2)) * box[:, None, 2:]
    labelled = rng.random((count, keypoints)) < rng.choice([0.0, 0.3, 0.7, 1.0], (count, 1))
    is_crowd = rng.random(count) < 0.02
    truth = OksTruth(
        image=image,
        category=np.zeros(count, np.int64),
        keypoints=np.round(points),
        labelled=labelled,
        box_xywh=box,
        area=0.6 * side * 2 * side,
        is_ignored=is_crowd | ~labelled.any(axis=1),
        is_crowd=is_crowd,
    )
    of = rng.integers(0, count, detections)
    spread = rng.choice([0.02, 0.05, 0.2, 1.0], detections) * side[of]
    moved = points[of] + rng.normal(size=(detections, keypoints, 2)) * spread[:, None, None]
    lost = rng.random(detections) < 0.5
    where = np.where(lost, rng.integers(0, images, detections), image[of])
    extent = np.ptp(moved, axis=1)
    found = OksDetections(
        image=where,
        category=np.zeros(detections, np.int64),
        keypoints=moved,
        score=np.round(rng.random(detections), 3),
        area=extent.prod(axis=1),
    )
    return truth, found, rng.uniform(0.025, 0.11, keypoints)


def fast(truth: OksTruth, found: OksDetections, sigmas: np.ndarray) -> OksResult:
    """Run posekit's engine."""
    matches = oks_engine.match(truth, found, sigmas)
    return oks_engine.accumulate(truth, found, matches, 1)


def reference(run: Callable[..., OksResult]) -> Callable[..., OksResult]:
    """Run a reference with one category, silently."""

    def silent(truth: OksTruth, found: OksDetections, sigmas: np.ndarray) -> OksResult:
        with contextlib.redirect_stdout(io.StringIO()):
            return run(truth, found, sigmas, 1)

    return silent


def peak_mib() -> float:
    """Peak resident memory of this process up to now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table and fail if any number differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--keypoints", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    truth, found, sigmas = problem(options.images, options.detections, options.keypoints)
    before = peak_mib()
    print(f"{options.images} images, {len(truth.image)} people, {options.detections} detections")
    engines = {
        "posekit": fast,
        "pycocotools": reference(oks_reference.with_pycocotools),
        "xtcocotools": reference(oks_reference.with_xtcocotools),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    results: dict[str, dict[str, float]] = {}
    memory: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, engine in list(engines.items()):
            start = time.perf_counter()
            try:
                results[name] = numbers(engine(truth, found, sigmas))
            except PosekitError as error:
                print(f"{name}: left out, {error}")
                del engines[name]
                continue
            seconds[name].append(time.perf_counter() - start)
            memory.setdefault(name, peak_mib() - before)
    slowest = min(seconds["pycocotools"])
    print(f"{'engine':12} {'seconds':>8} {'x pycocotools':>14} {'MiB grown so far':>16}")
    for name in engines:
        best = min(seconds[name])
        print(f"{name:12} {best:8.3f} {best / slowest:14.4f} {memory[name]:16.0f}")
    for name, found_numbers in results.items():
        assert found_numbers == results["posekit"], (name, found_numbers, results["posekit"])
    print("equal to the last bit:", ", ".join(results))
    print({name: round(value, 4) for name, value in results["posekit"].items()})


if __name__ == "__main__":
    main()
