"""The contact sheet of a new dataset: what the card makes of the annotations, to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posekit.config.cards import DatasetCard
from posekit.data.cache_folder import default_cache
from posekit.data.images import read_image
from posekit.data.index import build_index
from posekit.drawing import contact_sheet, crop_view, draw_label, draw_poses
from posekit.drawing.picture_files import write_picture
from posekit.errors import PosekitError

_TILE = 240
_TILES = 24
_NAMED = 20


def write_sheet(
    file: Path, card: DatasetCard, root: Path, unsure: list[str], *, sides_known: bool = True
) -> Path | None:
    """Write a picture of some instances of every split with their poses drawn in.

    Blue is the subject's left, orange its right, white the midline: a glance tells whether sides
    are right. The first tile has the keypoints' names. If `sides_known` is False, which colour is
    left is not known.

    Returns:
        the file, or None if no image of the dataset can be read; `unsure` then gains a sentence.

    Raises:
        PosekitError: the file cannot be written.
    """
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    problem = ""
    for split in card.splits:
        index = build_index(card, root, split, default_cache())
        rows = index.trainable
        wanted = _TILES // len(card.splits)
        fullest = np.argsort(-index.columns.num_labelled[rows], kind="stable")[: 4 * wanted]
        chosen = rows[np.sort(fullest[:: max(1, len(fullest) // wanted)][:wanted])]
        centers, sizes = index.crop_boxes(chosen)
        for row, center, size in zip(chosen.tolist(), centers, sizes, strict=True):
            try:
                image = read_image(index.image_file(row))
            except PosekitError as error:
                problem = problem or str(error)
                continue
            crop, matrix = crop_view(image, center, float(size.max()) * 1.4, _TILE)
            points = index.columns.keypoints[row] @ matrix[:, :2].T + matrix[:, 2]
            flags = index.columns.visibility[row]
            drawn = draw_poses(crop, points, card.keypoint_schema, visibility=flags)
            if not tiles:
                drawn = _named(drawn, points, flags, card)
            tiles.append(drawn)
            captions.append(f"{split}: {index.columns.instance_id[row]}")
    if problem:
        unsure.append(f"an image cannot be read: {problem}")
    if not tiles:
        return None
    colours = "blue is the subject's left, orange its right"
    if not sides_known:
        colours = "blue and orange trade places in the mirror, white keeps its place"
    picture = contact_sheet(tiles, 6, captions, f"{card.name}: {colours}")
    return write_picture(file, picture)


def _named(
    tile: np.ndarray, points: np.ndarray, visibility: np.ndarray, card: DatasetCard
) -> np.ndarray:
    """Write the keypoints' names (numbers, if they are many) beside them."""
    names = card.keypoint_schema.keypoints
    for k in np.flatnonzero(visibility > 0):
        text = names[k] if len(names) <= _NAMED else str(k)
        tile = draw_label(tile, text, (float(points[k, 0]) + 4, float(points[k, 1])), size=10)
    return tile
