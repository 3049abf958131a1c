"""Reads predictions files of every kind, each fault in one sentence that names record and field."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from posekit.adapters.files import load_mat
from posekit.data.columns import InstanceColumns
from posekit.errors import DatasetError, PredictionError, nearest
from posekit.poses.table import Poses, plain_id
from posekit.poses.write import PART_FIELDS
from posekit.schema import KeypointSchema

_XY, _XYS = 2, 3
_LARGEST, _TOO_LARGE = 2**63, 2**1023


@dataclass(frozen=True)
class PredictionsFile:
    """A predictions file as it was read.

    Attributes:
        predictions: the arrays; box scores of a results file are its final scores.
        is_final: True for COCO results, whose scores are final: they are neither rescored nor
            suppressed again.
        kind: 'posekit', 'coco results' or 'mpii mat'.
        has_instance_ids: False if a record does not say which instance it is of; instance ids are
            then positions in the file and must not be matched with those of annotations.
    """

    predictions: Poses
    is_final: bool
    kind: str
    has_instance_ids: bool = True


def read_predictions(
    file: str | Path, schema: KeypointSchema, truth: InstanceColumns
) -> PredictionsFile:
    """Read a predictions file and check every record.

    Args:
        file: posekit's predictions.json, COCO results (also whole-body ones), MPII's pred.mat, or
            what `posekit predict` writes (*.poses.json, whose images are found by the ends of their
            paths; *.poses.jsonl, whose frames are the images of the folder of the video's name).
        schema: the schema that the keypoints must fit.
        truth: the annotations; images that they do not list are an error.

    Raises:
        PredictionError: names file, record, field, what was found and what was expected.
    """
    path = Path(file)
    if path.suffix == ".mat":
        return _read_mat(path, schema, truth)
    if path.suffix == ".jsonl":
        records = _records_of(read_poses(path), path, truth)
    else:
        data = _json(path)
        data = data.get("fused", data) if isinstance(data, dict) else data
        if _is_predicted(data):
            records = _records_of(Poses.from_coco(data), path, truth)
        else:
            records = _checked_list(data, path)
    is_final = bool(records) and "score" in _mapping(records[0], path, 0)
    reader = _Reader(path, schema, truth)
    parsed = [reader.record(record, i, is_final) for i, record in enumerate(records)]
    kind = "coco results" if is_final else "posekit"
    has_ids = all("id" in record for record in records)
    return PredictionsFile(reader.join(parsed), is_final, kind, has_ids)


def read_boxes(file: str | Path, schema: KeypointSchema, truth: InstanceColumns) -> Poses:
    """Read a detector's boxes (COCO results without keypoints), poses still 0.

    Args:
        file: a list of objects with image_id, bbox [x, y, width, height], score and, where the
            split has several categories, category_id.
        schema: the keypoints that are to be found in the boxes.
        truth: the annotations; images that they do not list are an error.

    Raises:
        PredictionError: names file, record, field, what was found and what was expected.
    """
    path = Path(file)
    reader = _Reader(path, schema, truth)
    records = _checked_list(_json(path), path)
    none = np.zeros((len(records), len(schema), _XYS))
    return reader.join([reader.box(r, i) for i, r in enumerate(records)], none)


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
            "instance_id": self._identifier(data, "id", position, position, may_be_text=True),
            "category_id": self._identifier(data, "category_id", position, self.default_category),
            "points": self._points(data, position),
            "box": self._box(data, position) if box is not None else None,
            "box_score": self._score(data, position, is_final),
            "area": self._area(data, position),
        }

    def box(self, record: Any, position: int) -> dict[str, Any]:
        data = _mapping(record, self.file, position)
        for key in ("image_id", "bbox", "score"):
            if key not in data:
                self._fail(position, f"field '{key}' is missing{nearest(key, data)}")
        return {
            "image_id": self._image(data, position),
            "instance_id": position,
            "category_id": self._identifier(data, "category_id", position, 1),
            "box": self._numbers(data, "bbox", position, 4),
            "box_score": self._number(data, "score", position, 1.0),
            "area": None,
        }

    def join(self, parsed: list[dict[str, Any]], points: np.ndarray | None = None) -> Poses:
        if points is None:
            points = np.asarray([p["points"] for p in parsed], dtype=np.float64)
            points = points.reshape(len(parsed), len(self.schema), _XYS)
        boxes = [p["box"] for p in parsed]
        has_box = all(box is not None for box in boxes)
        box = np.asarray(boxes if has_box else [_extent(p) for p in points], dtype=np.float64)
        box = box.reshape(-1, 4)
        area = np.asarray([np.nan if p["area"] is None else p["area"] for p in parsed])
        return Poses.of_dataset(
            self.schema,
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
        values: list[Any] = []
        for name in ["keypoints", *(f for f in PART_FIELDS.values() if f != "keypoints")]:
            if name not in data:
                continue
            if not isinstance(data[name], list):
                self._fail(position, f"field '{name}': found {data[name]!r}, expected a list")
            values += data[name]
        num = len(self.schema)
        if values and isinstance(values[0], list):
            rows = self._nested(values, position)
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

    def _nested(self, values: list[Any], position: int) -> list[list[Any]]:
        if len(values) != len(self.schema):
            self._wrong_length(position, f"{len(values)} points")
        for k, value in enumerate(values):
            if not isinstance(value, list) or len(value) not in {_XY, _XYS}:
                self._fail(
                    position,
                    f"field 'keypoints': keypoint {k} ({self.schema.keypoints[k]}) is {value!r}, "
                    "expected [x, y, score]",
                )
        return [[*v, 1.0] if len(v) == _XY else list(v) for v in values]

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

    def _box(self, data: Mapping[str, Any], position: int) -> list[float]:
        box = self._numbers(data, "bbox", position, 4)
        if min(box[2:]) < 0:
            self._fail(
                position,
                f"field 'bbox': found {box!r}, expected x, y, width and height, no negative sizes",
            )
        return box

    def _score(self, data: Mapping[str, Any], position: int, is_final: bool) -> float:
        if is_final and "score" not in data:
            self._fail(
                position,
                f"field 'score' is missing{nearest('score', data)}; the first record has one, so "
                "this is a results file",
            )
        return self._number(data, "score" if is_final else "bbox_score", position, 1.0)

    def _identifier(
        self,
        data: Mapping[str, Any],
        key: str,
        position: int,
        default: int,
        *,
        may_be_text: bool = False,
    ) -> int | str:
        value = data.get(key, default)
        if may_be_text and isinstance(value, str):
            return value
        whole = _is_number(value) and float(value).is_integer() and abs(value) < _LARGEST
        if not whole:
            kind = "a whole number or text" if may_be_text else "a whole number"
            self._fail(position, f"field '{key}': found {value!r}, expected {kind}")
        return int(value)

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


def read_poses(file: str | Path) -> Poses:
    """Read poses by the file's ending: a video's *.poses.jsonl, or as `Poses.from_file` does.

    Of a file of all heads the fused poses are read, of smoothed frames the smoothed points.

    Raises:
        PredictionError: the file cannot be read or is of another kind.
    """
    path = Path(file)
    if path.suffix != ".jsonl":
        return Poses.from_file(path)
    try:
        with path.open(encoding="utf-8") as stream:
            header, *frames = (json.loads(line) for line in stream)
        schema, name = KeypointSchema.from_dict(header["schema"]), str(header["video"])
        names = tuple(f"{name}, frame {frame['frame']}" for frame in frames)
        sizes = ((int(header["height"]), int(header["width"])),) * len(frames)
        return poses_of_frames(frames, schema, str(header["head"]), names, sizes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PredictionError(f"{path}: not a file that `posekit predict` writes") from error


def poses_of_frames(
    frames: Sequence[Mapping[str, Any]],
    schema: KeypointSchema,
    head: str,
    names: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    *,
    as_predicted: bool = False,
) -> Poses:
    """Return the poses of a video's lines.

    Args:
        frames: the lines, parsed.
        schema, head: of the header.
        names, sizes: name and (height, width) of each frame.
        as_predicted: leave identities out, and of smoothed points take what they were before.
    """
    entries = [(i, entry) for i, frame in enumerate(frames) for entry in frame["poses"]]
    points = np.array(
        [e.get("raw", e["keypoints"]) if as_predicted else e["keypoints"] for _, e in entries],
        dtype=np.float64,
    ).reshape(len(entries), len(schema), _XYS)
    has_tracks = not as_predicted and bool(entries) and all("track" in e for _, e in entries)
    return Poses(
        head=head,
        schema=schema,
        keypoints=points[..., :2].copy(),
        scores=points[..., 2].astype(np.float32),
        box_xywh=np.array([e["bbox"] for _, e in entries], dtype=np.float64).reshape(-1, 4),
        box_scores=np.array([e["bbox_score"] for _, e in entries], dtype=np.float64),
        image_index=np.array([i for i, _ in entries], dtype=np.int64),
        image_names=names,
        image_sizes=sizes,
        track_id=np.array([e["track"] for _, e in entries]) if has_tracks else None,
    )


def _records_of(poses: Poses, file: Path, truth: InstanceColumns) -> list[Any]:
    """Return poses as records of a results file, with the ids of the split's images."""
    ids = [plain_id(value) for value in np.asarray(truth.image_id).tolist()]
    paths = [raw.decode() for raw in np.asarray(truth.image_path).tolist()]
    known: dict[str, Any] = {}
    folders: dict[str, list[Any]] = {}
    for path, known_id in sorted(zip(paths, ids, strict=True), key=_by_number):
        parts = path.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            known[end] = None if end in known else known_id  # two images of one name: neither
        folders.setdefault(parts[-2] if len(parts) > 1 else "", []).append(known_id)
    of_video = Counter(name.rpartition(", frame ")[0] for name in poses.image_names)
    found: list[Any] = []
    image_id: Any
    for name in poses.image_names:
        video, is_frame, number = name.rpartition(", frame ")
        if is_frame and number.isdigit():
            frames = folders.get(Path(video).stem, [])
            # the n-th frame is the n-th image only where every frame of the video is an image
            if frames and len(frames) != of_video[video]:
                raise PredictionError(
                    f"{file}: holds {of_video[video]} frames of '{video}', but the annotations "
                    f"have {len(frames)} images of it, so which frame is which image is not known; "
                    "predict the annotated images themselves"
                )
            image_id = frames[int(number)] if int(number) < len(frames) else None
        else:
            parts = Path(name).as_posix().split("/")
            ends = ("/".join(parts[start:]) for start in range(len(parts)))
            image_id = next((known[e] for e in ends if known.get(e) is not None), None)
        if image_id is None:
            raise PredictionError(
                f"{file}: '{name}' is no image of the annotations (theirs are like "
                f"'{next(iter(paths), None)}')"
            )
        found.append(image_id)
    # Scores are counted of finite points only; a missing one scores 0 wherever it is.
    joined = np.concatenate([np.nan_to_num(poses.keypoints), poses.scores[..., None]], axis=2)
    return [
        {
            "image_id": found[image],
            "score": float(poses.instance_scores[i]),
            "bbox": poses.box_xywh[i].tolist(),
            "keypoints": joined[i].ravel().tolist(),
        }
        for i, image in enumerate(poses.image_index.tolist())
    ]


def _by_number(entry: tuple[str, Any]) -> list[tuple[int, str]]:
    """Sort key of (path, id): img2 comes before img10."""
    parts = re.split(r"([0-9]+)", entry[0])
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PredictionError(f"{file}: cannot be read ({reason})") from None
    except json.JSONDecodeError as error:
        raise PredictionError(
            f"{file}, line {error.lineno}: not valid JSON ({error.msg}); was the file cut off?"
        ) from None


def _checked_list(data: Any, file: Path) -> list[Any]:
    if not isinstance(data, list):
        found = "an object" if isinstance(data, dict) else type(data).__name__
        hint = ", which looks like an annotation file" if _is_annotations(data) else ""
        raise PredictionError(f"{file}: found {found}{hint}, expected a list of predictions")
    return data


def _is_predicted(data: Any) -> bool:
    """Return whether data is what `Poses.to_coco` returns; an empty one tells by its images."""
    if not _is_annotations(data) or not {"images", "categories"} <= set(data):
        return False
    entries = data["annotations"]
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and "keypoint_scores" in entry for entry in entries
    )


def _is_annotations(data: Any) -> bool:
    return isinstance(data, dict) and "annotations" in data


def _mapping(record: Any, file: Path, position: int) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise PredictionError(
            f"{file}, record {position}: found {type(record).__name__}, expected an object"
        )
    return record


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that float64 can hold, infinity and NaN excepted."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < _TOO_LARGE if isinstance(value, int) else math.isfinite(value)


def _extent(points: np.ndarray) -> list[float]:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return [*low, *(high - low)]


def _ids(values: list[Any], *, as_text: bool = False) -> np.ndarray:
    if as_text or any(isinstance(value, (str, bytes)) for value in values):
        return np.asarray([v if isinstance(v, bytes) else str(v).encode() for v in values])
    return np.asarray(values, dtype=np.int64)


def _read_mat(file: Path, schema: KeypointSchema, truth: InstanceColumns) -> PredictionsFile:
    try:
        preds = np.asarray(load_mat(file, ("preds",))["preds"], dtype=np.float64)
    except (DatasetError, ValueError, KeyError, TypeError) as error:
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
    predictions = Poses.of_dataset(
        schema,
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
