"""One offline page of a check: what the splits hold, and every finding with pictures of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.diagnosis.check import Checked
from posekit.diagnosis.findings import Example, Finding, instance_examples
from posekit.drawing import (
    TRUTH,
    PoseStyle,
    beside,
    contact_sheet,
    crop_view,
    draw_boxes,
    draw_poses,
    stroke_width,
)
from posekit.drawing.picture_files import jpeg_uri
from posekit.errors import DatasetError
from posekit.pages.shell import write_page

_TILE = 230
_COLUMNS = 5
_TILES = 15
_SAMPLES = 10
_CONTEXT = 1.3


def write_check_page(file: str | Path, checked: Checked) -> Path:
    """Write one HTML page of a check, with contact sheets; it needs no network and no other file.

    Cost: reads at most 15 images a finding and 10 a split; about 300 kB each.

    Raises:
        PosekitError: the page cannot be written.
    """
    findings = []
    for found in checked.report.findings:
        index = checked.indices.get(found.split)
        tiles = list(_tiles(index, found)) if index is not None else []
        findings.append((found, _sheet(tiles), len(tiles)))
    return write_page(
        Path(file).expanduser(),
        "check.html",
        report=checked.report,
        samples={name: _sheet(_sample_tiles(index)) for name, index in checked.indices.items()},
        findings=findings,
    )


def _sheet(tiles: list[tuple[np.ndarray, str]]) -> str:
    """Return tiles and their captions as one picture (a data URI), "" without tiles."""
    if not tiles:
        return ""
    columns = _COLUMNS if tiles[0][0].shape[1] <= _TILE else 2
    return jpeg_uri(contact_sheet([tile for tile, _ in tiles], columns, [t for _, t in tiles]))


def _sample_tiles(index: PoseIndex) -> list[tuple[np.ndarray, str]]:
    rows = np.flatnonzero(index.columns.num_labelled > 0)
    if len(rows) > _SAMPLES:
        rows = rows[np.linspace(0, len(rows) - 1, _SAMPLES).astype(np.int64)]
    tiles = ((_tile(index, e), e) for e in instance_examples(index.columns, rows))
    return [(tile, Path(e.image).name) for tile, e in tiles if tile is not None]


def _tiles(index: PoseIndex, found: Finding) -> Iterator[tuple[np.ndarray, str]]:
    shown = 0
    for example in found.examples:
        if shown == _TILES:
            return
        tile = _tile(index, example)
        if tile is not None:
            shown += 1
            yield tile, example.note or Path(example.image).name


def _tile(index: PoseIndex, example: Example) -> np.ndarray | None:
    """Draw an example, or None where its picture cannot be read."""
    columns = index.columns
    if example.image_index < 0:
        return None
    declared = columns.image_size[example.image_index]
    image = _read(index.image_file_at(example.image_index), (int(declared[0]), int(declared[1])))
    if image is None:
        return None
    if example.row >= 0:
        return _instance_tile(index, example.row, image)
    tile = _whole(image)
    if example.beside is not None:
        other = _read(example.beside)
        return beside(tile, _whole(other)) if other is not None else tile
    return tile


def _instance_tile(index: PoseIndex, row: int, image: np.ndarray) -> np.ndarray:
    columns = index.columns
    points = np.asarray(columns.keypoints[row], np.float64)
    visibility = np.asarray(columns.visibility[row])
    box = np.asarray(columns.box_xywh[row], np.float64)
    height, width = image.shape[:2]
    seen = points[visibility > 0]
    corners = [seen] if len(seen) else []
    if np.isfinite(box).all():
        corners.append(np.stack([box[:2], box[:2] + box[2:]]))
    around = np.concatenate(corners) if corners else np.array([[0, 0], [width, height]])
    # what lies far outside shows by its direction; the picture must stay in sight
    around = np.clip(around, [-width, -height], [2 * width, 2 * height])
    low, high = around.min(axis=0), around.max(axis=0)
    view, matrix = crop_view(image, (low + high) / 2, _CONTEXT * float((high - low).max()), _TILE)
    placed = points @ matrix[:, :2].T + matrix[:, 2]
    if np.isfinite(box).all() and bool(columns.has_box[row]):
        scale = matrix[0, 0]
        corner = box[:2] * scale + matrix[:, 2]
        view = draw_boxes(view, np.concatenate([corner, box[2:] * scale])[None], colours=[TRUTH])
    style = PoseStyle(width=stroke_width(placed[visibility > 0]) if len(seen) > 1 else 2.0)
    return draw_poses(view, placed, index.schema, visibility=visibility, style=style)


def _whole(image: np.ndarray) -> np.ndarray:
    """Scale a picture onto a tile, the rest of which stays grey."""
    scale = _TILE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    tile = np.full((_TILE, _TILE, 3), 60, np.uint8)
    top, left = (_TILE - height) // 2, (_TILE - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def _read(file: Path, declared: tuple[int, int] = (0, 0)) -> np.ndarray | None:
    try:
        return read_image(file, declared)
    except DatasetError:
        return None
