"""MPII's JSON (a list of people) and the MATLAB ground truth that PCKh is scored with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.base import Instance
from posekit.adapters.fields import (
    Place,
    field_of,
    image_path,
    labelled_points,
    listing,
    mapping,
    number,
    numeric_array,
    show,
)
from posekit.adapters.files import load_json, load_mat
from posekit.config.base import Strict, validate
from posekit.config.cards import SplitCard
from posekit.schema import KeypointSchema

_PIXELS_PER_SCALE = 200.0
_SHIFT_DOWN = 15.0
_HEAD_FACTOR = 0.6


class MpiiOptions(Strict):
    """What a card can tell the adapter.

    Attributes:
        headboxes: the `.mat` ground truth, relative to the dataset's root; its columns are the
            records of the JSON in order. Gives every instance the extra `head_size`.
    """

    headboxes: str | None = None


@dataclass(frozen=True)
class MpiiGroundTruth:
    """What `mpii_gt_val.mat` holds for N people, still in 1-based pixels.

    Attributes:
        is_missing: bool (N, K): joints that are not labelled.
        points: float64 (N, K, 2), (x, y).
        head_size: float64 (N,): 0.6 x the diagonal of the head box, in pixels.
    """

    is_missing: np.ndarray
    points: np.ndarray
    head_size: np.ndarray


def read(root: Path, split: SplitCard, schema: KeypointSchema) -> Iterator[Instance]:
    """Stream the people of an MPII JSON in file order.

    The files count pixels from 1: joints and centre lose 1. The crop is a square of 200 x scale
    around the centre, which moves down by 15 x scale first. Joints marked visible become 2, the
    others 0; records of the test set have no joints at all.

    Raises:
        DatasetError: anything malformed, or a `.mat` of another number of people.
        ConfigError: an unknown option in the card.
    """
    options = validate(MpiiOptions, split.options, f"split '{split.name}', options")
    file = Path(root) / split.annotations
    records = listing(load_json(file), "the file", Place(file))
    head_sizes = None
    if options.headboxes is not None:
        truth_file = Path(root) / options.headboxes
        head_sizes = read_ground_truth(truth_file, schema).head_size
        if len(head_sizes) != len(records):
            Place(truth_file).fail(
                f"it holds {len(head_sizes)} people, expected the {len(records)} of {file.name}",
                "take both files from one release, or leave the option 'headboxes' out",
            )
    for position, record in enumerate(records):
        records[position] = None
        place = Place(file, f"record {position}")
        mapping(record, "record", place)
        name = field_of(record, "image", place)
        points, visibility = _joints(record, schema, place)
        center, size = _crop(record, place)
        yield Instance(
            image=image_path(split.images, name, place),
            image_id=name,
            instance_id=position + 1,
            keypoints=points,
            visibility=visibility,
            crop_center=center,
            crop_size=size,
            extras={} if head_sizes is None else {"head_size": float(head_sizes[position])},
        )


def read_ground_truth(file: Path, schema: KeypointSchema) -> MpiiGroundTruth:
    """Read `mpii_gt_val.mat`.

    Raises:
        DatasetError: not a MATLAB file, an array missing, or of another shape than the schema's.
    """
    content = load_mat(file, ("jnt_missing", "pos_gt_src", "headboxes_src"))
    place = Place(file)
    found = np.shape(content["jnt_missing"])
    people = found[-1] if len(found) == 2 else 1
    missing = _array(content, "jnt_missing", (len(schema), people), place)
    points = _array(content, "pos_gt_src", (len(schema), 2, people), place)
    boxes = _array(content, "headboxes_src", (2, 2, people), place)
    if not np.isfinite(boxes).all():
        place.fail("headboxes_src holds numbers that are not finite, expected box corners")
    diagonal = np.linalg.norm(boxes[1] - boxes[0], axis=0)
    return MpiiGroundTruth(missing.T != 0, np.moveaxis(points, -1, 0), _HEAD_FACTOR * diagonal)


def _joints(
    record: Mapping[str, Any], schema: KeypointSchema, place: Place
) -> tuple[np.ndarray, np.ndarray]:
    count = len(schema)
    if "joints" not in record and "joints_vis" not in record:
        return np.zeros((count, 2), np.float32), np.zeros(count, np.uint8)
    joints = numeric_array(field_of(record, "joints", place), "joints", place)
    flags = numeric_array(field_of(record, "joints_vis", place), "joints_vis", place)
    if joints.shape != (count, 2) or flags.shape != (count,):
        place.fail(
            f"found joints of shape {joints.shape} and joints_vis of shape {flags.shape}, "
            f"expected {(count, 2)} and {(count,)}",
            f"check that the schema '{schema.name}' is the one of this file",
        )
    if not np.isin(flags, (0, 1)).all():
        place.fail(f"joints_vis: found {show(sorted(set(flags.tolist())))}, expected 0 and 1 only")
    visibility = np.where(flags == 1, 2, 0).astype(np.uint8)
    return labelled_points(joints - 1, visibility, schema, place), visibility


def _crop(record: Mapping[str, Any], place: Place) -> tuple[np.ndarray, np.ndarray]:
    scale = number(field_of(record, "scale", place), "scale", place)
    center = listing(field_of(record, "center", place), "center", place)
    if len(center) != 2 or not 0 < scale < 1e6:
        place.fail(
            f"found center {show(center)} and scale {show(scale)}, expected two numbers and a "
            "person's height divided by 200"
        )
    x, y = (number(entry, "center", place) for entry in center)
    if x != -1:
        y += _SHIFT_DOWN * scale
    side = _PIXELS_PER_SCALE * scale
    return np.array([x - 1, y - 1]), np.array([side, side])


def _array(
    content: Mapping[str, Any], name: str, shape: tuple[int, ...], place: Place
) -> np.ndarray:
    """Return a variable of numbers as float64 of this shape; DatasetError if it has another."""
    array = content[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        place.fail(f"{name}: expected an array of numbers")
    # MATLAB drops a last axis of length 1: a file of one person has one axis less.
    if array.shape == shape[:-1] and shape[-1] == 1:
        array = array[..., None]
    if array.shape != shape:
        place.fail(f"{name}: found shape {array.shape}, expected {shape}")
    return array.astype(np.float64)
