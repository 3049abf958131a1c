"""Faults that show in where the points lie: frames, origins, sides, orders, files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

from posekit.diagnosis.findings import Finding, warning
from posekit.diagnosis.order import as_order
from posekit.diagnosis.pairs import Pairs
from posekit.schema import KeypointSchema

_ENOUGH = 8
_CLOSE = 0.05
_LOST = 0.35
_MOST = 400


def geometry_findings(pairs: Pairs, schema: KeypointSchema) -> list[Finding]:
    """Name what is wrong with the places of the points, if anything is.

    Each suspected fault is undone, and the one whose undoing at least halves the median error is
    named. Errors are shares of the annotated box's long side.
    """
    if len(pairs) < _ENOUGH:
        return []
    error = float(np.nanmedian(pairs.errors()))
    if error * float(np.median(pairs.long_side)) < 1e-3:
        return [
            warning(
                "too_good",
                "the predictions are the annotations themselves (median error 0); was the truth "
                "read as the prediction?",
            )
        ]
    if (found := _same_pose(pairs)) is not None:
        return [found]
    if error > _CLOSE:
        if found := _normalised(pairs) or _crop_frame(pairs) or _undone(pairs, schema, error):
            return [found]
        if error > _LOST:
            return [
                warning(
                    "unrelated_poses",
                    f"the poses bear no relation to the annotations (median error {error:.0%} of "
                    "the box) although images and ids fit: an untrained model, or another "
                    "model's file",
                )
            ]
    return [*_shifted(pairs, error), *_bad_keypoints(pairs, schema)]


def _same_pose(pairs: Pairs) -> Finding | None:
    """One pose in every box: the model ignores its input."""
    long_side = np.repeat(pairs.long_side[:, None], 2, axis=1)
    for unit in (pairs.size, long_side):
        found = (pairs.found - pairs.center[:, None]) / unit[:, None]
        true = (pairs.true - pairs.center[:, None]) / unit[:, None]
        varies = np.mean([true[pairs.labelled[:, k], k].std(axis=0) for k in _used(pairs)])
        if found.std(axis=0).mean() < 0.1 * varies:
            return warning(
                "same_pose_everywhere",
                f"every box holds nearly the same pose (it varies by {found.std(axis=0).mean():.3f}"
                f" of the box, the annotations by {varies:.3f}): the model ignores its input, or "
                "these are baseline predictions",
            )
    return None


def _normalised(pairs: Pairs) -> Finding | None:
    largest = np.abs(pairs.found).max()
    if largest <= 1.5 and pairs.true[pairs.labelled].max() > 20:
        return warning(
            "normalised_points",
            f"no coordinate is beyond {largest:.2f}: the points are shares of the image or crop, "
            "not pixels",
        )
    return None


def _crop_frame(pairs: Pairs) -> Finding | None:
    """Points far from their boxes whose layout still follows the pose inside the box."""
    inside = np.abs(pairs.found - pairs.center[:, None]) <= pairs.long_side[:, None, None]
    if (inside.all(axis=-1)[pairs.labelled]).mean() > 0.5:
        return None
    relative = ((pairs.true - pairs.center[:, None]) / pairs.long_side[:, None, None])[
        pairs.labelled
    ]
    found = pairs.found[pairs.labelled]
    correlation = min(np.corrcoef(relative[:, i], found[:, i])[0, 1] for i in range(2))
    if correlation > 0.8:
        return warning(
            "crop_frame",
            "the points lie outside their boxes, but follow the pose inside the box (correlation "
            f"{correlation:.2f}): they are in crop or heatmap pixels; take them back to the image",
        )
    return None


def _undone(pairs: Pairs, schema: KeypointSchema, error: float) -> Finding | None:
    """Undo each suspected fault, and name the one whose undoing leaves the least error.

    An earlier suspect wins unless a later one leaves clearly less, so that a plain exchange of
    sides is not called a wrong order.
    """
    left: dict[str, float] = {}
    texts: dict[str, str] = {}
    for name, points, text in _suspects(pairs, schema):
        left[name], texts[name] = float(np.nanmedian(pairs.errors(points))), text
    share, remaining = _of_other_instances(pairs)
    if share > 0.5:
        left["shuffled_instances"] = remaining
        texts["shuffled_instances"] = (
            f"{share:.0%} of the poses fit another instance better than the one whose id they "
            "carry: ids or rows are out of order"
        )
    best = ""
    for name, remains in left.items():
        if remains < error / 2 and (not best or remains < 0.8 * left[best]):
            best = name
    return warning(best, texts[best]) if best else None


def _suspects(pairs: Pairs, schema: KeypointSchema) -> Iterator[tuple[str, np.ndarray, str]]:
    """Return (name, points with the fault undone, explanation)."""
    swap = schema.flip_indices
    yield (
        "swapped_sides",
        pairs.found[:, swap],
        "left and right have traded places; check the flip pairs and the mirrored maps",
    )
    turned = pairs.found.copy()
    turned[..., 0] = 2 * pairs.center[:, :1] - turned[..., 0]
    yield (
        "mirrored",
        turned[:, swap],
        "the poses are mirrored in their boxes: crops were flipped and not flipped back",
    )
    yield (
        "swapped_axes",
        pairs.found[..., ::-1],
        "x and y have traded places: points are (row, column)",
    )
    factor, shift = _fit_scale(pairs)
    yield (
        "scaled_points",
        pairs.found * factor + shift,
        f"the points fit after scaling by {factor:.3g}: they belong to images of another size",
    )
    order = _best_order(pairs, len(schema))
    moved = np.flatnonzero(order != np.arange(len(order)))
    k = moved[0] if len(moved) else 0
    yield (
        "wrong_keypoint_order",
        pairs.found[:, order],
        f"{len(moved)} keypoints stand at another place than the schema says; for example channel "
        f"{order[k]} ({schema.keypoints[order[k]]}) holds {schema.keypoints[k]}",
    )


def _of_other_instances(pairs: Pairs) -> tuple[float, float]:
    """Share of poses that fit another instance than their own, and the error if so matched."""
    chosen = np.arange(len(pairs))[:_MOST]
    cost = np.full((len(chosen), len(chosen)), np.inf)
    for j in chosen:
        offset = np.linalg.norm(pairs.found[chosen] - pairs.true[j], axis=-1)
        cost[:, j] = np.median(offset[:, pairs.labelled[j]], axis=1) / pairs.long_side[j]
    return float((cost.argmin(axis=1) != chosen).mean()), float(np.median(cost.min(axis=1)))


def _fit_scale(pairs: Pairs) -> tuple[float, np.ndarray]:
    """Fit true = factor x found + shift by least squares; no fit where factor is near 1."""
    found, true = pairs.found[pairs.labelled], pairs.true[pairs.labelled]
    middle_found, middle_true = found.mean(axis=0), true.mean(axis=0)
    a, b = found - middle_found, true - middle_true
    factor = float((a * b).sum() / max((a * a).sum(), 1e-12))
    if abs(factor - 1) < 0.03:
        return 1.0, np.zeros(2)
    return factor, middle_true - factor * middle_found


def _best_order(pairs: Pairs, num: int) -> np.ndarray:
    """int64 (K,): the channel that fits each keypoint best, each channel taken once."""
    cost = np.full((num, num), 10.0)
    for k in _used(pairs):
        rows = pairs.labelled[:, k]
        offset = np.linalg.norm(pairs.found[rows] - pairs.true[rows, k][:, None], axis=-1)
        cost[:, k] = np.median(offset / pairs.long_side[rows, None], axis=0)
    return as_order(*linear_sum_assignment(cost))


def _shifted(pairs: Pairs, error: float) -> Iterator[Finding]:
    """All points moved by the same small vector: 0- against 1-based, or half a heatmap pixel."""
    offset = (pairs.found - pairs.true)[pairs.labelled]
    shift = np.median(offset, axis=0)
    spread = 1.4826 * np.median(np.abs(offset - shift), axis=0)
    margin = 6 * 1.2533 * spread / np.sqrt(len(offset))
    least = max(0.4, 0.003 * float(np.median(pairs.long_side)))
    clear = (np.abs(shift) > np.maximum(margin, least)).any()
    before = np.median(np.linalg.norm(offset, axis=1))
    after = np.median(np.linalg.norm(offset - shift, axis=1))
    if clear and after < 0.95 * before:
        yield warning(
            "shifted_origin",
            f"all points are off by about ({shift[0]:+.2f}, {shift[1]:+.2f}) pixels; one counts "
            "from 0 and the other from 1, or the wrong warp took them back to the image",
        )


def _bad_keypoints(pairs: Pairs, schema: KeypointSchema) -> Iterator[Finding]:
    used = _used(pairs)
    error = pairs.errors()
    medians = np.asarray([np.nanmedian(error[:, k]) for k in used])
    usual = np.median(medians)
    for k, median in zip(used, medians, strict=True):
        if median > max(6 * usual, 0.15) and pairs.labelled[:, k].sum() >= _ENOUGH:
            yield warning(
                "bad_keypoint",
                f"'{schema.keypoints[k]}' alone is off (median {median:.0%} of the box, the "
                f"others {usual:.0%}); check its place in the schema and its annotations",
            )


def _used(pairs: Pairs) -> list[int]:
    return np.flatnonzero(pairs.labelled.any(axis=0)).tolist()
