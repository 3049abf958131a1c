"""Poses written to files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.fields import plain_id
from posekit.output import write_text
from posekit.poses.table import Poses

PREDICTIONS_FILE = "predictions.json"
PART_FIELDS = {"body": "keypoints", "foot": "foot_kpts", "face": "face_kpts"}
PART_FIELDS |= {"lefthand": "lefthand_kpts", "righthand": "righthand_kpts"}


def write_predictions(file: Path, predictions: Poses) -> Path:
    """Write posekit's own file: one record a line in a JSON list, nothing rounded.

    Fields: id, image_id, category_id, bbox [x, y, w, h], bbox_score, keypoints [[x, y, score]],
    input_area. `read_predictions` gives back the same arrays.
    """
    joined = np.concatenate([predictions.keypoints, predictions.scores[..., None]], axis=2)
    records = (
        {
            "id": plain_id(predictions.instance_id[i]),
            "image_id": plain_id(predictions.image_id[i]),
            "category_id": int(predictions.category_id[i]),
            "bbox": predictions.box_xywh[i].tolist(),
            "bbox_score": float(predictions.box_scores[i]),
            "keypoints": joined[i].tolist(),
            "input_area": float(predictions.input_area[i]),
        }
        for i in range(len(predictions))
    )
    return write_json_list(file, records)


def write_json_list(file: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write a JSON list with one record a line, atomically; PosekitError if it cannot be."""
    lines = (
        ("," if number else "") + "\n" + json.dumps(record) for number, record in enumerate(records)
    )
    return write_text(file, itertools.chain(["["], lines, ["\n]\n"]))
