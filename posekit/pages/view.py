"""One offline page of a dataset or of predictions: sort, filter, click through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.fields import id_text
from posekit.data.any_image import load_image
from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.diagnosis.error_types import KINDS, keypoint_kinds
from posekit.diagnosis.pairs import Pairs, pair
from posekit.drawing import crop_view, keypoint_colours, link_colours
from posekit.drawing.picture_files import jpeg_uri
from posekit.errors import DatasetError, PosekitError, PredictionError
from posekit.inference.video_io import VideoReader
from posekit.pages.shell import write_page
from posekit.poses.table import Poses
from posekit.schema import KeypointSchema

MISSED = "no prediction"
_SIZE = 320
_CONTEXT = 1.3


def write_view(
    file: str | Path,
    index: PoseIndex,
    predictions: Poses | None = None,
    *,
    limit: int = 600,
) -> Path:
    """Write one HTML page that shows a split's instances, with predictions if there are any.

    The page needs no network and no other file. Instances can be sorted by error, score, size or
    labels, filtered by name, keypoint, size and type of error, and stepped through with mouse or
    keyboard. Errors are in long sides of the box.

    Args:
        file: the page to write.
        index: the split.
        predictions: of the split; the worst `limit` that belong to an annotated instance are shown,
            after labelled instances that have none. Left out, the labelled instances are shown,
            evenly spread over the split.
        limit: how many instances the page holds at most (about 20 kB each).

    Raises:
        PredictionError: no prediction belongs to an annotated instance.
        PosekitError: nothing to show, no image can be read, or the page cannot be written.
    """
    pairs = None if predictions is None else pair(index.columns, predictions)
    if pairs is not None and not len(pairs):
        raise PredictionError(
            f"{index.name}: none of the predictions belongs to an annotated instance of it"
        )
    items = list(_items(index, pairs, limit))
    if not items:
        raise PosekitError(f"{index.name}: no instance of it can be shown")
    title = f"{index.card.title or index.card.name}, {index.split}"
    return _write_page(Path(file), title, index.schema, items)


def write_poses_view(file: str | Path, poses: Poses, title: str, *, limit: int = 600) -> Path:
    """Write one HTML page of predictions without truth; see `write_view`.

    Args:
        file: the page to write.
        poses: predictions; their images are read from where their names say.
        title: the page's title.
        limit: how many instances the page holds at most.

    Raises:
        PosekitError: nothing to show, or the page cannot be written.
    """
    items: list[dict[str, Any]] = []
    frames: dict[str, Iterator[tuple[int, np.ndarray]]] = {}
    for name, part in poses.by_image():
        pixels = _pixels(name, frames) if len(part) and len(items) < limit else None
        if pixels is not None:
            items += [_pose_item(part, i, pixels, Path(name).name) for i in range(len(part))]
    if not items:
        raise PosekitError(f"{title}: no instance can be shown; are the images where they were?")
    return _write_page(Path(file), title, poses.schema, items[:limit])


def _pixels(name: str, frames: dict[str, Iterator[tuple[int, np.ndarray]]]) -> np.ndarray | None:
    """Return the image of a name, or the frame of 'clip.mp4, frame 3'; None if it is gone.

    Frames must be asked for in order; `frames` keeps the videos that are being read.
    """
    if Path(name).is_file():
        return load_image(name).pixels
    video, is_frame, number = name.rpartition(", frame ")
    if not is_frame or not Path(video).is_file():
        return None
    if video not in frames:
        frames[video] = enumerate(VideoReader(Path(video)))
    return next((image for place, image in frames[video] if place == int(number)), None)


def _items(index: PoseIndex, pairs: Pairs | None, limit: int) -> Iterator[dict[str, Any]]:
    """Return the instances to show, image by image so that each is read once."""
    columns = index.columns
    kinds = np.empty(0)
    if pairs is None:
        rows = np.flatnonzero(columns.num_labelled > 0)
        if len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
        places = np.full(len(rows), -1)
    else:
        kinds = np.array(KINDS)[keypoint_kinds(pairs, columns, index.schema)[0]]
        rows, places = _worst(pairs, limit)
        missed = np.setdiff1d(np.flatnonzero(columns.num_labelled > 0), pairs.truth_rows)[:limit]
        rows = np.concatenate([missed, rows])[:limit]
        places = np.concatenate([np.full(len(missed), -1), places])[:limit]
    order = np.argsort(columns.image_index[rows], kind="stable")
    last: tuple[int, np.ndarray | None] = (-1, None)
    for row, place in zip(rows[order].tolist(), places[order].tolist(), strict=True):
        number = int(columns.image_index[row])
        if last[0] != number:
            height, width = columns.image_size[number].tolist()
            try:
                last = (number, read_image(index.image_file_at(number), (height, width)))
            except DatasetError:
                last = (number, None)
        if last[1] is not None:
            yield _item(index, row, last[1], pairs, kinds, place)


def _worst(pairs: Pairs, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the truth and the places in `pairs` with the largest mean errors."""
    places = np.argsort(-np.nanmean(pairs.errors(), axis=1), kind="stable")[:limit]
    return pairs.truth_rows[places], places


