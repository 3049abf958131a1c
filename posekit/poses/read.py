"""Reads every file of poses and boxes; each fault is one sentence that names record and field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posekit.adapters.fields import (
    Place,
    box_xywh,
    field_of,
    identifier,
    listing,
    mapping,
    number,
    numeric_array,
    pair_of_numbers,
    show,
    whole,
)
from posekit.adapters.files import load_json, load_mat, read_text
from posekit.data.columns import InstanceColumns
from posekit.errors import ConfigError, DatasetError, PredictionError
from posekit.poses.split import default_category, in_split, split_poses
from posekit.poses.table import Poses, join
from posekit.poses.write import PART_FIELDS
from posekit.schema import KeypointSchema

_XYS = 3
_Record = tuple[Mapping[str, Any], Place]


@dataclass(frozen=True)
class PredictionsFile:
    """A predictions file as it was read.

    Attributes:
        predictions: poses of the split; box scores of a results file are its final scores.
        is_final: True for COCO results, whose scores are final: they are neither rescored nor
            suppressed again.
        has_instance_ids: False if a record does not say which instance it is of; instance ids are
            then positions in the file and must not be matched with those of annotations.
    """

    predictions: Poses
    is_final: bool
    has_instance_ids: bool = True


def read_predictions(
    file: str | Path, schema: KeypointSchema, truth: InstanceColumns
) -> PredictionsFile:
    """Read a predictions file and check every record.

    Args:
        file: posekit's predictions.json, COCO results (also whole-body ones), MPII's pred.mat, or
            what `posekit predict` writes (*.poses.json, whose images are found by the ends of their
            paths; *.poses.jsonl, whose frames are the images of the folder of the video's name; or
            the folder of such files).
        schema: the schema that the keypoints must fit.
        truth: the annotations; images that they do not list are an error.

    Raises:
        PredictionError: names file, record, field, what was found and what was expected.
    """
    path = Path(file)
    with prediction_errors():
        if path.suffix == ".mat":
            return PredictionsFile(_read_mat(path, schema, truth), is_final=False)
        data = None if path.is_dir() or path.suffix == ".jsonl" else read_json(path)
        data = data.get("fused", data) if isinstance(data, dict) else data
        if data is None or _is_predicted(data):
            poses = read_poses(path) if data is None else Poses.from_coco(data)
            predictions = in_split(poses, truth, schema, path)
            return PredictionsFile(predictions, is_final=True, has_instance_ids=False)
        if not isinstance(data, list):
            hint = ", which looks like an annotation file" if _is_annotations(data) else ""
            raise PredictionError(
                f"{path}: found {type(data).__name__}{hint}, expected a list of predictions"
            )
        records = _records(data, path)
        is_final = bool(records) and "score" in records[0][0]
        predictions = _of_records(records, schema, truth, is_final=is_final)
        return PredictionsFile(predictions, is_final, all("id" in record for record, _ in records))


def read_detections(file: Path, schema: KeypointSchema, truth: InstanceColumns) -> Poses:
    """Read a detector's boxes: a list of objects with image_id, bbox, score, perhaps category_id.

    Returns:
        Poses of the split whose keypoints are still 0.

    Raises:
        PredictionError: names file, record, field, what was found and what was expected.
    """
    with prediction_errors():
        data = read_json(file)
        if not isinstance(data, list):
            raise PredictionError(
                f"{file}: found {type(data).__name__}, expected a list of objects with image_id, "
                "bbox [x, y, width, height] and score"
            )
        records = _records(data, file)
        return _of_records(records, schema, truth, is_final=True, has_points=False)


def read_json(file: Path) -> Any:
    """Load a JSON file of poses or boxes.

    Raises:
        PredictionError: there is no such file.
        DatasetError: it is not JSON; names line and column.
    """
    return load_json(_existing(file))


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise PredictionError(f"{file}: there is no such file")
    return file


@contextmanager
def prediction_errors() -> Iterator[None]:
    """Turn the DatasetError of a checked field into a PredictionError with the same sentence."""
    try:
        yield
    except DatasetError as error:
        raise PredictionError(str(error)) from None


def _records(data: list[Any], file: Path) -> list[_Record]:
    places = [Place(file, i) for i in range(len(data))]
    return [(mapping(r, "prediction", place), place) for r, place in zip(data, places, strict=True)]


def _of_records(
    records: list[_Record],
    schema: KeypointSchema,
    truth: InstanceColumns,
    *,
    is_final: bool,
    has_points: bool = True,
) -> Poses:
    """Return checked records as poses of a split, without points (0) as a detector's boxes."""
    image_index = np.array(_image_rows(records, truth), dtype=np.int64)
    boxes = [_box(record, place, has_points) for record, place in records]
    scores = [_score(record, place, is_final) for record, place in records]
    category = default_category(truth)
    categories = [
        whole(record.get("category_id", category), "field 'category_id'", place)
        for record, place in records
    ]
    columns: dict[str, Any] = {
        "box_scores": np.array(scores, dtype=np.float64),
        "category_id": np.array(categories, dtype=np.int64),
    }
    if has_points:
        points = np.array([_triples(record, schema, place) for record, place in records])
        points = points.reshape(len(records), len(schema), _XYS)
        columns |= {"keypoints": points[..., :2], "scores": points[..., 2]}
        columns["has_box"] = all(box is not None for box in boxes)
        if not columns["has_box"]:
            low = points[..., :2].min(axis=1)
            boxes = list(np.concatenate([low, points[..., :2].max(axis=1) - low], axis=1))
        ids = [
            identifier(record.get("id", i), "field 'id'", place)
            for i, (record, place) in enumerate(records)
        ]
        columns["instance_id"] = _ids(ids)
    box = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    if has_points:
        area = np.array([_area(record, place) for record, place in records], dtype=np.float64)
        columns["input_area"] = np.where(np.isnan(area), box[:, 2] * box[:, 3], area)
    return split_poses(truth, schema, image_index, box, **columns)


