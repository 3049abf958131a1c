"""Reads predictions files of every kind, each fault in one sentence that names record and field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import scipy.io

from posekit.data.columns import InstanceColumns
from posekit.errors import PredictionError, nearest
from posekit.evaluation.base import Predictions
from posekit.evaluation.submission import _PART_FIELDS
from posekit.schema import KeypointSchema

_XY, _XYS = 2, 3


@dataclass(frozen=True)
class PredictionsFile:
    """A predictions file as it was read.

    Attributes:
        predictions: the arrays; box scores of a results file are its final scores.
        is_final: True for COCO results, whose scores are final: they are neither rescored nor
            suppressed again.
        kind: 'posekit', 'coco results' or 'mpii mat'.
    """

    predictions: Predictions
    is_final: bool
    kind: str


def read_predictions(
    file: str | Path, schema: KeypointSchema, truth: InstanceColumns
) -> PredictionsFile:
    """Read a predictions file and check every record.

    Args:
        file: posekit's predictions.json, COCO results (also whole-body ones), or MPII's pred.mat.
        schema: the schema that the keypoints must fit.
        truth: the annotations; images that they do not list are an error.

    Raises:
        PredictionError: names file, record, field, what was found and what was expected.
    """
    path = Path(file)
    if path.suffix == ".mat":
        return _read_mat(path, schema, truth)
    records = _load(path)
    is_final = bool(records) and "score" in _mapping(records[0], path, 0)
    reader = _Reader(path, schema, truth)
    parsed = [reader.record(record, i, is_final) for i, record in enumerate(records)]
    kind = "coco results" if is_final else "posekit"
    return PredictionsFile(reader.join(parsed), is_final, kind)


class _Reader:
    """Checks records against the schema and the annotations' images."""

    def __init__(self, file: Path, schema: KeypointSchema, truth: InstanceColumns):
        self.file, self.schema = file, schema
        self.has_text_ids = truth.image_id.dtype.kind == "S"
        self.images = set(truth.image_id.tolist())
        self.default_category = int(truth.category_id[0]) if len(truth) else 1

    def record(self, record: Any, position: int, is_final: bool) -> dict[str, Any]:
        data = _mapping(record, self.file, position)
        box = data.get("bbox")
        return {
            "image_id": self._image(data, position),
            "instance_id": data.get("id", position),
            "category_id": data.get("category_id", self.default_category),
            "points": self._points(data, position),
            "box": self._numbers(data, "bbox", position, 4) if box is not None else None,
            "box_score": self._number(data, "score" if is_final else "bbox_score", position, 1.0),
            "area": self._area(data, position),
        }

    def join(self, parsed: list[dict[str, Any]]) -> Predictions:
        points = np.asarray([p["points"] for p in parsed], dtype=np.float64)
        points = points.reshape(len(parsed), len(self.schema), _XYS)
        boxes = [p["box"] for p in parsed]
        has_box = all(box is not None for box in boxes)
        box = np.asarray(boxes if has_box else [_extent(p) for p in points], dtype=np.float64)
        box = box.reshape(-1, 4)
        area = np.asarray([np.nan if p["area"] is None else p["area"] for p in parsed])
        return Predictions(
            keypoints=points[..., :2],
            scores=points[..., 2],
            box_xywh=box,
            box_scores=np.asarray([p["box_score"] for p in parsed], dtype=np.float64),
            image_id=_ids([p["image_id"] for p in parsed], as_text=self.has_text_ids),
            instance_id=_ids([p["instance_id"] for p in parsed]),
            category_id=np.asarray([p["category_id"] for p in parsed], dtype=np.int64),
            input_area=np.where(np.isnan(area), box[:, 2] * box[:, 3], area),
            has_box=has_box,
        )

    def _image(self, data: Mapping[str, Any], position: int) -> int | bytes:
        value = data.get("image_id")
        if value is None:
            self._fail(position, f"field 'image_id' is missing{nearest('image_id', data)}")
        key = str(value).encode() if self.has_text_ids else value
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if isinstance(key, bool) or not isinstance(key, (int, bytes)) or key not in self.images:
            self._fail(
                position,
                f"field 'image_id': found {value!r}, which is no image of the annotations "
                f"(theirs are like {next(iter(self.images), None)!r})",
            )
        return key

    def _points(self, data: Mapping[str, Any], position: int) -> list[list[float]]:
        if "keypoints" not in data:
            self._fail(position, f"field 'keypoints' is missing{nearest('keypoints', data)}")
        values = data["keypoints"]
        parts = [f for f in _PART_FIELDS.values() if f != "keypoints" and f in data]
        if parts and isinstance(values, list):
            values = values + [v for part in parts for v in data[part]]
        num = len(self.schema)
        if not isinstance(values, list):
            self._fail(position, f"field 'keypoints': found {values!r}, expected a list")
        if values and isinstance(values[0], list):
            if len(values) != num or {len(v) for v in values} - {_XY, _XYS}:
                self._wrong_length(position, f"{len(values)} points")
            rows = [[*v, 1.0] if len(v) == _XY else list(v) for v in values]
        else:
            if len(values) != num * _XYS:
                self._wrong_length(position, f"{len(values)} numbers")
            rows = [values[i : i + _XYS] for i in range(0, len(values), _XYS)]
        for k, row in enumerate(rows):
            for value in row:
                if not _is_number(value):
                    self._fail(
                        position,
                        f"field 'keypoints': keypoint {k} ({self.schema.keypoints[k]}) holds "
                        f"{value!r}, expected finite numbers",
                    )
        return rows

    def _wrong_length(self, position: int, found: str) -> NoReturn:
        num = len(self.schema)
        self._fail(
            position,
            f"field 'keypoints': found {found}, expected {num} points of x, y, score "
            f"({num * _XYS} numbers) for schema '{self.schema.name}'",
        )

    def _numbers(self, data: Mapping[str, Any], key: str, position: int, size: int) -> list[float]:
        values = data[key]
        if not isinstance(values, list) or len(values) != size or not all(map(_is_number, values)):
            self._fail(position, f"field '{key}': found {values!r}, expected {size} finite numbers")
        return values

    def _number(self, data: Mapping[str, Any], key: str, position: int, default: float) -> float:
        value = data.get(key, default)
        if not _is_number(value):
            self._fail(position, f"field '{key}': found {value!r}, expected a finite number")
        return float(value)

    def _area(self, data: Mapping[str, Any], position: int) -> float | None:
        if "input_scale" in data:
            width, height = self._numbers(data, "input_scale", position, 2)
            return width * height
        return self._number(data, "input_area", position, 0.0) if "input_area" in data else None

    def _fail(self, position: int, problem: str) -> NoReturn:
        raise PredictionError(f"{self.file}, record {position}: {problem}")


