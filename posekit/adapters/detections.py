"""Detector boxes from a COCO result file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.adapters.fields import (
    Place,
    box_xywh,
    field_of,
    identifier,
    listing,
    mapping,
    number,
    whole,
)
from posekit.adapters.files import load_json


@dataclass(frozen=True)
class Detections:
    """N detected boxes, in file order.

    Attributes:
        image_id: int64 (N,), or bytes ('S') if the ids are text.
        category_id: int64 (N,).
        box_xywh: float64 (N, 4).
        scores: float64 (N,).
    """

    image_id: np.ndarray
    category_id: np.ndarray
    box_xywh: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def read_detections(file: Path, category_id: int | None = None) -> Detections:
    """Read a COCO result file: a list of image_id, category_id, bbox, score.

    Args:
        file: the JSON file.
        category_id: keep boxes of this category only.

    Raises:
        DatasetError: not a list of such records, or no score, box or image id in one of them.
    """
    records = listing(load_json(file), "the file", Place(file))
    ids: list[int | str] = []
    categories: list[int] = []
    boxes: list[np.ndarray] = []
    scores: list[float] = []
    for position, record in enumerate(records):
        records[position] = None
        place = Place(file, f"detection at position {position}")
        mapping(record, "detection", place)
        category = whole(record.get("category_id", 1), "category_id", place)
        if category_id is not None and category != category_id:
            continue
        box = box_xywh(field_of(record, "bbox", place), place)
        if box is None:
            place.fail("bbox is empty, expected 4 numbers x, y, width, height")
        ids.append(identifier(field_of(record, "image_id", place), "image_id", place))
        categories.append(category)
        boxes.append(box)
        scores.append(number(field_of(record, "score", place), "score", place))
    if len({type(entry) for entry in ids}) > 1:
        Place(file).fail("some image ids are numbers and some are text, expected one kind")
    text = bool(ids) and isinstance(ids[0], str)
    return Detections(
        np.array([str(i).encode() for i in ids]) if text else np.array(ids, dtype=np.int64),
        np.array(categories, dtype=np.int64),
        np.array(boxes).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
    )
