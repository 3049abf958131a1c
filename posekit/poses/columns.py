"""The table that poses have in common with other projects' forms.

Columns with a value for each instance stand beside an array (N, K, 3) of x, y and score. A missing
keypoint is NaN with score 0 in Poses, and in each form whatever it has for it.
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.errors import ConfigError, PredictionError
from posekit.output import atomic_file
from posekit.schema import KeypointSchema, flip_pairs_from_names

if TYPE_CHECKING:
    from posekit.adapters.fields import Place
    from posekit.poses.table import Poses

BOX = ("box_x", "box_y", "box_w", "box_h")
SIZE = ("image_height", "image_width")
_SNAKE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def columns_of(poses: Poses) -> dict[str, np.ndarray]:
    """Return what a table says of each instance beside its keypoints."""
    sizes = np.asarray(poses.image_sizes, dtype=np.int64).reshape(-1, 2)[poses.image_index]
    return {
        "image": np.asarray(poses.image_names, dtype=object)[poses.image_index],
        **({} if poses.track_id is None else {"track_id": poses.track_id}),
        **dict(zip(BOX, poses.box_xywh.T, strict=True)),
        "score": poses.instance_scores,
        "box_score": poses.box_scores,
        **dict(zip(SIZE, sizes.T, strict=True)),
        "head": np.full(len(poses), poses.head, dtype=object),
    }


def build(
    cls: type[Poses],
    about: tuple[Any, ...],
    columns: Mapping[str, Any],
    values: Any,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
) -> Poses:
    """Return poses from a table; whatever columns it lacks is filled in.

    Args:
        cls: Poses.
        about: wanted schema or None, the K names found, where, then perhaps the name and the
            links of a schema made of them.
        columns: those of `columns_of`, or some of them, and image at least.
        values: (N, K, 3), x, y, score; NaN where missing.
        sizes: (height, width) of all images, also of those without poses; else as the columns say.
    """
    schema, order = _fit(*about)
    values = np.array(values, dtype=np.float64).reshape(-1, len(order), 3)[:, order]
    values[~np.isfinite(values[..., :2]).all(axis=2)] = np.nan
    points, scores = values[..., :2], np.nan_to_num(values[..., 2])
    n, images = len(values), [str(name) for name in columns.get("image", ())]
    if sizes is None:
        sides = (np.asarray(columns.get(side, [0] * n)).astype(int).tolist() for side in SIZE)
        sizes = dict(zip(images, zip(*sides, strict=True), strict=True))
    number = {name: i for i, name in enumerate(sizes)}
    boxes = np.stack([np.broadcast_to(columns.get(side, np.nan), n) for side in BOX], axis=1)
    boxes = np.where(np.isnan(boxes).any(axis=1, keepdims=True), _extents(points), boxes)
    mean = scores.mean(axis=1)
    ratio = np.asarray(columns.get("score", mean), np.float64) / np.where(mean > 0, mean, np.nan)
    track, heads = columns.get("track_id"), columns.get("head", ())
    return cls(
        head=str(heads[0]) if len(heads) else schema.name,
        schema=schema,
        keypoints=points,
        scores=scores.astype(np.float32),
        box_xywh=boxes.astype(np.float64),
        box_scores=np.asarray(columns.get("box_score", np.nan_to_num(ratio, nan=1.0)), np.float64),
        image_index=np.array([number[name] for name in images], dtype=np.int64),
        image_names=tuple(sizes),
        image_sizes=tuple((height, width) for height, width in sizes.values()),
        track_id=None if track is None else np.asarray(track).astype(np.int64),
    )


def _fit(
    schema: KeypointSchema | None,
    names: Sequence[Any],
    file: str | Path,
    label: str = "",
    links: Sequence[tuple[str, str]] = (),
) -> tuple[KeypointSchema, list[int]]:
    """Return the schema, or one of the names found, and where among these its keypoints are."""
    # Not above: an exported model's runtime knows poses, but has no pydantic, which adapters need.
    from posekit.adapters.fields import Place  # noqa: PLC0415
    from posekit.adapters.names import lower_snake, match_names  # noqa: PLC0415

    place = Place(Path(file))
    if schema is not None:
        return schema, match_names(names, schema, place)
    try:
        plain = {name: name if _SNAKE.fullmatch(name) else lower_snake(name) for name in names}
        keypoints, skeleton = tuple(plain.values()), tuple((plain[a], plain[b]) for a, b in links)
        pairs = flip_pairs_from_names(keypoints)
        made = KeypointSchema(label or place.file.stem, keypoints, pairs, skeleton)
    except (ConfigError, TypeError) as error:
        place.fail(f"its keypoints make no schema ({error})", "pass the schema that they should be")
    return made, list(range(len(names)))


@contextmanager
def expecting(place: Place, form: str) -> Iterator[None]:
    """Turn the errors of reading another form into one that names place and form."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        place.fail(f"not {form} ({reason})")


def by_column(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows of one kind as columns, without those where a row has no value or None."""
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    return {name: values for name, values in columns.items() if None not in values}


def triples_of(poses: Poses) -> np.ndarray:
    """float64 (N, K, 3): x, y, score."""
    return np.concatenate([poses.keypoints, poses.scores[..., None]], axis=2)


def _extents(points: np.ndarray) -> np.ndarray:
    """Return the boxes (N, 4) around points (N, K, 2); of none, a box of no size at 0."""
    found = np.isfinite(points)
    low = np.where(found, points, np.inf).min(axis=1)
    high = np.where(found, points, -np.inf).max(axis=1)
    boxes = np.concatenate([low, high - low], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


def optional(package: str, method: str, install: str | None = None) -> ModuleType:
    """Import a package; PredictionError names the method that needs it and how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise PredictionError(
            f"{method} needs the package '{package}', which is not installed; "
            f"install it with: pip install {install or package}"
        ) from None


def write_rows(file: str | Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Write a CSV file."""
    with (
        atomic_file(file, sync=False, error=PredictionError) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        csv.writer(stream).writerows(rows)
    return Path(file)