def _image_rows(records: list[_Record], truth: InstanceColumns) -> list[int]:
    as_text = truth.image_id.dtype.kind == "S"
    known = {image: row for row, image in enumerate(truth.image_id.tolist())}
    rows = []
    for record, place in records:
        value = identifier(field_of(record, "image_id", place), "field 'image_id'", place)
        row = known.get(str(value).encode() if as_text else value)
        if row is None:
            place.fail(
                f"field 'image_id': found {show(value)}, which is no image of the annotations "
                f"(theirs are like {next(iter(known), None)!r})"
            )
        rows.append(row)
    return rows


def _box(record: Mapping[str, Any], place: Place, has_points: bool) -> np.ndarray | None:
    value = record.get("bbox") if has_points else field_of(record, "bbox", place)
    box = box_xywh(value, place, "field 'bbox'")
    if box is None and not has_points:
        place.fail(f"field 'bbox': found {show(value)}, expected 4 numbers x, y, width, height")
    # A detector's boxes without extent are left out later; a pose's would give a wrong area.
    if has_points and box is not None and box[2:].min() < 0:
        place.fail(
            f"field 'bbox': found {show(value)}, expected x, y, width and height, no negative sizes"
        )
    return box


def _score(record: Mapping[str, Any], place: Place, is_final: bool) -> float:
    if not is_final:
        return number(record.get("bbox_score", 1.0), "field 'bbox_score'", place)
    if "score" not in record:
        place.fail("field 'score' is missing, expected one in every record of a results file")
    return number(record["score"], "field 'score'", place)


def _area(record: Mapping[str, Any], place: Place) -> float:
    """Return the crop's area, NaN if the record does not say."""
    if "input_scale" in record:
        width, height = pair_of_numbers(record["input_scale"], "field 'input_scale'", place)
        return width * height
    area = record.get("input_area")
    return float("nan") if area is None else number(area, "field 'input_area'", place)


def _triples(record: Mapping[str, Any], schema: KeypointSchema, place: Place) -> np.ndarray:
    """Return x, y and score of every keypoint (K, 3), of flat or nested lists, also in parts."""
    field_of(record, "keypoints", place)
    values: list[Any] = []
    for name in (field for field in PART_FIELDS.values() if field in record):
        values += listing(record[name], f"field '{name}'", place)
    num, is_nested = len(schema), bool(values) and isinstance(values[0], list)
    if len(values) != (num if is_nested else num * _XYS):
        place.fail(
            f"field 'keypoints': found {len(values)} {'points' if is_nested else 'numbers'}, "
            f"expected {num} points of x, y, score ({num * _XYS} numbers) for schema "
            f"'{schema.name}'"
        )
    with suppress(DatasetError):
        array = numeric_array(values, "keypoints", place).reshape(num, -1)
        if array.shape[1] == _XYS and np.isfinite(array).all():
            return array
    # Points without scores, or a fault, which is looked for point by point.
    rows = values if is_nested else [values[i : i + _XYS] for i in range(0, len(values), _XYS)]
    for k, row in enumerate(rows):
        what = f"field 'keypoints': keypoint {k} ({schema.keypoints[k]})"
        if not isinstance(row, list) or len(row) not in {_XYS - 1, _XYS}:
            place.fail(f"{what} is {show(row)}, expected [x, y, score]")
        for value in row:
            number(value, what, place)
    return np.array([[*row, 1.0][:_XYS] for row in rows], dtype=np.float64)


def _ids(values: list[int | str]) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return np.array([str(value).encode() for value in values])
    return np.array(values, dtype=np.int64)


def _read_mat(file: Path, schema: KeypointSchema, truth: InstanceColumns) -> Poses:
    preds = np.asarray(load_mat(_existing(file), ("preds",))["preds"], dtype=np.float64)
    expected = (len(truth), len(schema), 2)
    if preds.shape != expected:
        raise PredictionError(
            f"{file}: 'preds' has shape {preds.shape}, expected {expected} (people of the split, "
            "keypoints, x and y)"
        )
    return split_poses(
        truth,
        schema,
        np.asarray(truth.image_index),
        np.asarray(truth.box_xywh, dtype=np.float64),
        keypoints=preds - 1,
        scores=np.ones(preds.shape[:2]),
        instance_id=np.asarray(truth.instance_id),
        category_id=np.asarray(truth.category_id),
    )


