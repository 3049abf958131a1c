"""The boxes that are evaluated: annotated ones, or a detector's from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from posekit.data.index import PoseIndex
from posekit.errors import PredictionError
from posekit.evaluation.baseline import annotated_boxes
from posekit.evaluation.protocol import Protocol
from posekit.poses.read import read_detections
from posekit.poses.table import Poses


def boxes_of(index: PoseIndex, protocol: Protocol) -> Poses:
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
    if file is None:
        return annotated_boxes(index)
    found = read_detections(file, index.schema, index.columns)
    keep = found.box_scores >= protocol.min_box_score
    keep &= np.isin(found.category_id, index.columns.category_id)
    keep &= (found.box_xywh[:, 2:] > 0).all(axis=1)
    return found.take(np.flatnonzero(keep))


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
