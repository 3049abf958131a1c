"""What the labels of one split say by themselves: counts, areas, repeats, visibility, places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.schema import KeypointSchema

_NEAR = 0.01
_MANY = 0.1
_SMALL_SHARE = 0.001
_A_FEW = 3


def repeated_ids(columns: InstanceColumns) -> Iterator[Finding]:
    """Name instances of one image that share an id: all but the first are lost in scoring."""
    ids = np.asarray(columns.instance_id)
    _, place = np.unique(ids, return_inverse=True)
    key = np.asarray(columns.image_index).astype(np.int64) * (place.max() + 1) + place
    _, first = np.unique(key, return_index=True)
    rows = np.setdiff1d(np.arange(len(ids)), first)
    if len(rows):
        yield Finding(
            "ids_repeated",
            "error",
            f"{len(rows)} instances repeat the id of another instance of their image; evaluators "
            "keep one of each",
            "give every annotation its own id",
            len(rows),
            instance_examples(columns, rows),
        )


def duplicate_annotations(columns: InstanceColumns) -> Iterator[Finding]:
    """Name instances annotated twice: in one image, the same labelled points within 1 % of the box.

    Cost: time in the sum of squared instances an image; crowds and single points are left out.
    """
    labelled = np.asarray(columns.visibility) > 0
    usable = np.flatnonzero((labelled.sum(axis=1) >= 2) & ~np.asarray(columns.is_crowd))
    images = np.asarray(columns.image_index)[usable]
    order = usable[np.argsort(images, kind="stable")]
    _, counts = np.unique(np.sort(images), return_counts=True)
    found: list[tuple[int, int, float]] = []
    for rows in np.split(order, np.cumsum(counts)[:-1]):
        found += _twins(columns, rows) if len(rows) > 1 else []
    if found:
        rows = np.array([row for row, _, _ in found])
        notes = [
            f"like instance {id_text(columns.instance_id[other])}"
            + (" exactly" if apart == 0 else f", {apart:.1%} of the box apart")
            for _, other, apart in found
        ]
        yield Finding(
            "annotations_repeated",
            "warning",
            f"{len(rows)} instances are annotated twice: the same points of the same image",
            "remove the repeats: they count double in training, and as misses in scoring",
            len(rows),
            instance_examples(columns, rows, notes),
        )


def area_findings(columns: InstanceColumns) -> Iterator[Finding]:
    """Name labelled instances with an area of 0 and with an empty box."""
    wanted = (columns.num_labelled > 0) & ~np.asarray(columns.is_crowd)
    area = np.asarray(columns.area)
    flat = np.flatnonzero(wanted & ~np.isnan(area) & ~(area > 0))
    if len(flat):
        yield Finding(
            "area_zero",
            "error" if len(flat) > _MANY * wanted.sum() else "warning",
            f"{len(flat)} of {int(wanted.sum())} labelled instances have an area of 0: training "
            "leaves them out, and OKS divides by it",
            "write the segments' area, or leave the field away and set use_area: false",
            len(flat),
            instance_examples(columns, flat),
        )
    box = np.asarray(columns.box_xywh)
    empty = wanted & np.asarray(columns.has_box) & ~(box[:, 2:] > 0).all(axis=1)
    rows = np.flatnonzero(empty)
    if len(rows):
        yield Finding(
            "boxes_empty",
            "error" if len(rows) > _MANY * wanted.sum() else "warning",
            f"{len(rows)} of {int(wanted.sum())} labelled instances have a box of no width or "
            "height: there is nothing to crop",
            "correct the boxes, or leave them away: the extent of the points is then taken",
            len(rows),
            instance_examples(columns, rows),
        )


def visibility_counts(columns: InstanceColumns) -> tuple[int, int, int]:
    """Return how many points of instances that are no crowds have visibility 0, 1 and 2."""
    flags = np.asarray(columns.visibility)[~np.asarray(columns.is_crowd)]
    counts = np.bincount(flags.reshape(-1), minlength=3)
    return int(counts[0]), int(counts[1]), int(counts[2])


def visibility_says(counts: tuple[int, int, int]) -> str:
    """Describe the visibility codes in words."""
    hidden, occluded, visible = counts
    if occluded and visible:
        share = occluded / (occluded + visible)
        text = f"{share:.1%} of the labelled points are occluded"
    elif occluded or visible:
        text = f"always {1 if occluded else 2}: nothing on occlusion"
    else:
        return "no point is labelled"
    return text if hidden else text + "; every point is labelled"


def keypoint_findings(columns: InstanceColumns, schema: KeypointSchema) -> Iterator[Finding]:
    """Name keypoints that nobody labelled, and points labelled in the picture's corner (0, 0)."""
    labelled = np.asarray(columns.visibility) > 0
    labelled = labelled[~np.asarray(columns.is_crowd)]
    poses = int(labelled.any(axis=1).sum())
    if not poses:
        yield Finding(
            "nothing_labelled",
            "error",
            f"none of the {len(columns)} instances has a labelled keypoint",
            "check the visibility codes (card: options.visibility); test splits without public "
            "labels cannot be trained on",
            len(columns),
        )
        return
    never = [schema.keypoints[k] for k in np.flatnonzero(~labelled.any(axis=0))]
    if never and poses >= 20:
        yield Finding(
            "keypoints_never_labelled",
            "warning",
            f"{len(never)} keypoints are labelled in no instance: {', '.join(never[:12])}",
            "check the schema's names and their order, or leave them out of it",
            len(never),
        )
    yield from _corner_points(columns)


def _corner_points(columns: InstanceColumns) -> Iterator[Finding]:
    """Points at exactly (0, 0) or (-1, -1) that are flagged as labelled."""
    points = np.asarray(columns.keypoints)
    labelled = np.asarray(columns.visibility) > 0
    at_corner = labelled & ((points == 0).all(axis=2) | (points == -1).all(axis=2))
    rows = np.flatnonzero(at_corner.sum(axis=1) > 0)
    total = int(at_corner.sum())
    if total >= _A_FEW and total > _SMALL_SHARE * labelled.sum():
        yield Finding(
            "missing_points_labelled",
            "error",
            f"{total} points in {len(rows)} instances are labelled at (0, 0) or (-1, -1): they "
            "stand for missing points, but their visibility says that they are labelled",
            "set their visibility to 0",
            len(rows),
            instance_examples(
                columns, rows, [f"{n} points" for n in at_corner.sum(axis=1)[rows].tolist()]
            ),
        )


def _twins(columns: InstanceColumns, rows: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Return (row, earlier row, distance in boxes) of instances of one image that coincide."""
    points = np.asarray(columns.keypoints)[rows].astype(np.float64)
    labelled = np.asarray(columns.visibility)[rows] > 0
    side = np.nan_to_num(np.asarray(columns.box_xywh)[rows, 2:]).max(axis=1)
    for later in range(1, len(rows)):
        common = labelled[:later] & labelled[later]
        # all labelled points must coincide, not only those that both happen to have
        same = (labelled[:later] == labelled[later]).all(axis=1)
        distance = np.linalg.norm(points[:later] - points[later], axis=2)
        mean = np.where(common, distance, 0).sum(axis=1) / np.maximum(common.sum(axis=1), 1)
        apart = mean / max(float(side[later]), 1.0)
        twin = np.flatnonzero(same & (apart <= _NEAR))
        if len(twin):
            yield int(rows[later]), int(rows[twin[0]]), float(apart[twin[0]])