def _load(file: Path) -> list[Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PredictionError(f"{file}: cannot be read ({reason})") from None
    except json.JSONDecodeError as error:
        raise PredictionError(
            f"{file}, line {error.lineno}: not valid JSON ({error.msg}); was the file cut off?"
        ) from None
    if not isinstance(data, list):
        found = "an object" if isinstance(data, dict) else type(data).__name__
        hint = ", which looks like an annotation file" if _is_annotations(data) else ""
        raise PredictionError(f"{file}: found {found}{hint}, expected a list of predictions")
    return data


def _is_annotations(data: Any) -> bool:
    return isinstance(data, dict) and "annotations" in data


def _mapping(record: Any, file: Path, position: int) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise PredictionError(
            f"{file}, record {position}: found {type(record).__name__}, expected an object"
        )
    return record


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _extent(points: np.ndarray) -> list[float]:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return [*low, *(high - low)]


def _ids(values: list[Any], *, as_text: bool = False) -> np.ndarray:
    if as_text or any(isinstance(value, (str, bytes)) for value in values):
        return np.asarray([v if isinstance(v, bytes) else str(v).encode() for v in values])
    return np.asarray(values, dtype=np.int64)


def _read_mat(file: Path, schema: KeypointSchema, truth: InstanceColumns) -> PredictionsFile:
    try:
        preds = np.asarray(scipy.io.loadmat(file)["preds"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictionError(
            f"{file}: expected a MATLAB file with the array 'preds' ({error})"
        ) from None
    expected = (len(truth), len(schema), 2)
    if preds.shape != expected:
        raise PredictionError(
            f"{file}: 'preds' has shape {preds.shape}, expected {expected} (people of the split, "
            "keypoints, x and y)"
        )
    box = np.asarray(truth.box_xywh, dtype=np.float64)
    predictions = Predictions(
        keypoints=preds - 1,
        scores=np.ones(preds.shape[:2]),
        box_xywh=box,
        box_scores=np.ones(len(truth)),
        image_id=np.asarray(truth.image_id)[truth.image_index],
        instance_id=np.asarray(truth.instance_id),
        category_id=np.asarray(truth.category_id),
        input_area=box[:, 2] * box[:, 3],
    )
    return PredictionsFile(predictions, False, "mpii mat")