def read_poses(file: str | Path) -> Poses:
    """Read what `posekit predict` writes: *.poses.json, *.poses.jsonl of a video, or their folder.

    Of a file of all heads the fused poses are read, of smoothed frames the smoothed points. A
    video or image that is not where it was predicted is looked for beside the file.

    Raises:
        PredictionError: the file cannot be read or is of another kind.
    """
    path = Path(file)
    if path.is_dir():
        files = sorted(path.rglob("*.poses.json*"))
        if not files:
            raise PredictionError(f"{path}: found no *.poses.json of `posekit predict` in it")
        parts = [read_poses(one) for one in files]
        for one, part in zip(files, parts, strict=True):
            if part.schema.keypoints != parts[0].schema.keypoints:
                raise PredictionError(f"{one}: its keypoints are not those of {files[0].name}")
        return join(parts)
    with prediction_errors():
        if path.suffix != ".jsonl":
            poses = Poses.from_file(path)
            names = tuple(_located(path.parent, name) for name in poses.image_names)
            return replace(poses, image_names=names)
        place = Place(path)
        header, *frames = (mapping(line, "line", place) for line in _lines(path))
        try:
            schema = KeypointSchema.from_dict(field_of(header, "schema", place))
        except ConfigError as error:
            place.fail(f"its schema is wrong ({error})")
        video, head = (str(field_of(header, name, place)) for name in ("video", "head"))
        height, width = (whole(field_of(header, s, place), s, place) for s in ("height", "width"))
        video = _located(path.parent, str(header.get("file", video)), video)
        names = tuple(f"{video}, frame {frame.get('frame', i)}" for i, frame in enumerate(frames))
        return poses_of_frames(frames, schema, head, names, ((height, width),) * len(frames), path)


def poses_of_frames(
    frames: Sequence[Mapping[str, Any]],
    schema: KeypointSchema,
    head: str,
    image_names: tuple[str, ...],
    image_sizes: tuple[tuple[int, int], ...],
    file: Path,
    *,
    before_smoothing: bool = False,
) -> Poses:
    """Return the poses of a video's lines, as `inference.video_log.frame_record` makes them.

    Args:
        frames: a line each.
        schema, head, image_names, image_sizes: as in Poses, an image a frame.
        file: where the lines are from, for messages.
        before_smoothing: take the keypoints as they were predicted, and no tracks.

    Raises:
        DatasetError: names file, frame, field, what was found and what was expected.
    """
    entries: list[_Record] = []
    image_index: list[int] = []
    for i, frame in enumerate(frames):
        place = Place(file, image_names[i])
        of_frame = listing(field_of(frame, "poses", place), "poses", place)
        entries += [(mapping(entry, "pose", place), place) for entry in of_frame]
        image_index += [i] * len(of_frame)
    n = len(entries)
    points = np.zeros((n, len(schema), _XYS))
    for i, (entry, place) in enumerate(entries):
        name = "raw" if before_smoothing and "raw" in entry else "keypoints"
        values = numeric_array(field_of(entry, name, place), name, place)
        if values.shape != points.shape[1:]:
            place.fail(f"{name}: found {values.size} numbers, expected {points[0].size}")
        points[i] = values
    boxes = [box_xywh(field_of(entry, "bbox", place), place) for entry, place in entries]
    scores = [
        number(field_of(entry, "bbox_score", place), "bbox_score", place)
        for entry, place in entries
    ]
    tracked = n > 0 and not before_smoothing and all("track" in entry for entry, _ in entries)
    tracks = [whole(entry["track"], "track", place) for entry, place in entries if tracked]
    return Poses(
        head=head,
        schema=schema,
        keypoints=points[..., :2].copy(),
        scores=points[..., 2].astype(np.float32),
        box_xywh=np.array(boxes, dtype=np.float64).reshape(n, 4),
        box_scores=np.array(scores, dtype=np.float64),
        image_index=np.array(image_index, dtype=np.int64),
        image_names=image_names,
        image_sizes=image_sizes,
        track_id=np.array(tracks, dtype=np.int64) if tracked else None,
    )


def _lines(file: Path) -> list[Any]:
    parsed = []
    for i, line in enumerate(read_text(_existing(file)).splitlines()):
        try:
            parsed.append(json.loads(line))
        except ValueError:
            Place(file, f"line {i + 1}").fail("not valid JSON; was the file cut off?")
    if not parsed:
        raise PredictionError(f"{file}: no line in it; expected what `posekit predict` writes")
    return parsed


def _located(folder: Path, recorded: str, name: str | None = None) -> str:
    """Return where an image or video is: as recorded, or beside the file that names it."""
    name = recorded if name is None else name
    places = [Path(recorded), folder / name, folder / Path(name).name, Path(name)]
    return str(next((place for place in places if place.is_file()), name))


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