def _item(
    index: PoseIndex, row: int, image: np.ndarray, pairs: Pairs | None, kinds: np.ndarray, i: int
) -> dict[str, Any]:
    """Return what the page knows of an instance; `i` is its place in `pairs`, -1 if it has none."""
    columns = index.columns
    truth, flags = np.asarray(columns.keypoints[row], float), np.asarray(columns.visibility[row])
    box = np.asarray(columns.box_xywh[row], dtype=float)
    item, matrix = _picture_item(image, truth[flags > 0], box)
    item |= {"n": index.image_file(row).name, "id": id_text(columns.instance_id[row])}
    item["t"] = _view_points(truth, flags, matrix)
    if pairs is None:
        return item
    if i < 0:
        item["k"] = [MISSED if flag > 0 else None for flag in flags.tolist()]
        return item
    errors = pairs.take(slice(i, i + 1)).errors()[0]
    item["p"] = _view_points(pairs.found[i], np.round(pairs.scores[i], 3), matrix)
    item["s"] = round(float(np.mean(pairs.scores[i])), 3)
    item["e"] = [None if np.isnan(error) else round(float(error), 4) for error in errors]
    item["k"] = [
        str(kind) if flag > 0 else None for kind, flag in zip(kinds[i], flags, strict=True)
    ]
    item["err"] = round(float(np.nanmean(errors)), 4)
    return item


def _pose_item(poses: Poses, i: int, image: np.ndarray, name: str) -> dict[str, Any]:
    points = poses.keypoints[i]
    item, matrix = _picture_item(image, points[:0], poses.box_xywh[i])
    item |= {"n": name, "id": str(i), "s": round(float(poses.instance_scores[i]), 3)}
    item["t"] = [[0.0, 0.0, 0]] * len(points)
    item["p"] = _view_points(points, np.round(poses.scores[i], 3), matrix)
    return item


def _picture_item(
    image: np.ndarray, points: np.ndarray, box: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Return an item with its picture, and the matrix from the image to it."""
    corners = [box[:2], box[:2] + box[2:]] if np.isfinite(box).all() else []
    reach = np.concatenate([points, np.reshape(corners, (-1, 2))])
    low, high = reach.min(axis=0), reach.max(axis=0)
    side = float(max((high - low).max(), 1.0))
    view, matrix = crop_view(image, (low + high) / 2, _CONTEXT * side, _SIZE)
    item: dict[str, Any] = {"src": jpeg_uri(view, quality=82), "side": round(side, 1)}
    return item | {"err": None}, matrix


def _view_points(points: np.ndarray, third: np.ndarray, matrix: np.ndarray) -> list[list[float]]:
    placed = points @ matrix[:, :2].T + matrix[:, 2]
    return [
        [round(float(x), 1), round(float(y), 1), third[k].item()] for k, (x, y) in enumerate(placed)
    ]


def _write_page(
    target: Path, title: str, schema: KeypointSchema, items: list[dict[str, Any]]
) -> Path:
    has_truth = any(flag for item in items for *_, flag in item["t"])
    links = [
        [int(a), int(b), _hex(colour)]
        for (a, b), colour in zip(schema.skeleton_indices, link_colours(schema), strict=True)
    ]
    data = {
        "size": _SIZE,
        "truth": has_truth,
        "keypoints": list(schema.keypoints),
        "colours": [_hex(colour) for colour in keypoint_colours(schema)],
        "links": links,
        "items": items,
    }
    has_predictions = any("p" in item for item in items)
    return write_page(
        target,
        "view.html",
        title=title,
        data=data,
        has_predictions=has_predictions,
        has_errors=has_predictions and has_truth,
        kinds=sorted({kind for item in items for kind in item.get("k", ()) if kind}),
    )


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)
