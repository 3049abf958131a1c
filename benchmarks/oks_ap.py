"""Seconds and peak memory of the OKS engine beside pycocotools and xtcocotools.

    python benchmarks/oks_ap.py [--mode coco|crowd|wholebody] [--images 5000]
                                [--detections 100000] [--rounds 3]

Problems are drawn from a seed, by default at COCO val2017's scale. Engines run in alternation, each
round all of them; the fastest round counts. Time is from arrays to the printed numbers; for the
references that includes making their dictionaries from the arrays. Every number must be equal to
the last bit. Modes:

    coco       ten numbers, beside pycocotools and xtcocotools
    crowd      CrowdPose: nine numbers, with easy, medium and hard images, beside xtcocotools'
               keypoints_crowd without areas
    wholebody  COCO-WholeBody: ten numbers of body, foot, face, both hands and the whole, beside
               xtcocotools' six evaluations
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posekit.errors import PosekitError
from posekit.evaluation import oks_engine, oks_reference
from posekit.evaluation.oks import numbers
from posekit.evaluation.oks_engine import OksDetections, OksResult, OksTruth

PARTS = {
    "body": ("keypoints", 17),
    "foot": ("foot_kpts", 6),
    "face": ("face_kpts", 68),
    "lefthand": ("lefthand_kpts", 21),
    "righthand": ("righthand_kpts", 21),
}
KEYPOINTS = {"coco": 17, "crowd": 14, "wholebody": sum(count for _, count in PARTS.values())}
CROWD_BOUNDS = (0.2, 0.8)


@dataclass(frozen=True)
class Problem:
    """Truth, detections, sigmas, and a crowd index for each image."""

    truth: OksTruth
    found: OksDetections
    sigmas: np.ndarray
    crowd_index: np.ndarray


def draw(images: int, detections: int, mode: str, seed: int = 0) -> Problem:
    """Draw people, crowds and detections: near hits, repeats and false ones, many to an image."""
    rng = np.random.default_rng(seed)
    keypoints = KEYPOINTS[mode]
    people = np.minimum(rng.geometric(0.4, images) - 1, 13)
    image = np.repeat(np.arange(images), people)
    count = len(image)
    side = np.exp(rng.uniform(np.log(20), np.log(400), count))
    corner = rng.uniform(0, 400, (count, 2))
    box = np.column_stack([corner, side, 2 * side])
    points = box[:, None, :2] + rng.uniform(0, 1, (count, keypoints, 2)) * box[:, None, 2:]
    labelled = rng.random((count, keypoints)) < rng.choice([0.0, 0.3, 0.7, 1.0], (count, 1))
    is_crowd = (rng.random(count) < 0.02) & (mode != "crowd")
    truth = OksTruth(
        image=image,
        category=np.zeros(count, np.int64),
        keypoints=np.round(points),
        labelled=labelled,
        box_xywh=box,
        area=box[:, 2] * box[:, 3] * (0.53 if mode == "crowd" else 0.6),
        is_ignored=is_crowd | ~labelled.any(axis=1),
        is_crowd=is_crowd,
    )
    of = rng.integers(0, count, detections)
    spread = rng.choice([0.02, 0.05, 0.2, 1.0], detections) * side[of]
    moved = points[of] + rng.normal(size=(detections, keypoints, 2)) * spread[:, None, None]
    lost = rng.random(detections) < 0.5
    where = np.where(lost, rng.integers(0, images, detections), image[of])
    found = OksDetections(
        image=where,
        category=np.zeros(detections, np.int64),
        keypoints=moved,
        score=np.round(rng.random(detections), 3),
        area=np.ptp(moved, axis=1).prod(axis=1),
    )
    return Problem(truth, found, rng.uniform(0.025, 0.11, keypoints), rng.random(images))


def fast(problem: Problem, mode: str) -> dict[str, float]:
    """Return posekit's numbers."""
    truth, found = problem.truth, problem.found
    if mode == "wholebody":
        return _fast_parts(problem)
    matches = oks_engine.match(truth, found, problem.sigmas)
    result = numbers(oks_engine.accumulate(truth, found, matches, 1))
    if mode == "coco":
        return result
    result = {name: value for name, value in result.items() if "(" not in name}
    low, high = CROWD_BOUNDS
    easy, hard = problem.crowd_index < low, ~(problem.crowd_index < high)
    for name, chosen in {"AP(E)": easy, "AP(M)": ~easy & ~hard, "AP(H)": hard}.items():
        part = oks_engine.accumulate(truth, found, matches, 1, chosen)
        result[name] = round(float(np.mean(part.precision[..., 0])), 4)
    return result


def _fast_parts(problem: Problem) -> dict[str, float]:
    truth, found, result = problem.truth, problem.found, {}
    for name, channels in {"wholebody": slice(None), **part_slices()}.items():
        part = truth.of_keypoints(channels)
        matches = oks_engine.match(part, found.of_keypoints(channels), problem.sigmas[channels])
        scores = numbers(oks_engine.accumulate(part, found, matches, 1))
        result |= {f"{name} {metric}": value for metric, value in scores.items()}
    return result


def part_slices() -> dict[str, slice]:
    """Return the channels of each part."""
    edges = np.cumsum([0, *(count for _, count in PARTS.values())]).tolist()
    return {name: slice(edges[i], edges[i + 1]) for i, name in enumerate(PARTS)}


