"""Pictures of a head's best and worst predictions, the truth beside each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.diagnosis.pairs import Pairs
from posekit.drawing import (
    TRUTH,
    PoseStyle,
    beside,
    contact_sheet,
    crop_view,
    draw_errors,
    draw_label,
    draw_poses,
    stroke_width,
)
from posekit.drawing.picture_files import write_picture
from posekit.errors import DatasetError

_PANEL = 250
_CONTEXT = 1.35
_COLUMNS = 3


def write_best_worst(
    folder: str | Path, index: PoseIndex, pairs: Pairs, count: int = 12
) -> dict[str, Path]:
    """Write best.png and worst.png: contact sheets of the best and the worst predictions.

    Only instances with at least half as many labelled keypoints as is usual in this split are
    chosen, so that one lucky keypoint does not make a best prediction. Images that cannot be read
    are skipped. Cost: reads 2 `count` images.

    Args:
        folder: where the files go; made if it is not there.
        index: the split that was evaluated.
        pairs: predictions with the annotations that they belong to, in any order.
        count: how many instances a sheet holds at most.

    Returns:
        "best" and "worst" -> the files written; empty if there was nothing to show.

    Raises:
        PosekitError: a sheet cannot be written.
    """
    if not len(pairs):
        return {}
    errors, rows = np.nanmean(pairs.errors(), axis=1), pairs.truth_rows
    labelled = pairs.labelled.sum(axis=1)
    chosen = np.flatnonzero(labelled >= 0.5 * np.median(labelled))
    order = chosen[np.argsort(errors[chosen], kind="stable")]
    count = min(count, -(-len(order) // 2)) if len(order) > 1 else count
    written: dict[str, Path] = {}
    for kind, sequence in (("best", order), ("worst", order[::-1])):
        tiles: list[np.ndarray] = []
        captions: list[str] = []
        for i in sequence:
            if len(tiles) == count:
                break
            tile = _tile(index, pairs, int(i))
            if tile is not None:
                tiles.append(tile)
                captions.append(f"{errors[i]:.3f}  {index.image_file(int(rows[i])).name}")
        if tiles:
            title = (
                f"{index.card.name}: {kind} {len(tiles)} of {len(order)}. Truth | prediction. "
                "Number: mean error / long side of the box"
            )
            sheet = contact_sheet(
                tiles, -(-len(tiles) // -(-len(tiles) // _COLUMNS)), captions, title
            )
            written[kind] = write_picture(Path(folder) / f"{kind}.png", sheet)
    return written


def _tile(index: PoseIndex, pairs: Pairs, i: int) -> np.ndarray | None:
    """Return truth and prediction of labelled keypoints side by side; None without an image."""
    columns, schema, row = index.columns, index.schema, int(pairs.truth_rows[i])
    declared = columns.image_size[columns.image_index[row]]
    try:
        image = read_image(index.image_file(row), (int(declared[0]), int(declared[1])))
    except DatasetError:
        return None
    true, visibility = columns.keypoints[row], columns.visibility[row]
    points, scores = pairs.found[i], pairs.scores[i]
    seen = true[visibility > 0]
    box = columns.box_xywh[row]
    low = np.minimum(box[:2], seen.min(axis=0))
    high = np.maximum(box[:2] + box[2:], seen.max(axis=0))
    side = _CONTEXT * float((high - low).max())
    view, matrix = crop_view(image, (low + high) / 2, side, _PANEL)
    true_view = true @ matrix[:, :2].T + matrix[:, 2]
    points_view = points @ matrix[:, :2].T + matrix[:, 2]
    width = stroke_width(true_view[visibility > 0])
    plain = PoseStyle(width=width)
    truth_panel = draw_poses(view, true_view, schema, visibility=visibility, style=plain)
    scored = np.where(visibility > 0, 2, 0)  # what is not labelled counts neither way
    panel = draw_errors(view, points_view, true_view, visibility)
    rings = PoseStyle(colour=TRUTH, ring=True, links=False, width=width)
    panel = draw_poses(panel, true_view, schema, visibility=visibility, style=rings)
    panel = draw_poses(
        panel, points_view, schema, scores=_relative(scores), visibility=scored, style=plain
    )
    return beside(draw_label(truth_panel, "truth", (4, 4)), panel)


def _relative(scores: np.ndarray) -> np.ndarray:
    """Scale scores so that the surest keypoint is fully opaque; heads differ in their range."""
    top = float(np.nanmax(scores, initial=0.0))
    return scores / top if top > 0 else np.ones_like(scores)
