"""From annotated boxes to the boxes that crops are made around."""

from __future__ import annotations

import numpy as np

from posekit.config.cards import BoxCard
from posekit.data.columns import InstanceColumns


def clip_boxes(box_xywh: np.ndarray, image_size: np.ndarray, clip: str) -> np.ndarray:
    """Clip annotated boxes to their images by a card's rule.

    Args:
        box_xywh: (N, 4) as annotated.
        image_size: (N, 2), (height, width); a box whose image has size 0 stays as it is.
        clip: 'vitpose', 'image' or 'none', as in `BoxCard`.

    Returns:
        float64 (N, 4) x, y, width, height; width or height can be 0 or less.

    Source: mmpose 0.x `_load_coco_keypoint_annotation_kernel` (vitpose); mmpose 1.x
    `BaseCocoStyleDataset.parse_data_info` (image).
    """
    box = np.array(box_xywh, dtype=np.float64).reshape(-1, 4)
    if clip == "none":
        return box
    last = np.asarray(image_size, dtype=np.float64).reshape(-1, 2)[:, ::-1] - 1
    if clip == "vitpose":
        low = np.maximum(box[:, :2], 0)
        high = np.minimum(last, low + np.maximum(box[:, 2:] - 1, 0))
    else:
        low = np.clip(box[:, :2], 0, last)
        high = np.clip(box[:, :2] + box[:, 2:], 0, last)
    clipped = np.concatenate([low, high - low], axis=1)
    is_known = np.asarray((last >= 0).all(axis=1))
    return np.where(is_known[:, None], clipped, box)


def keypoint_boxes(keypoints: np.ndarray, is_chosen: np.ndarray) -> np.ndarray:
    """Return the extent of the chosen keypoints of each instance.

    Args:
        keypoints: (N, K, 2).
        is_chosen: bool (N, K).

    Returns:
        float64 (N, 4) x, y, width, height; NaN where no keypoint is chosen.
    """
    chosen = np.asarray(is_chosen)[:, :, None]
    points = np.asarray(keypoints, dtype=np.float64)
    low = np.where(chosen, points, np.inf).min(axis=1)
    high = np.where(chosen, points, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        boxes = np.concatenate([low, high - low], axis=1)
    return np.where(np.isfinite(boxes).all(axis=1)[:, None], boxes, np.nan)


def crop_boxes(
    columns: InstanceColumns, rows: np.ndarray, box: BoxCard
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and unpadded size of the boxes that crops of these rows are made around.

    The annotation's own centre and size (MPII) where it brings them; else the extent of the
    labelled keypoints where the card or the lack of a box demands it; else the annotated box,
    clipped by the card's rule.

    Returns:
        float64 (n, 2) centre (x, y) and float64 (n, 2) (width, height), before padding and aspect
        rule; NaN where there is neither box nor labelled keypoint.
    """
    boxes = np.asarray(columns.box_xywh[rows], dtype=np.float64)
    annotated = np.asarray(columns.has_box[rows])
    if box.source == "keypoints":
        boxes = keypoint_boxes(columns.keypoints[rows], columns.visibility[rows] > 0)
    elif box.clip != "none":
        sizes = columns.image_size[columns.image_index[rows]]
        boxes = np.where(annotated[:, None], clip_boxes(boxes, sizes, box.clip), boxes)
    center, size = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]
    own_center, own_size = columns.crop_center[rows], columns.crop_size[rows]
    has_own = has_own_crop(columns, rows)[:, None]
    return np.where(has_own, own_center, center), np.where(has_own, own_size, size)


def has_own_crop(columns: InstanceColumns, rows: np.ndarray) -> np.ndarray:
    """Return bool (n,), True where the annotation brings its own crop centre and size."""
    return np.isfinite(columns.crop_center[rows]).all(axis=1) & np.isfinite(
        columns.crop_size[rows]
    ).all(axis=1)
