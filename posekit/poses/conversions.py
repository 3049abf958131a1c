"""Poses in other projects' forms, and back: methods of `Poses`, class methods those that read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.errors import PredictionError
from posekit.poses.animal_programs import HDF_ENDINGS, from_deeplabcut, from_sleap
from posekit.poses.columns import (
    BOX,
    SIZE,
    build,
    by_column,
    columns_of,
    expecting,
    optional,
    triples_of,
    write_rows,
)
from posekit.schema import KeypointSchema

if TYPE_CHECKING:
    from posekit.poses.table import Poses

_FIRST, _LAST = ("image", "track_id", *BOX, "score"), ("box_score", *SIZE, "head")


def from_file(cls: type[Poses], file: str | Path, schema: KeypointSchema | None = None) -> Poses:
    """Read a file by its ending: .json (COCO), .csv (ours or DeepLabCut's), .h5 or .slp.

    Args:
        cls: Poses.
        file: the file.
        schema: the keypoints that it must have, whatever it calls or orders them (here and in
            every other reader); None takes the file's own.

    Raises:
        PredictionError: another ending, or no such file.
        DatasetError: the file has not the form that its ending says.
    """
    from posekit.adapters.files import read_text  # noqa: PLC0415 - see columns

    file = Path(file)
    readers = {".json": from_coco, ".csv": from_csv, ".slp": from_sleap}
    reader = (readers | dict.fromkeys(HDF_ENDINGS, from_deeplabcut)).get(file.suffix.lower())
    if reader is None:
        raise PredictionError(
            f"{file}: unknown ending; poses are read from .json (COCO), .csv, .h5 (DeepLabCut) and "
            ".slp (SLEAP)"
        )
    if not file.is_file():
        raise PredictionError(f"{file}: there is no such file")
    if reader is from_csv and read_text(file).lower().startswith("scorer,"):
        reader = from_deeplabcut
    return reader(cls, file, schema)


def to_coco(poses: Poses) -> dict[str, Any]:
    """Return a COCO keypoint file's content: images, categories, annotations with scores.

    Keypoints are x, y, 2 (missing ones 0, 0, 0), their scores stand in `keypoint_scores`; links
    count from 1.
    """
    schema = poses.schema
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size) in enumerate(zip(poses.image_names, poses.image_sizes, strict=True))
    ]
    found = np.isfinite(poses.keypoints).all(axis=2, keepdims=True)
    triples = np.concatenate([np.where(found, poses.keypoints, 0.0), 2.0 * found], axis=2)
    annotations = []
    for i in range(len(poses)):
        x, y, w, h = (float(value) for value in poses.box_xywh[i])
        annotation: dict[str, Any] = {
            "id": i + 1,
            "image_id": int(poses.image_index[i]),
            "category_id": 1,
            "keypoints": [round(float(value), 3) for value in triples[i].reshape(-1)],
            "keypoint_scores": [round(float(score), 5) for score in poses.scores[i]],
            "num_keypoints": int(found[i].sum()),
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "score": float(poses.instance_scores[i]),
        }
        if poses.track_id is not None:
            annotation["track_id"] = int(poses.track_id[i])
        annotations.append(annotation)
    category = {
        "id": 1,
        "name": schema.name,
        "keypoints": list(schema.keypoints),
        "skeleton": (schema.skeleton_indices + 1).tolist(),
    }
    return {"images": images, "categories": [category], "annotations": annotations}


def from_coco(
    cls: type[Poses], source: str | Path | Mapping[str, Any], schema: KeypointSchema | None = None
) -> Poses:
    """Return the poses of a COCO keypoint file, or of its content: predictions or annotations.

    Keypoints with flag 0 are missing; without `keypoint_scores` the others score 1. Of what
    `posekit predict --head all` writes, these are the fused poses.

    Raises:
        DatasetError: not COCO's form; names file and annotation.
    """
    from posekit.adapters.fields import Place  # noqa: PLC0415 - see columns
    from posekit.adapters.files import load_json  # noqa: PLC0415

    is_file = isinstance(source, str | Path)
    place = Place(Path(str(source)) if is_file else Path("the COCO data"))
    data: Any = load_json(place.file) if is_file else source
    with expecting(place, "a COCO file of keypoints"):
        if not isinstance(data, Mapping):
            raise TypeError(f"found a {type(data).__name__}, expected an object")
        data = data.get("fused", data)
        category, *others = (c for c in data["categories"] if "keypoints" in c)
        names, label = category["keypoints"], str(category["name"])
        if any(other["keypoints"] != names for other in others):
            raise ValueError("categories with different keypoints")
        links = [(names[a - 1], names[b - 1]) for a, b in category.get("skeleton") or ()]
        of_id = {image["id"]: str(image["file_name"]) for image in data["images"]}
        sides = ([int(i.get(s, 0)) for i in data["images"]] for s in ("height", "width"))
        sizes = dict(zip(of_id.values(), zip(*sides, strict=True), strict=True))
        entries = list(data["annotations"])
    rows, values = [], np.zeros((len(entries), len(names), 3))
    for i, entry in enumerate(entries):
        with expecting(Place(place.file, f"annotation {i}"), "a keypoint annotation of COCO"):
            values[i] = np.reshape(entry["keypoints"], (len(names), 3))
            missing = values[i, :, 2] == 0
            values[i, :, 2] = entry.get("keypoint_scores", 1.0)
            values[i, missing] = np.nan
            box = map(float, entry.get("bbox", [np.nan] * 4))
            row: dict[str, Any] = dict(zip(BOX, box, strict=True)) | {
                "image": of_id[entry["image_id"]]
            }
            given = {key: entry.get(key) for key in ("track_id", "score")}
            row |= {k: float(v) for k, v in given.items() if v is not None}
            rows.append(row)
    return build(cls, (schema, names, place.file, label, links), by_column(rows), values, sizes)


def to_csv(poses: Poses, file: str | Path) -> Path:
    """Write one line per instance: image, box, score, then x, y, score of each keypoint.

    Images without poses have no line.
    """
    columns, digits = columns_of(poses), dict.fromkeys(BOX, 2) | {"score": 4, "box_score": 4}
    first = [name for name in _FIRST if name in columns]
    parts = [f"{name}_{part}" for name in poses.schema.keypoints for part in ("x", "y", "score")]
    rows = [[*first, *parts, *_LAST]]
    for i, points in enumerate(triples_of(poses).reshape(len(poses), -1)):
        cells = {
            name: f"{column[i]:.{digits[name]}f}" if name in digits else column[i]
            for name, column in columns.items()
        }
        numbers = ("" if np.isnan(value) else f"{value:.4f}" for value in points)
        rows.append([*(cells[name] for name in first), *numbers, *(cells[name] for name in _LAST)])
    return write_rows(file, rows)


def from_csv(cls: type[Poses], file: str | Path, schema: KeypointSchema | None = None) -> Poses:
    """Read what `to_csv` writes; other columns do no harm.

    Raises:
        DatasetError: another form; names file and line.
    """
    from posekit.adapters.fields import Place, show, text_number  # noqa: PLC0415 - see columns
    from posekit.adapters.files import read_csv_rows  # noqa: PLC0415

    file = Path(file)
    lines = list(read_csv_rows(file))
    header = lines[0][1] if lines else []
    start = header.index("score") + 1 if {"image", "score"} <= {*header} else len(header)
    # By position and not by name alone: a keypoint may be called 'box' or 'image'.
    names: list[str] = []
    for x, y, score in zip(*(header[start + i :: 3] for i in range(3)), strict=False):
        name = x.removesuffix("_x")
        if (x, y, score) != (f"{name}_x", f"{name}_y", f"{name}_score"):
            break
        names.append(name)
    if not names:
        Place(file).fail(
            f"its first line starts with {show(header[:3])}, expected the columns image, score, "
            "then x, y and score of each keypoint",
        )
    stop = start + 3 * len(names)
    rows, values = [], np.zeros((len(lines) - 1, len(names), 3))
    for i, (line, cells) in enumerate(lines[1:]):
        place = Place(file, f"line {line}")
        if len(cells) != len(header):
            place.fail(f"found {len(cells)} cells, expected {len(header)} as in the header")
        points = [text_number(c, "a keypoint", place) if c else np.nan for c in cells[start:stop]]
        values[i] = np.reshape(points, (-1, 3))
        plain = dict(zip(header[:start] + header[stop:], cells[:start] + cells[stop:], strict=True))
        own: dict[str, Any] = {n: plain[n] for n in (*_FIRST, *_LAST) if n in plain}
        texts = {name: own.pop(name) for name in ("image", "head") if name in own}
        rows.append({n: text_number(cell, n, place) for n, cell in own.items()} | texts)
    return build(cls, (schema, names, file), by_column(rows), values)


def to_pandas(poses: Poses) -> Any:
    """Return a pandas.DataFrame with one line per keypoint; PredictionError without pandas.

    `score` is the keypoint's; the instance's is box_score times their mean. `attrs` keep the
    schema. Images without poses have no line.
    """
    pandas = optional("pandas", "to_pandas")
    n, k = len(poses), len(poses.schema)
    columns = {name: np.repeat(column, k) for name, column in columns_of(poses).items()}
    own = {
        "image": columns.pop("image"),
        "instance": np.repeat(np.arange(n), k),
        "keypoint": np.tile(np.asarray(poses.schema.keypoints, dtype=object), n),
        "x": poses.keypoints[..., 0].reshape(-1),
        "y": poses.keypoints[..., 1].reshape(-1),
        "score": poses.scores.reshape(-1),
    }
    frame = pandas.DataFrame(columns | own)
    frame.attrs["schema"] = poses.schema.to_dict()
    return frame[[*own, *(name for name in columns if name != "score")]]


def from_pandas(cls: type[Poses], frame: Any, schema: KeypointSchema | None = None) -> Poses:
    """Return the poses of a table with one line per keypoint, as `to_pandas` returns it.

    Needed are the columns image, instance, keypoint, x, y and score; a keypoint without a line is
    missing.

    Raises:
        PredictionError: a column is missing, or an instance has a keypoint twice.
    """
    absent = {"image", "instance", "keypoint", "x", "y", "score"} - {*frame}
    if absent or frame.duplicated(["instance", "keypoint"]).any():
        raise PredictionError(
            f"a table with the columns {', '.join(map(str, frame))} cannot become poses: expected "
            "one line for each keypoint of an instance, as Poses.to_pandas returns it, found "
            + (f"no {', '.join(sorted(absent))}" if absent else "two lines of one keypoint")
        )
    if schema is None and "schema" in frame.attrs:
        schema = KeypointSchema.from_dict(frame.attrs["schema"])
    names = list(dict.fromkeys(map(str, frame["keypoint"])))
    if schema is not None:
        place = {name: schema.index(name, "the table") for name in names}
        names = list(schema.keypoints)
    else:
        place = {name: k for k, name in enumerate(names)}
    _, first, row = np.unique(frame["instance"], return_index=True, return_inverse=True)
    values = np.full((len(first), len(names), 3), np.nan)
    values[row, frame["keypoint"].astype(str).map(place)] = frame[["x", "y", "score"]]
    columns = {n: frame[n].to_numpy()[first] for n in (*_FIRST[:-1], *_LAST) if n in frame}
    return build(cls, (schema, names, "the table"), columns, values)


def to_supervision(poses: Poses, *, detections: bool = False) -> Any:
    """Return supervision's KeyPoints of all instances, or its Detections with the poses' boxes.

    `data` holds, for each instance, class_name, keypoint_names, image, track_id, box, scores, image
    size and head; of Detections also keypoints and keypoint_confidence. A missing keypoint is
    (0, 0) with confidence 0, as supervision has it.

    Raises:
        PredictionError: supervision is not installed.
    """
    supervision = optional("supervision", "to_supervision")
    n, values = len(poses), np.nan_to_num(triples_of(poses)).astype(np.float32)
    scores, classes = poses.instance_scores.astype(np.float32), np.zeros(n, dtype=int)
    data = columns_of(poses) | {
        "class_name": np.full(n, poses.schema.name),
        "keypoint_names": np.tile(np.asarray(poses.schema.keypoints), (n, 1)),
    }
    if detections:
        data |= {"keypoints": values[..., :2], "keypoint_confidence": values[..., 2]}
        corners = poses.box_xywh + np.pad(poses.box_xywh[:, :2], ((0, 0), (2, 0)))
        tracks = poses.track_id
        return supervision.Detections(corners, None, scores, classes, tracks, data=data)
    fields: dict[str, Any] = {"confidence": values[..., 2]}
    if "keypoint_confidence" in inspect.signature(supervision.KeyPoints).parameters:  # from 0.29 on
        fields = {"keypoint_confidence": values[..., 2], "detection_confidence": scores}
    return supervision.KeyPoints(xy=values[..., :2], class_id=classes, data=data, **fields)


def from_supervision(cls: type[Poses], found: Any, schema: KeypointSchema | None = None) -> Poses:
    """Return the poses of supervision's KeyPoints, or of Detections as `to_supervision` makes them.

    What other programs leave out of `data` is filled in: one image "image 0", boxes around the
    points, scores of 1; without keypoint_names there, `schema` is needed.

    Raises:
        PredictionError: there are no keypoints, or nothing names them.
    """
    data = {"image": ["image 0"] * len(found), **(found.data or {})}
    points = getattr(found, "xy", data.get("keypoints"))
    scores = data.get("keypoint_confidence")
    if hasattr(found, "xy"):
        new = hasattr(found, "keypoint_confidence")  # from 0.29 on
        scores = found.keypoint_confidence if new else found.confidence
    else:
        sides = np.asarray(found.xyxy - np.pad(found.xyxy[:, :2], ((0, 0), (2, 0))), np.float64)
        data |= dict(zip(BOX, sides.T, strict=True))
        data |= {} if found.tracker_id is None else {"track_id": found.tracker_id}
    names = data.get("keypoint_names", ())
    names = list(map(str, names[0])) if len(names) else list(schema.keypoints if schema else ())
    if points is None or points.shape[1] != len(names):
        raise PredictionError(
            f"these {type(found).__name__} cannot become poses: expected keypoints and their names "
            "in data, as Poses.to_supervision returns them, or KeyPoints and the schema that names "
            "them, Poses.from_supervision(found, schema)"
        )
    scores = np.ones(points.shape[:2]) if scores is None else scores
    values = np.dstack([points, scores]).astype(np.float64)
    values[(values == 0).all(axis=2)] = np.nan  # its only sign of a keypoint that was not found
    return build(cls, (schema, names, type(found).__name__), data, values)
