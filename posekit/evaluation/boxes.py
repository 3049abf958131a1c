"""The boxes that are evaluated: annotated ones, or a detector's from a file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from posekit.data.index import PoseIndex
from posekit.errors import PredictionError
from posekit.evaluation.baseline import annotated_boxes
from posekit.evaluation.protocol import Protocol
from posekit.poses.predictions import Predictions


def boxes_of(index: PoseIndex, protocol: Protocol) -> Predictions:
    """Return what is to be predicted: boxes with their images, poses still 0.

    Args:
        index: the split.
        protocol: `boxes` is 'annotation', 'detections' (the file that the card names for the
            split) or a file; of a detector's boxes those below `min_box_score` are left out, and
            those of categories that the split does not have.

    Raises:
        PredictionError: the file cannot be read or does not fit the split.
    """
    file = boxes_file(index, protocol)
    return annotated_boxes(index) if file is None else _detections(file, index, protocol)


def boxes_file(index: PoseIndex, protocol: Protocol) -> Path | None:
    """Return the file of the detector's boxes, or None for annotated boxes.

    Raises:
        PredictionError: the card names no file for the split.
    """
    if protocol.boxes == "annotation":
        return None
    if protocol.boxes != "detections":
        return Path(protocol.boxes).expanduser()
    named = index.card.split(index.split).detections
    if not named:
        raise PredictionError(
            f"dataset '{index.card.name}' names no detections for split '{index.split}'; give "
            "the file itself (boxes=FILE)"
        )
    return index.root / named


def boxes_hash(index: PoseIndex, protocol: Protocol) -> str:
    """Return the SHA-256 of a detector's file, or "" for annotated boxes.

    Raises:
        PredictionError: the file cannot be read.
    """
    file = boxes_file(index, protocol)
    if file is None:
        return ""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PredictionError(f"{file}: cannot be read ({error.strerror})") from None


def _detections(file: Path, index: PoseIndex, protocol: Protocol) -> Predictions:
    records = [_record(record, i, file) for i, record in enumerate(_load(file))]
    columns = index.columns
    is_text = columns.image_id.dtype.kind == "S"
    images = [str(r["image_id"]).encode() if is_text else r["image_id"] for r in records]
    known = set(columns.image_id.tolist())
    unknown = [i for i, image in enumerate(images) if image not in known]
    if unknown:
        raise PredictionError(
            f"{file}, record {unknown[0]}: image_id {records[unknown[0]]['image_id']!r} is no "
            f"image of {index.name} ({len(unknown)} of {len(records)} boxes are of unknown images)"
        )
    box = np.asarray([r["bbox"] for r in records], dtype=np.float64).reshape(-1, 4)
    score = np.asarray([r["score"] for r in records], dtype=np.float64)
    category = np.asarray([r.get("category_id", 1) for r in records], dtype=np.int64)
    keep = (score >= protocol.min_box_score) & np.isin(category, columns.category_id)
    keep &= (box[:, 2:] > 0).all(axis=1)
    count, num = len(records), len(index.schema)
    return Predictions(
        keypoints=np.zeros((count, num, 2)),
        scores=np.zeros((count, num)),
        box_xywh=box,
        box_scores=score,
        image_id=np.asarray(images, dtype=columns.image_id.dtype),
        instance_id=np.arange(count),
        category_id=category,
        input_area=np.zeros(count),
    ).take(np.flatnonzero(keep))


def _load(file: Path) -> list[Any]:
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictionError(f"{file}: cannot be read as a JSON list of boxes ({error})") from None
    if not isinstance(records, list):
        raise PredictionError(
            f"{file}: found {type(records).__name__}, expected a list of objects with image_id, "
            "bbox [x, y, width, height] and score"
        )
    return records


def _record(record: Any, position: int, file: Path) -> dict[str, Any]:
    for key in ("image_id", "bbox", "score"):
        if not isinstance(record, dict) or key not in record:
            raise PredictionError(f"{file}, record {position}: field '{key}' is missing")
    if not isinstance(record["image_id"], (int, str)):
        raise PredictionError(
            f"{file}, record {position}: field 'image_id': found {record['image_id']!r}, expected "
            "a number or text"
        )
    box = record["bbox"]
    numbers = [*box, record["score"]] if isinstance(box, list) else []
    if len(numbers) != 5 or not all(
        isinstance(v, (int, float)) and np.isfinite(v) for v in numbers
    ):
        raise PredictionError(
            f"{file}, record {position}: found bbox {box!r}, score {record['score']!r}, expected "
            "four finite numbers and one"
        )
    category = record.get("category_id", 1)
    if not isinstance(category, int):
        raise PredictionError(
            f"{file}, record {position}: field 'category_id': found {category!r}, expected a whole "
            "number"
        )
    return record
