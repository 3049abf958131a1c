"""Predicted poses in other projects' forms."""

from __future__ import annotations

import csv
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.errors import PredictionError
from posekit.output import atomic_file

if TYPE_CHECKING:
    from posekit.poses.table import Poses


def to_coco(poses: Poses) -> dict[str, Any]:
    """Return images, categories and annotations as COCO writes them (links count from 1)."""
    schema = poses.schema
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size) in enumerate(zip(poses.image_names, poses.image_sizes, strict=True))
    ]
    flags = np.full((len(poses), len(schema), 1), 2.0)
    triples = np.concatenate([poses.keypoints.astype(np.float64), flags], axis=2)
    annotations = []
    for i in range(len(poses)):
        x, y, w, h = (float(value) for value in poses.box_xywh[i])
        annotation: dict[str, Any] = {
            "id": i + 1,
            "image_id": int(poses.image_index[i]),
            "category_id": 1,
            "keypoints": [round(float(value), 3) for value in triples[i].reshape(-1)],
            "keypoint_scores": [round(float(score), 5) for score in poses.scores[i]],
            "num_keypoints": len(schema),
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "score": float(poses.instance_scores[i]),
        }
        if poses.track_id is not None:
            annotation["track_id"] = int(poses.track_id[i])
        annotations.append(annotation)
    category = {
        "id": 1,
        "name": schema.name,
        "keypoints": list(schema.keypoints),
        "skeleton": (schema.skeleton_indices + 1).tolist(),
    }
    return {"images": images, "categories": [category], "annotations": annotations}


def write_csv(poses: Poses, file: Path) -> Path:
    """Write one line per instance with named columns."""
    with _table(file) as writer:
        tracked = [] if poses.track_id is None else ["track_id"]
        named = [
            f"{name}_{part}" for name in poses.schema.keypoints for part in ("x", "y", "score")
        ]
        writer.writerow(["image", *tracked, "box_x", "box_y", "box_w", "box_h", "score", *named])
        values = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
        for i in range(len(poses)):
            track = [] if poses.track_id is None else [int(poses.track_id[i])]
            box = [f"{v:.2f}" for v in poses.box_xywh[i]]
            points = [f"{v:.4f}" for v in values[i].reshape(-1)]
            name = poses.image_names[poses.image_index[i]]
            writer.writerow([name, *track, *box, f"{poses.instance_scores[i]:.4f}", *points])
    return file


def write_deeplabcut(poses: Poses, file: Path, scorer: str) -> Path:
    """Write DeepLabCut's CSV of predictions; x, y, likelihood of each body part."""
    counts = np.bincount(poses.image_index, minlength=len(poses.image_names))
    most = max(int(counts.max(initial=0)), 1)
    individuals, place = _individuals(poses, most)
    table = np.full((len(poses.image_names), individuals, len(poses.schema), 3), np.nan)
    values = np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)
    table[poses.image_index, place] = values
    parts = [name for name in poses.schema.keypoints for _ in range(3)]
    header = [["scorer", *([scorer] * (len(parts) * individuals))]]
    if individuals > 1:
        names = [f"individual{i + 1}" for i in range(individuals) for _ in parts]
        header.append(["individuals", *names])
    header.append(["bodyparts", *(parts * individuals)])
    coordinates = ["x", "y", "likelihood"] * (len(poses.schema) * individuals)
    header.append(["coords", *coordinates])
    with _table(file) as writer:
        writer.writerows(header)
        for name, row in zip(poses.image_names, table.reshape(len(table), -1), strict=True):
            writer.writerow([name, *("" if np.isnan(v) else f"{v:.4f}" for v in row)])
    return file


def to_pandas(poses: Poses) -> Any:
    """Return a long table with one line per keypoint."""
    pandas = _optional("pandas", "to_pandas")
    n, k = len(poses), len(poses.schema)
    names = np.asarray(poses.image_names, dtype=object)
    columns = {
        "image": np.repeat(names[poses.image_index] if n else names[:0], k),
        "instance": np.repeat(np.arange(n), k),
        "keypoint": np.tile(np.asarray(poses.schema.keypoints, dtype=object), n),
        "x": poses.keypoints[..., 0].reshape(-1),
        "y": poses.keypoints[..., 1].reshape(-1),
        "score": poses.scores.reshape(-1),
    }
    if poses.track_id is not None:
        columns["track_id"] = np.repeat(poses.track_id, k)
    return pandas.DataFrame(columns)


def to_supervision(poses: Poses) -> Any:
    """Return supervision's KeyPoints of all instances."""
    supervision = _optional("supervision", "to_supervision")
    scores = poses.scores.astype(np.float32)
    fields: dict[str, Any] = {"confidence": scores}
    if "keypoint_confidence" in inspect.signature(supervision.KeyPoints).parameters:  # from 0.29 on
        fields = {
            "keypoint_confidence": scores,
            "detection_confidence": poses.instance_scores.astype(np.float32),
        }
    return supervision.KeyPoints(
        xy=poses.keypoints.astype(np.float32), class_id=np.zeros(len(poses), dtype=int), **fields
    )


def _individuals(poses: Poses, most: int) -> tuple[int, np.ndarray]:
    """Return how many columns of individuals there are and each instance's column."""
    if poses.track_id is not None and len(poses):
        known, place = np.unique(poses.track_id, return_inverse=True)
        return len(known), place
    place = np.zeros(len(poses), dtype=np.int64)
    seen: dict[int, int] = {}
    for i, image in enumerate(poses.image_index.tolist()):
        place[i] = seen.get(image, 0)
        seen[image] = int(place[i]) + 1
    return most, place


def _optional(package: str, method: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise PredictionError(
            f"{method} needs the package '{package}', which is not installed; "
            f"install it with: pip install {package}"
        ) from None


@contextmanager
def _table(file: Path) -> Iterator[Any]:
    with (
        atomic_file(file, sync=False, error=PredictionError) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        yield csv.writer(stream)
