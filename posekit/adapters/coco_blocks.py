"""The fast way from COCO-style records to instances: thousands of records at once, as columns.

Every check of the way record by record (`coco_json`) is made here too, but without finding out
which record is at fault: whatever is not plainly regular raises NotInBlocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np

from posekit.adapters.base import EmptyImage
from posekit.adapters.blocks import InstanceBlock, NotInBlocks
from posekit.adapters.coco_options import CocoOptions
from posekit.adapters.fields import VisibilityCodes

_LARGEST = float(np.finfo(np.float32).max)


def block_of(
    records: list[dict[str, Any]],
    images: Mapping[int | str, EmptyImage],
    options: CocoOptions,
    num_keypoints: int,
    ids: np.ndarray | list[int | str],
    *,
    has_counts: bool,
    is_strict: bool,
) -> InstanceBlock:
    """Return the instances of some annotation records.

    Time: about 8 us a record of 17 keypoints.

    Args:
        records: the records.
        images: image id -> image.
        options: the card's.
        num_keypoints: keypoints of the schema.
        ids: the instances' ids.
        has_counts: keep the field `num_keypoints` as an extra.
        is_strict: look for truth values among the numbers, for which Python takes them.

    Raises:
        NotInBlocks: an option or a record that is not plainly regular.
    """
    part, crop = options.parts[0], options.crop
    if len(options.parts) > 1 or part.first_of or part.valid or options.head_box:
        raise NotInBlocks
    if options.categories or (crop is not None and not crop.whole_image):
        raise NotInBlocks
    try:
        image_ids = [record["image_id"] for record in records]
        own = [images[image_id] for image_id in image_ids]
        category_id = np.array([record["category_id"] for record in records])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise NotInBlocks from None
    # 1, 1.0 and True are one key of a mapping; only numbers that are whole are ids here.
    if not {type(image_id) for image_id in image_ids} <= {int, str}:
        raise NotInBlocks
    if {type(record["category_id"]) for record in records} != {int} or category_id.dtype != int:
        raise NotInBlocks
    keypoints, visibility = _keypoints(records, options, num_keypoints, is_strict)
    boxes = _boxes([record.get(part.box) for record in records], is_strict)
    if "box" in options.one_based:
        boxes[:, :2] -= 1
    area = np.full(len(records), np.nan)
    if part.box == "bbox":
        area = _numbers_or_nan([record.get("area") for record in records])
        if (area < 0).any():
            raise NotInBlocks
    size = np.full((len(records), 2), np.nan)
    if crop is not None:
        sizes = [image.image_size for image in own]
        if None in sizes:
            raise NotInBlocks
        size = np.array(sizes, dtype=np.float64)[:, ::-1]
    wanted = dict(options.extras)
    if has_counts and "keypoints" in part.keypoints:
        wanted["num_keypoints"] = "num_keypoints"
    extras = {
        name: np.array([image.extras[name] for image in own], dtype=np.float64)
        for name in options.image_extras
    }
    for name, key in wanted.items():
        values = _numbers_or_nan([record.get(key) for record in records])
        extras[name] = np.where(np.isnan(values), extras.get(name, np.nan), values)
    return InstanceBlock(
        images=own,
        instance_id=ids,
        keypoints=keypoints,
        visibility=visibility,
        box_xywh=boxes,
        area=area,
        category_id=category_id,
        is_crowd=_crowds(records),
        crop_center=size / 2,
        crop_size=size,
        extras=extras,
    )


def _keypoints(
    records: list[dict[str, Any]], options: CocoOptions, num_keypoints: int, is_strict: bool
) -> tuple[np.ndarray, np.ndarray]:
    keys = options.parts[0].keypoints
    flat = array("d")
    try:
        if len(keys) == 1:
            lists = [record[keys[0]] for record in records]
        else:
            lists = [list(chain.from_iterable([record[key] for key in keys])) for record in records]
        for values in lists:
            if len(values) != 3 * num_keypoints:
                raise NotInBlocks
            # Unlike numpy, an array refuses nested lists and texts, and it is faster.
            flat.fromlist(values)
    except (KeyError, TypeError, OverflowError):
        raise NotInBlocks from None
    if is_strict and bool in {type(value) for values in lists for value in values}:
        raise NotInBlocks
    triples = np.frombuffer(flat, dtype=np.float64).reshape(-1, num_keypoints, 3)
    visibility = _codes(triples[:, :, 2], options.visibility)
    labelled = visibility > 0
    points = np.where(labelled[:, :, None], triples[:, :, :2], 0.0)
    # The comparison is also false for NaN.
    if not (np.abs(points) <= _LARGEST).all():
        raise NotInBlocks
    result = points.astype(np.float32)
    if "keypoints" in options.one_based:
        result[labelled] -= 1
    return result, visibility


def _codes(raw: np.ndarray, codes: VisibilityCodes) -> np.ndarray:
    if codes == "positive":
        if not np.isfinite(raw).all():
            raise NotInBlocks
        return np.where(raw > 0, 2, 0).astype(np.uint8)
    table: Mapping[int, int] = {0: 0, 1: 1, 2: 2} if codes == "coco" else dict(codes)
    result = np.full(raw.shape, 255, dtype=np.uint8)
    for theirs, ours in table.items():
        result[raw == theirs] = ours
    if (result == 255).any():
        raise NotInBlocks
    return result


def _boxes(values: list[Any], is_strict: bool) -> np.ndarray:
    boxes = np.full((len(values), 4), np.nan)
    given = [i for i, value in enumerate(values) if value is not None and value != []]
    flat = array("d")
    try:
        for i in given:
            if len(values[i]) != 4:
                raise NotInBlocks
            flat.fromlist(values[i])
    except (TypeError, OverflowError):
        raise NotInBlocks from None
    if is_strict and bool in {type(entry) for i in given for entry in values[i]}:
        raise NotInBlocks
    numbers = np.frombuffer(flat, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(numbers).all():
        raise NotInBlocks
    boxes[given] = numbers
    return boxes


def _numbers_or_nan(values: list[Any]) -> np.ndarray:
    if not {type(value) for value in values} <= {int, float, type(None)}:
        raise NotInBlocks
    try:
        # As float64, numpy takes None for NaN.
        result = np.array(values, dtype=np.float64)
    except OverflowError:
        raise NotInBlocks from None
    if np.isinf(result).any() or np.isnan(result).sum() != values.count(None):
        raise NotInBlocks
    return result


def _crowds(records: list[dict[str, Any]]) -> np.ndarray:
    values = [record.get("iscrowd", record.get("is_crowd")) for record in records]
    if not {type(value) for value in values} <= {int, bool, type(None)}:
        raise NotInBlocks
    if not set(values) <= {0, 1, None}:
        raise NotInBlocks
    return np.array([bool(value) for value in values])
