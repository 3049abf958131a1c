"""Do points, boxes and images belong to one frame: outside, wrong box format, crop pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples
from posekit.diagnosis.pose_shapes import PoseShapes, select_poses

_ENOUGH = 8
_MOST = 0.5
_FEW = 0.02
_CLEAR = 0.2
_SLACK = 0.1
_MANY_OUT, _SOME_OUT = 0.02, 0.0005


def outside_image(columns: InstanceColumns, image_size: np.ndarray) -> Iterator[Finding]:
    """Name labelled points and boxes outside their image, as far as its size is known.

    A point may lie up to a pixel beyond the border: annotators click there, and 1-based
    coordinates are another finding.

    Args:
        columns: the split.
        image_size: int32 (M, 2), (height, width), 0 where not known.
    """
    size = image_size[np.asarray(columns.image_index)].astype(np.float64)[:, ::-1]
    known = (size > 0).all(axis=1)
    points = np.asarray(columns.keypoints)
    labelled = np.asarray(columns.visibility) > 0
    beyond = np.maximum(-points, points - (size - 1)[:, None]).max(axis=2)
    out = labelled & (beyond > 1) & known[:, None]
    rows = np.flatnonzero(out.any(axis=1))
    if len(rows):
        farthest = np.where(out, beyond, 0).max(axis=1)
        rows = rows[np.argsort(-farthest[rows], kind="stable")]
        total, all_points = int(out.sum()), int(labelled[known].sum())
        share = total / all_points
        notes = [f"{out[row].sum()} points, up to {farthest[row]:.0f} px" for row in rows.tolist()]
        yield Finding(
            "points_outside_image",
            "error" if share > _MANY_OUT else "warning" if share > _SOME_OUT else "note",
            f"{total} of {all_points} labelled points, in {len(rows)} instances, lie outside "
            "their image",
            "mark them as not labelled, or check that these are the images that were annotated",
            len(rows),
            instance_examples(columns, rows, notes),
        )
    yield from _boxes_outside(columns, size, known)


def box_format(columns: InstanceColumns, image_size: np.ndarray) -> Iterator[Finding]:
    """Name boxes that fit the labelled points far better when they are read in another format.

    Formats tried: corners (x0, y0, x1, y1), centre (cx, cy, width, height), swapped axes
    (y, x, height, width), and shares of the image instead of pixels.
    """
    poses = _boxed(columns)
    if len(poses) < _ENOUGH:
        return
    box = np.asarray(columns.box_xywh, dtype=np.float64)[poses.rows]
    low, high = _extent(poses)
    size = image_size[np.asarray(columns.image_index)[poses.rows]].astype(np.float64)[:, ::-1]
    given = _fit(box, low, high)
    best, best_name = given, ""
    for name, other in _other_formats(box, size).items():
        fit = _fit(other, low, high)
        if np.median(fit) > np.median(best) + 1e-9:
            best, best_name = fit, name
        better = (fit > 2.5 * given) & (fit > _CLEAR)
        few = better.mean() <= _MOST and better.sum() >= max(3, _FEW * len(poses))
        if few and name == "corners (x0, y0, x1, y1)":
            rows = poses.rows[better]
            yield _format_finding(columns, rows, name, len(poses), is_all=False)
            return
    if best_name and np.median(best) > np.median(given) + _CLEAR and (best > given).mean() > 0.8:
        rows = poses.rows[best > given]
        yield _format_finding(columns, rows, best_name, len(poses), is_all=True)


def points_and_boxes(columns: InstanceColumns) -> Iterator[Finding]:
    """Name points that do not lie in their boxes: crop pixels, swapped axes, another scale, or far.

    Only annotated boxes count. Points may lie beyond the box by 10 % of its size.
    """
    poses = _boxed(columns)
    if len(poses) < _ENOUGH:
        return
    share = _share_inside(poses)
    if np.median(share) >= _MOST:
        yield from _far_from_box(columns, poses, share)
        return
    middle = np.array(
        [p[seen].mean(axis=0) for p, seen in zip(poses.points, poses.labelled, strict=True)]
    )
    swapped = PoseShapes(**{**vars(poses), "points": poses.points[..., ::-1]})
    corner = poses.center - poses.size / 2
    moved = PoseShapes(**{**vars(poses), "points": poses.points + corner[:, None]})
    name, text, fix = (
        "points_outside_boxes",
        "the points lie outside their boxes: the two do not belong together",
        "check that boxes and points are of the same instance and in pixels of the same image",
    )
    follows = [_correlation(middle[:, axis], poses.center[:, axis]) for axis in (0, 1)]
    if np.median(_share_inside(swapped)) > 0.8:
        name, text = "points_axes_swapped", "x and y of the points have traded places"
        fix = "give points as (x, y)"
    elif np.median(_share_inside(moved)) > 0.8 or max(np.abs(follows)) < 0.5:
        name = "points_in_crop_frame"
        text = (
            "the points do not move with their boxes (correlation "
            f"{follows[0]:.2f} in x, {follows[1]:.2f} in y): they are in pixels of a crop"
        )
        fix = "take them back to the image: divide by the crop's scale and add its corner"
    elif min(follows) > 0.9:
        scale = float(np.median(middle / np.maximum(poses.center, 1.0)))
        name = "points_of_other_scale"
        text = f"the points are about {scale:.3g} times as far out as their boxes"
        fix = "points and boxes must be in pixels of the same image; scale one of them"
    rows = poses.rows[share < _MOST]
    yield Finding(
        name,
        "error",
        f"in {len(rows)} of {len(poses)} instances most points lie outside the box: {text}",
        fix,
        len(rows),
        instance_examples(columns, rows),
    )


def _boxes_outside(
    columns: InstanceColumns, size: np.ndarray, known: np.ndarray
) -> Iterator[Finding]:
    box = np.asarray(columns.box_xywh, dtype=np.float64)
    wanted = known & np.asarray(columns.has_box) & np.isfinite(box).all(axis=1)
    low, high = box[:, :2], box[:, :2] + box[:, 2:]
    with np.errstate(invalid="ignore"):
        apart = wanted & ((high <= 0) | (low >= size)).any(axis=1)
        over = np.maximum(-low, high - size).max(axis=1)
        reach = wanted & ~apart & (over > np.maximum(2.0, 0.02 * box[:, 2:].max(axis=1)))
    for which, name, severity, what in (
        (apart, "boxes_outside_image", "error", "lie wholly outside their image"),
        (reach, "boxes_beyond_image", "note", "reach beyond the border of their image"),
    ):
        rows = np.flatnonzero(which)
        if not len(rows):
            continue
        rows = rows[np.argsort(-over[rows], kind="stable")]
        is_many = which.sum() > 0.3 * wanted.sum()
        yield Finding(
            name,
            "warning" if severity == "note" and is_many else severity,  # type: ignore[arg-type]
            f"{len(rows)} of {int(wanted.sum())} boxes {what}",
            "check the boxes' format (x, y, width, height in pixels) and the image sizes",
            len(rows),
            instance_examples(columns, rows, [f"by {over[row]:.0f} px" for row in rows.tolist()]),
        )


def _far_from_box(
    columns: InstanceColumns, poses: PoseShapes, share: np.ndarray
) -> Iterator[Finding]:
    far = share < _CLEAR
    rows = poses.rows[far]
    if len(rows):
        yield Finding(
            "points_far_from_box",
            "error" if len(rows) > _FEW * len(poses) else "warning",
            f"{len(rows)} of {len(poses)} instances have most of their points outside their box: "
            "box and points are of different instances, or one of them is in another frame",
            "correct the box or the points",
            len(rows),
            instance_examples(columns, rows, [f"{s:.0%} inside" for s in share[far].tolist()]),
        )


def _format_finding(
    columns: InstanceColumns, rows: np.ndarray, name: str, of: int, *, is_all: bool
) -> Finding:
    return Finding(
        "boxes_in_wrong_format",
        "error",
        f"{len(rows)} of {of} boxes fit their points when they are read as {name} instead of "
        "(x, y, width, height)",
        "write boxes as x, y, width, height in pixels"
        + ("" if is_all else "; only some of them are wrong"),
        len(rows),
        instance_examples(columns, rows),
    )


def _other_formats(box: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
    corner, extent = box[:, :2], box[:, 2:]
    formats = {
        "corners (x0, y0, x1, y1)": np.concatenate([corner, extent - corner], axis=1),
        "centre (cx, cy, width, height)": np.concatenate([corner - extent / 2, extent], axis=1),
        "swapped axes (y, x, height, width)": box[:, [1, 0, 3, 2]],
    }
    if (size > 0).all() and np.abs(box).max() <= 2:
        formats["shares of the image"] = box * np.concatenate([size, size], axis=1)
    return formats


def _boxed(columns: InstanceColumns) -> PoseShapes:
    poses = select_poses(columns, most=20_000)
    return poses.take(np.asarray(columns.has_box)[poses.rows])


def _extent(poses: PoseShapes) -> tuple[np.ndarray, np.ndarray]:
    points = np.where(poses.labelled[..., None], poses.points, np.nan)
    return np.nanmin(points, axis=1), np.nanmax(points, axis=1)


def _fit(box: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """float64 (n,): overlap (intersection over union) of boxes with the extent of the points."""
    inside_low = np.maximum(box[:, :2], low)
    inside_high = np.minimum(box[:, :2] + box[:, 2:], high)
    inside = np.clip(inside_high - inside_low, 0, None).prod(axis=1)
    area = np.where((box[:, 2:] > 0).all(axis=1), box[:, 2:].prod(axis=1), np.inf)
    union = area + (high - low).prod(axis=1) - inside
    return inside / np.where(union > 0, union, 1.0)


def _share_inside(poses: PoseShapes) -> np.ndarray:
    """float64 (n,): share of the labelled points that lie in their box, 10 % of it added."""
    reach = poses.size * (0.5 + _SLACK)
    inside = (np.abs(poses.points - poses.center[:, None]) <= reach[:, None]).all(axis=2)
    return (inside & poses.labelled).sum(axis=1) / np.maximum(poses.labelled.sum(axis=1), 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