def coco_reference(run: Callable[..., OksResult]) -> Callable[[Problem, str], dict[str, float]]:
    """Run a reference on COCO's ten numbers."""
    return lambda p, mode: numbers(run(p.truth, p.found, p.sigmas, 1))


def extended_reference(problem: Problem, mode: str) -> dict[str, float]:
    """Return xtcocotools' own numbers of CrowdPose or COCO-WholeBody, from dictionaries on."""
    coco, evaluator = oks_reference.load_xtcocotools()
    kinds = {"crowd": {"": "keypoints_crowd"}}.get(mode) or {
        f"{part} ": f"keypoints_{part}" for part in ("wholebody", *PARTS)
    }
    kinds = {k: "keypoints" if v == "keypoints_body" else v for k, v in kinds.items()}
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        truth, found = _dictionaries(problem, mode)
        file = Path(folder) / "images.json"
        file.write_text(json.dumps({"images": truth["images"]}), encoding="utf-8")
        annotated, detected = _indexed(coco, truth), _indexed(coco, found)
        annotated.anno_file = [str(file), ""]
        slices = {"wholebody": slice(None), **part_slices()} if mode == "wholebody" else {}
        for prefix, kind in kinds.items():
            channels = slices.get(prefix.strip(), slice(None))
            scorer = evaluator(
                annotated, detected, kind, problem.sigmas[channels], use_area=mode != "crowd"
            )
            scorer.evaluate()
            scorer.accumulate()
            scorer.summarize()
            names = _CROWD if mode == "crowd" else _TEN
            result |= {prefix + n: float(v) for n, v in zip(names, scorer.stats, strict=True)}
    return result


_TEN = ["AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)"]
_CROWD = ["AP", "AP .5", "AP .75", "AR", "AR .5", "AR .75", "AP(E)", "AP(M)", "AP(H)"]


def _dictionaries(problem: Problem, mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    truth, found = problem.truth, problem.found
    images = [{"id": i, "crowdIndex": float(v)} for i, v in enumerate(problem.crowd_index)]
    frame = {"images": images, "categories": [{"id": 0, "name": "person"}]}
    fields = {"keypoints": slice(None)}
    if mode == "wholebody":
        fields = {PARTS[name][0]: channels for name, channels in part_slices().items()}
    flat = _flat(truth.keypoints, truth.labelled)
    annotations = [
        {
            "id": i + 1,
            "image_id": int(truth.image[i]),
            "category_id": 0,
            "num_keypoints": int(truth.labelled[i].sum()),
            "bbox": truth.box_xywh[i].tolist(),
            "area": float(truth.area[i]),
            "iscrowd": int(truth.is_crowd[i]),
            **{name: flat[i, channels].ravel().tolist() for name, channels in fields.items()},
        }
        for i in range(len(truth.image))
    ]
    flat = _flat(found.keypoints, np.ones(found.keypoints.shape[:2]))
    detections = [
        {
            "id": i + 1,
            "image_id": int(found.image[i]),
            "category_id": 0,
            "score": float(found.score[i]),
            "area": float(found.area[i]),
            **{name: flat[i, channels].ravel().tolist() for name, channels in fields.items()},
        }
        for i in range(len(found.image))
    ]
    return {**frame, "annotations": annotations}, {**frame, "annotations": detections}


def _flat(points: np.ndarray, third: np.ndarray) -> np.ndarray:
    return np.concatenate([points, third[..., None].astype(np.float64)], axis=2)


def _indexed(coco: Any, dataset: dict[str, Any]) -> Any:
    result = coco()
    result.dataset = dataset
    result.createIndex()
    return result


def engines_of(mode: str) -> dict[str, Callable[[Problem, str], dict[str, float]]]:
    """Return the engines of a mode, posekit's first."""
    if mode != "coco":
        return {"posekit": fast, "xtcocotools": extended_reference}
    return {
        "posekit": fast,
        "pycocotools": coco_reference(oks_reference.with_pycocotools),
        "xtcocotools": coco_reference(oks_reference.with_xtcocotools),
    }


def peak_mib() -> float:
    """Peak resident memory of this process up to now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table and fail if any number differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=list(KEYPOINTS), default="coco")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    problem = draw(options.images, options.detections, options.mode)
    before = peak_mib()
    print(
        f"{options.mode}: {options.images} images, {len(problem.truth.image)} people, "
        f"{options.detections} detections, {KEYPOINTS[options.mode]} keypoints"
    )
    engines = engines_of(options.mode)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    results: dict[str, dict[str, float]] = {}
    memory: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, engine in list(engines.items()):
            start = time.perf_counter()
            try:
                with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results[name] = engine(problem, options.mode)
            except PosekitError as error:
                print(f"{name}: left out, {error}")
                del engines[name]
                continue
            seconds[name].append(time.perf_counter() - start)
            memory.setdefault(name, peak_mib() - before)
    reference = list(engines)[min(1, len(engines) - 1)]
    slowest = min(seconds[reference])
    print(f"{'engine':12} {'seconds':>8} {'x ' + reference:>14} {'MiB grown so far':>16}")
    for name in engines:
        best = min(seconds[name])
        print(f"{name:12} {best:8.3f} {best / slowest:14.4f} {memory[name]:16.0f}")
    for name, found_numbers in results.items():
        assert found_numbers == results["posekit"], (name, found_numbers, results["posekit"])
    print(f"{len(results['posekit'])} numbers equal to the last bit:", ", ".join(results))
    shown = list(results["posekit"].items())[:10]
    print({name: round(value, 4) for name, value in shown})


if __name__ == "__main__":
    main()
