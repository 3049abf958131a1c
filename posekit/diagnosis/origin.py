"""Do coordinates count from 0: suspicion of an origin that is one pixel off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posekit.data.columns import InstanceColumns
from posekit.diagnosis.findings import Finding, instance_examples

_FEW_WHOLE = 3
_FEW = 8
_SLOPPY = 0.5


def origin_findings(columns: InstanceColumns, image_size: np.ndarray) -> Iterator[Finding]:
    """Suspect coordinates that count from 1, or that had 1 subtracted once too often.

    Evidence is at the borders. Coordinates that count from 0 end at width - 1; people cut off on
    the left are as frequent as those on the right. So points (or corners of boxes) in the pixel
    beyond the right or lower border, while the first pixel of either axis stays empty, tell of an
    origin at 1; the reverse tells of one at -1. Where all coordinates are whole numbers three such
    points suffice, since there is no such pixel; otherwise eight, right border against left.
    Silent where points lie far outside too (careless labels), and where no point comes near a
    border: then nothing can be told.

    Args:
        columns: the split.
        image_size: int32 (M, 2), (height, width), 0 where not known.
    """
    size = image_size[np.asarray(columns.image_index)].astype(np.float64)[:, ::-1]
    known = (size > 0).all(axis=1)
    labelled = (np.asarray(columns.visibility) > 0) & known[:, None]
    points = np.asarray(columns.keypoints)[labelled].astype(np.float64)
    rows = np.flatnonzero(labelled.any(axis=1))
    last = np.repeat(size, labelled.sum(axis=1), axis=0) - 1
    owner = np.repeat(np.arange(len(size)), labelled.sum(axis=1))
    if not len(rows):
        return
    yield from _judge(columns, points, last, owner, "points")


def _judge(
    columns: InstanceColumns, points: np.ndarray, last: np.ndarray, owner: np.ndarray, what: str
) -> Iterator[Finding]:
    is_whole = bool((points == np.round(points)).mean() > 0.99)
    for name, sign in (("counts_from_one", 1), ("counts_from_minus_one", -1)):
        beyond = points - last if sign > 0 else -points
        before = points if sign > 0 else last - points
        # beyond: up to one pixel past the last; before: within the first pixel, or even outside
        past = (beyond > 0) & (beyond <= 1)
        far = (beyond > 1) | (before < -1)
        first = (before < 1) & (before >= -1)
        evidence = int(past.sum() if is_whole else past[:, 0].sum())
        needed = _FEW_WHOLE if is_whole else _FEW
        if evidence < needed or first.any() or far.sum() > _SLOPPY * past.sum():
            continue
        rows = np.unique(owner[past.any(axis=1)])
        begin = "1" if sign > 0 else "-1"
        yield Finding(
            name,
            "error",
            f"the {what} seem to count from {begin}: {int(past.sum())} lie in the pixel "
            f"{'after the last' if sign > 0 else 'before the first'} column or row, none in the "
            f"{'first' if sign > 0 else 'last'}",
            "subtract 1 (card: options.one_based, or in the adapter)"
            if sign > 0
            else "1 was subtracted although the file counts from 0 already",
            len(rows),
            instance_examples(columns, rows),
        )
