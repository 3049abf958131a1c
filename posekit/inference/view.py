"""One offline page of a dataset or of predictions: sort, filter, click through."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posekit.data.images import read_image
from posekit.data.index import PoseIndex
from posekit.drawing import crop_view, keypoint_colours, link_colours
from posekit.errors import DatasetError, PosekitError
from posekit.schema import KeypointSchema

GOOD, JITTER = 0.05, 0.1
_SIZE = 320
_CONTEXT = 1.3


@dataclass(frozen=True)
class Answers:
    """Predictions to show beside the truth.

    Attributes:
        rows: int64 (N,), rows of the index.
        keypoints: (N, K, 2) in pixels of the images.
        scores: (N, K).
    """

    rows: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray


def write_view(
    file: str | Path,
    index: PoseIndex,
    answers: Answers | None = None,
    *,
    limit: int = 600,
) -> Path:
    """Write one HTML page that shows a split's instances, with predictions if there are any.

    The page needs no network and no other file. Instances can be sorted by error, size or labels,
    filtered by name, keypoint, size and type of error, and stepped through with mouse or arrow
    keys. Types of error, for a labelled keypoint with distance d in long sides of the box: good
    (d <= 0.05), jitter (d <= 0.1), inversion (the other side's keypoint is nearer than 0.05), miss.

    Args:
        file: the page to write.
        index: the split.
        answers: predictions; the worst `limit` are shown. Without them the labelled instances
            are, evenly spread over the split.
        limit: how many instances the page holds at most (about 20 kB each).

    Raises:
        PosekitError: nothing to show, no image can be read, or the page cannot be written.
    """
    items = list(_items(index, answers, limit))
    if not items:
        raise PosekitError(f"{index.name}: no instance of it can be shown")
    schema = index.schema
    links = [
        [int(a), int(b), _hex(colour)]
        for (a, b), colour in zip(schema.skeleton_indices, link_colours(schema), strict=True)
    ]
    data = {
        "size": _SIZE,
        "keypoints": list(schema.keypoints),
        "colours": [_hex(colour) for colour in keypoint_colours(schema)],
        "links": links,
        "items": items,
    }
    target = Path(file)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(_page(index, data, answers is not None), encoding="utf-8")
        draft.replace(target)
    except OSError as error:
        raise PosekitError(f"{target}: cannot be written ({error.strerror})") from None
    return target


def error_types(
    points: np.ndarray,
    truth: np.ndarray,
    visibility: np.ndarray,
    side: float,
    schema: KeypointSchema,
) -> tuple[list[float | None], list[str | None]]:
    """Give each keypoint's error in long sides of the box and its type; None if not labelled.

    Args:
        points, truth: (K, 2) in one frame.
        visibility: (K,).
        side: long side of the box in that frame.
        schema: names the flip partners.
    """
    distance = np.linalg.norm(points - truth, axis=1) / side
    partner = np.asarray(schema.flip_indices)
    to_partner = np.linalg.norm(points - truth[partner], axis=1) / side
    has_partner = (partner != np.arange(len(schema))) & (visibility[partner] > 0)
    errors: list[float | None] = []
    types: list[str | None] = []
    for k in range(len(schema)):
        if visibility[k] == 0:
            errors.append(None)
            types.append(None)
            continue
        errors.append(round(float(distance[k]), 4))
        if distance[k] <= GOOD:
            types.append("good")
        elif has_partner[k] and to_partner[k] <= GOOD and to_partner[k] < distance[k]:
            types.append("inversion")
        else:
            types.append("jitter" if distance[k] <= JITTER else "miss")
    return errors, types


def _items(index: PoseIndex, answers: Answers | None, limit: int) -> Iterator[dict[str, Any]]:
    """Give the instances to show, image by image so that each is read once."""
    columns = index.columns
    if answers is None:
        rows = np.flatnonzero(columns.num_labelled > 0)
        if len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).astype(int)]
        places = np.full(len(rows), -1)
    else:
        rows, places = _worst(index, answers, limit)
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
            yield _item(index, row, last[1], answers, place)


def _worst(index: PoseIndex, answers: Answers, limit: int) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = index.columns, np.asarray(answers.rows)
    labelled = columns.visibility[rows] > 0
    distance = np.linalg.norm(answers.keypoints - columns.keypoints[rows], axis=2)
    side = np.maximum(np.nan_to_num(columns.box_xywh[rows, 2:]).max(axis=1), 1.0)
    mean = np.where(labelled, distance, 0).sum(axis=1) / np.maximum(labelled.sum(axis=1), 1) / side
    keep = np.flatnonzero(labelled.any(axis=1))
    places = keep[np.argsort(-mean[keep], kind="stable")][:limit]
    return rows[places], places


def _item(
    index: PoseIndex, row: int, image: np.ndarray, answers: Answers | None, place: int
) -> dict[str, Any]:
    columns = index.columns
    truth, flags = np.asarray(columns.keypoints[row], float), np.asarray(columns.visibility[row])
    seen, box = truth[flags > 0], np.asarray(columns.box_xywh[row])
    low, high = seen.min(axis=0), seen.max(axis=0)
    if np.isfinite(box).all():
        low, high = np.minimum(low, box[:2]), np.maximum(high, box[:2] + box[2:])
    side = float(max((high - low).max(), 1.0))
    view, matrix = crop_view(image, (low + high) / 2, _CONTEXT * side, _SIZE)
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(view, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82]
    )
    source = base64.b64encode(np.asarray(encoded).tobytes()).decode("ascii")
    item: dict[str, Any] = {
        "n": index.image_file(row).name,
        "id": _id(columns.instance_id[row]),
        "src": f"data:image/jpeg;base64,{source}",
        "side": round(side, 1),
        "err": None,
        "t": _view_points(truth, flags, matrix),
    }
    if answers is not None:
        points = np.asarray(answers.keypoints[place], float)
        long_side = float(box[2:].max()) if np.isfinite(box).all() and box[2:].max() > 0 else side
        item["p"] = _view_points(points, np.round(answers.scores[place], 3), matrix)
        item["e"], item["k"] = error_types(points, truth, flags, long_side, index.schema)
        known = [error for error in item["e"] if error is not None]
        item["err"] = round(sum(known) / len(known), 4)
    return item


def _view_points(points: np.ndarray, third: np.ndarray, matrix: np.ndarray) -> list[list[float]]:
    placed = points @ matrix[:, :2].T + matrix[:, 2]
    return [
        [round(float(x), 1), round(float(y), 1), third[k].item()] for k, (x, y) in enumerate(placed)
    ]


def _page(index: PoseIndex, data: dict[str, Any], has_answers: bool) -> str:
    folder = resources.files("posekit.inference")
    style = folder.joinpath("view.css").read_text("utf-8")
    script = folder.joinpath("view.js").read_text("utf-8")
    title = f"{index.card.title or index.card.name}, {index.split}"
    sorts = {
        "": "as in the dataset",
        "labelled": "most labelled",
        "large": "largest",
        "small": "smallest",
    }
    if has_answers:
        sorts = {"worst": "worst first", "best": "best first", **sorts}
    options = "".join(f'<option value="{key}">{text}</option>' for key, text in sorts.items())
    controls = (
        '<label>Find<input id="find" type="search" placeholder="name or id"></label>'
        f'<label>Sort<select id="sort">{options}</select></label>'
    )
    shows = '<label class="check"><input type="checkbox" id="truth" checked>truth</label>'
    if has_answers:
        names = "".join(
            f'<option value="{k}">{escape(name)}</option>'
            for k, name in enumerate(index.schema.keypoints)
        )
        types = "".join(
            f"<option>{kind}</option>" for kind in ("good", "jitter", "inversion", "miss")
        )
        controls += (
            f'<label>Keypoint<select id="keypoint"><option value="">all (mean)</option>{names}'
            f'</select></label><label>Type of error<select id="type"><option value="">any</option>'
            f'{types}</select></label><label>Error at least<input id="least" type="number" min="0" '
            'step="0.01" value="0"></label>'
        )
        shows += (
            '<label class="check"><input type="checkbox" id="prediction" checked>prediction</label>'
        )
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - posekit view</title><style>{style}</style></head><body>\n"
        f'<header><h1>{escape(title)}<small id="count"></small></h1>'
        f'<form id="controls">{controls}{shows}</form></header>\n'
        '<main><div id="grid"></div><p id="none" hidden>Nothing fits these filters.</p>'
        '<button id="more" hidden>Show more</button></main>\n'
        '<dialog id="dialog" aria-label="One instance"><div class="big" id="big"></div></dialog>\n'
        f'<script type="application/json" id="data">{text}</script>\n<script>{script}</script>\n'
        "</body></html>\n"
    )


def _id(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)
