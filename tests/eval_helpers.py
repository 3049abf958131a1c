"""Golden files and small random problems in posekit's own forms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema


def golden_schema(reference: Path, name: str) -> KeypointSchema:
    entry = json.loads((reference / "schemas.json").read_text())[name]
    names = tuple(
        f"k{i}_{''.join(c for c in n.lower() if c.isalnum())}"
        for i, n in enumerate(entry["keypoints"])
    )
    sigmas = entry["sigmas"]
    return KeypointSchema(
        name=name,
        keypoints=names,
        flip_pairs=tuple((names[a], names[b]) for a, b in entry["flip_pairs"]),
        sigmas=None if sigmas is None else tuple(sigmas),
        sigmas_source=None if sigmas is None else "golden",
    )


def part_lists(annotation: dict) -> list[float]:
    parts = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    return [value for part in parts if part in annotation for value in annotation[part]]


def golden_truth(file: Path, extras: tuple[str, ...] = ()) -> InstanceColumns:
    data = json.loads(file.read_text())
    images, annotations = data["images"], data["annotations"]
    position = {image["id"]: i for i, image in enumerate(images)}
    points = np.asarray([part_lists(a) for a in annotations]).reshape(len(annotations), -1, 3)
    index = np.asarray([position[a["image_id"]] for a in annotations])
    found = {name: np.asarray([float(a[name]) for a in annotations]) for name in extras}
    if "num_keypoints" in annotations[0]:
        found["num_keypoints"] = np.asarray([float(a["num_keypoints"]) for a in annotations])
    if "crowdIndex" in images[0]:
        found["crowd_index"] = np.asarray([images[i]["crowdIndex"] for i in index])
    image_extras = {}
    if "crowdIndex" in images[0]:
        image_extras["crowd_index"] = np.asarray([float(i["crowdIndex"]) for i in images])
    nan = np.full((len(annotations), 2), np.nan)
    return InstanceColumns(
        keypoints=points[..., :2].astype(np.float32),
        visibility=np.ceil(points[..., 2]).astype(np.uint8),
        box_xywh=np.asarray([a["bbox"] for a in annotations], dtype=float),
        has_box=np.ones(len(annotations), bool),
        area=np.asarray([a.get("area", np.nan) for a in annotations], dtype=float),
        category_id=np.asarray([a["category_id"] for a in annotations]),
        is_crowd=np.asarray([bool(a.get("iscrowd", 0)) for a in annotations]),
        instance_id=np.asarray([a["id"] for a in annotations]),
        image_index=index,
        crop_center=nan,
        crop_size=nan,
        image_path=np.asarray([str(i["id"]).encode() for i in images]),
        image_id=np.asarray([i["id"] for i in images]),
        image_size=np.zeros((len(images), 2), np.int32),
        extras=found,
        image_extras=image_extras,
    )


def golden_predictions(file: Path) -> Poses:
    rows = json.loads(file.read_text())
    points = np.asarray([r["keypoints"] for r in rows], dtype=float)
    ids = [r.get("id", r.get("index")) for r in rows]
    return make_poses(
        keypoints=points[..., :2],
        scores=points[..., 2] if points.shape[2] > 2 else np.ones(points.shape[:2]),
        box_xywh=np.asarray([r.get("bbox", [0, 0, 0, 0]) for r in rows], dtype=float),
        box_scores=np.asarray([r.get("bbox_score", 1.0) for r in rows], dtype=float),
        image_id=np.asarray([r.get("image_id", i) for i, r in zip(ids, rows, strict=True)]),
        instance_id=np.asarray(ids),
        category_id=np.asarray([r.get("category_id", 1) for r in rows]),
        input_area=np.asarray([np.prod(r.get("input_scale", [1, 1])) for r in rows], dtype=float),
        has_box="bbox" in rows[0],
    )


def of_images(predictions: Poses, image_id: np.ndarray, **changes) -> Poses:
    """The same predictions, said to be of other images."""
    ids, index = np.unique(image_id, return_inverse=True)
    images = {"image_names": tuple(map(str, ids)), "image_sizes": ((0, 0),) * len(ids)}
    return replace(predictions, image_ids=ids, image_index=index, **images, **changes)


def make_truth(points: np.ndarray, labelled: np.ndarray, **columns) -> InstanceColumns:
    """One instance an image, ids from 0, boxes around all points; `columns` replace defaults."""
    n = len(points)
    low, high = points.min(axis=1), points.max(axis=1)
    ids = np.arange(n)
    values = {
        "keypoints": np.asarray(points, dtype=np.float32),
        "visibility": np.asarray(labelled, dtype=np.uint8) * 2,
        "box_xywh": np.concatenate([low, high - low], axis=1).astype(np.float64),
        "has_box": np.ones(n, bool),
        "area": (high - low).prod(axis=1).astype(np.float64),
        "category_id": np.ones(n, np.int64),
        "is_crowd": np.zeros(n, bool),
        "instance_id": ids,
        "image_index": ids,
        "crop_center": np.full((n, 2), np.nan),
        "crop_size": np.full((n, 2), np.nan),
        "image_path": np.asarray([f"{i}.jpg".encode() for i in ids]),
        "image_id": ids,
        "image_size": np.zeros((n, 2), np.int32),
    }
    return InstanceColumns(**{**values, **columns})


def make_predictions(points: np.ndarray, truth: InstanceColumns, **fields) -> Poses:
    """One prediction for each instance of `truth`; `fields` replace defaults."""
    n = len(points)
    values = {
        "keypoints": np.asarray(points, dtype=np.float64),
        "scores": np.full(points.shape[:2], 0.9),
        "box_xywh": np.asarray(truth.box_xywh, dtype=np.float64),
        "box_scores": np.ones(n),
        "image_id": truth.image_id[truth.image_index],
        "instance_id": truth.instance_id,
        "category_id": truth.category_id,
        "input_area": np.asarray(truth.box_xywh[:, 2:].prod(axis=1) * 1.25**2),
    }
    return make_poses(**{**values, **fields})


def make_poses(keypoints: np.ndarray, image_id: np.ndarray, **fields) -> Poses:
    """Poses of images that are known by their ids alone."""
    ids, rows = np.unique(image_id, return_inverse=True)
    return Poses(
        head="made",
        schema=make_schema(keypoints.shape[1]),
        keypoints=keypoints,
        image_index=rows,
        image_names=tuple(str(i) for i in ids.tolist()),
        image_sizes=((0, 0),) * len(ids),
        image_ids=ids,
        **fields,
    )


def changed(poses: Poses, **fields) -> Poses:
    """`replace` for poses whose images may change too, by their ids."""
    if "image_id" in fields:
        ids, rows = np.unique(fields.pop("image_id"), return_inverse=True)
        names, sizes = tuple(str(i) for i in ids.tolist()), ((0, 0),) * len(ids)
        fields |= {"image_ids": ids, "image_index": rows, "image_names": names}
        fields["image_sizes"] = sizes
    return replace(poses, **fields)


def make_schema(num: int, sigma: float | None = 0.05) -> KeypointSchema:
    """Keypoints left_0, right_0, left_1, ...; one sigma for all."""
    names = tuple(f"{'left' if i % 2 == 0 else 'right'}_{i // 2}" for i in range(num))
    return KeypointSchema(
        name="small",
        keypoints=names,
        flip_pairs=tuple(zip(names[0::2], names[1::2], strict=False)),
        sigmas=None if sigma is None else (sigma,) * num,
        sigmas_source=None if sigma is None else "made in the test",
    )


def card_schema(schema: KeypointSchema) -> dict:
    """The schema as a card writes it."""
    keys = ("keypoints", "flip_pairs", "sigmas", "sigmas_source")
    data = schema.to_dict()
    return {key: data[key] for key in keys if data[key] is not None}
